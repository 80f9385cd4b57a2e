"""What comes of a call of ours, of what Asterisk tells; on a real one in tests/pbx."""

import asyncio
from dataclasses import replace

import pytest

from bridge.errors import PbxGone, PbxNotAnswered, PbxRefused
from bridge.pbx.asterisk import AsteriskPbx, AsteriskSettings
from bridge.pbx.base import HungUp, Incoming, Outgoing
from bridge.pbx.events import (
    Answered,
    Channel,
    Destroyed,
    Ended,
    Failed,
    HangupRequested,
    Started,
    parse,
)

CALL = Incoming(
    *("out-1", ("demo", "order=17"), "+4930", "", "+4930", "", "PCMU"),
    outgoing=Outgoing("PJSIP/+4930@trunk", "+4955", 20, {"order": "17"}),
)
AMD = {"DIALPLAN_EXISTS(ari-bridge-machine,listen,1)": "1", "AMDCAUSE": "because"}


class Ari:
    """Answers as Asterisk does, and writes down what it is asked for."""

    def __init__(self, **fail):
        self.asked, self.fail = [], fail
        self.listened = asyncio.Event()
        self.listened.set()
        self.state, self.context = "Down", "far"
        self.variables = {"CHANNEL(audionativeformat)": "(alaw)"}

    async def call(self, name, /, **parameters):
        self.asked.append((name, parameters))
        short = name.partition(".")[2]
        if short in self.fail:
            raise self.fail[short]
        if short == "get":
            return {"state": self.state, "dialplan": {"context": self.context}}
        if short == "getChannelVar":
            return {"value": self.variables.get(parameters["variable"], "")}
        if short == "getModule":
            return {"status": "Running"}
        return None

    def names(self):
        return [name.partition(".")[2] for name, _ in self.asked]


class Ringing:
    """A call of ours that rings."""

    def __init__(self, incoming=CALL, **fail):
        self.ari = Ari(**fail)
        self.pbx = AsteriskPbx(AsteriskSettings(media_timeout_s=5), worker="w")
        self.pbx._ari = self.ari
        self.leg = self.pbx.originate(incoming)
        self.dialing = asyncio.create_task(self.leg.dial())

    async def begins(self):
        await settle()
        self.tell(Started(channel(), ("demo",), self.pbx.app))
        await settle()
        return self

    def tell(self, *events):
        for event in events:
            self.pbx._sort(event)


def channel():
    return Channel("out-1", "PJSIP/trunk-1", "", "", "", "", "Stasis", "")


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_he_answers():
    call = await Ringing().begins()
    (_, made), (_, rung) = (a for a in call.ari.asked if a[0].endswith((".create", ".dial")))
    assert made["endpoint"] == "PJSIP/+4930@trunk"
    assert made["app"] == "ari-bridge-w"
    assert made["variables"] == {
        "order": "17",
        "TIMEOUT(absolute)": "7200",
        "CALLERID(num)": "+4955",
        "CONNECTEDLINE(num,i)": "+4955",
        "CONNECTEDLINE(pres)": "allowed",
    }
    assert rung["timeout"] == 20
    assert call.leg.ringing
    call.tell(Answered("out-1"))
    await call.dialing
    assert not call.leg.ringing
    assert call.leg.incoming.codec == "PCMA"


@pytest.mark.parametrize(
    ("event", "result"),
    [
        (Failed("out-1", 17), "busy"),
        (Failed("out-1", 34), "congestion"),
        (Failed("out-1", 20), "unavailable"),
        (Destroyed("out-1", 19), "no-answer"),
        (Destroyed("out-1", 1), "unavailable"),
        (Destroyed("out-1", 17), "busy"),
        (Destroyed("out-1"), "unavailable"),
    ],
)
async def test_he_does_not(event, result):
    call = await Ringing().begins()
    call.tell(event)
    with pytest.raises(PbxNotAnswered) as told:
        await call.dialing
    assert told.value.result == result
    assert str(told.value)


async def test_the_end_of_the_channel_waits_for_its_cause():
    call = await Ringing().begins()
    call.tell(HangupRequested("out-1"), Ended("out-1", call.pbx.app))
    await settle()
    assert not call.dialing.done()
    call.tell(Destroyed("out-1", 17))
    with pytest.raises(PbxNotAnswered) as told:
        await call.dialing
    assert told.value.result == "busy"
    assert call.leg.events.get_nowait() == HungUp("hangup")


async def test_an_endpoint_that_there_is_not():
    call = Ringing(create=PbxRefused("Asterisk answers 500 Allocation failed"))
    with pytest.raises(PbxNotAnswered, match="is it registered") as told:
        await call.dialing
    assert told.value.result == "unavailable"


async def test_who_had_answered_when_he_was_taken_over_is_not_made_again():
    call = Ringing()
    call.dialing.cancel()
    call.ari.state = "Up"
    call.leg._dialing.state = "made"
    call.leg.where.entered(call.pbx.app)
    await call.leg.dial()
    assert "create" not in call.ari.names()


async def test_nothing_is_left_of_one_that_is_given_up():
    call = await Ringing().begins()
    call.dialing.cancel()
    await call.leg.release()
    assert ("channels.hangup", {"channelId": "out-1", "ok": (404,)}) in call.ari.asked


async def test_one_that_was_never_made_is_not_hung_up():
    call = Ringing()
    call.dialing.cancel()
    await settle()
    await call.leg.release()
    assert call.ari.asked == []


async def test_another_worker_owns_it_now():
    call = await Ringing().begins()
    call.leg.forget()
    with pytest.raises(PbxGone):
        await call.dialing


@pytest.mark.parametrize(
    ("status", "found"), [("MACHINE", "yes"), ("HUMAN", "no"), ("NOTSURE", "unsure")]
)
async def test_a_machine_is_told_to_the_agent(status, found):
    call = await listening("tell", status)
    call.tell(Started(channel(), ("resume",), call.pbx.app))
    await call.dialing
    assert call.leg.incoming.variables["machine"] == found


async def test_a_machine_is_hung_up_on():
    call = await listening("hang-up", "MACHINE")
    call.tell(Started(channel(), ("resume",), call.pbx.app))
    with pytest.raises(PbxNotAnswered, match="because") as told:
        await call.dialing
    assert told.value.result == "machine"


async def test_a_human_who_hangs_up_on_amd():
    call = await listening("tell", "HANGUP")
    call.tell(Destroyed("out-1", 16))
    with pytest.raises(PbxGone):
        await call.dialing


# Its worker dies meanwhile ------------------------------------------------------------------------


async def taken_over(what="tell", context="ari-bridge-machine", **variables):
    """A call that can't be moved: another worker's, and in the dialplan."""
    call = Ringing(with_machine(what), move=PbxGone("409 Channel not in Stasis application"))
    call.dialing.cancel()
    call.ari.variables |= {**AMD, **variables}
    call.ari.state, call.ari.context = "Up", context
    call.leg = await call.pbx.adopt(with_machine(what), {}, near=False)
    call.dialing = asyncio.create_task(call.leg.dial())
    await settle()
    return call


async def test_what_amd_finds_is_told_to_the_next_worker():
    call = await taken_over()
    asked = {n.partition(".")[2]: p for n, p in call.ari.asked}
    assert asked["subscribe"]["eventSource"] == ["channel:out-1"]
    assert not call.dialing.done()
    call.ari.variables["AMDSTATUS"] = "HUMAN"
    call.tell(Started(channel(), ("resume",), call.pbx.app))
    await call.dialing
    assert call.leg.incoming.variables["machine"] == "no"
    assert not {"create", "continueInDialplan"} & set(call.ari.names()), "it listens once"


async def test_who_hangs_up_on_amd_while_his_worker_is_dead():
    call = await taken_over()
    call.tell(Destroyed("out-1", 16))
    with pytest.raises(PbxGone):
        await call.dialing


async def test_a_call_that_is_nowhere_is_gone():
    with pytest.raises(PbxGone):
        await taken_over(context="far")


async def test_amd_listens_anew_where_its_worker_died_before_it_could():
    call = Ringing(with_machine("tell"))
    call.dialing.cancel()
    call.ari.variables |= AMD
    call.ari.state = "Up"
    adopting = asyncio.create_task(call.pbx.adopt(with_machine("tell"), {}, near=False))
    await settle()
    call.tell(Started(channel(), ("resume",), call.pbx.app))
    dialing = asyncio.create_task((await adopting).dial())
    await settle()
    assert call.ari.names()[-1] == "continueInDialplan"
    call.tell(Ended("out-1", call.pbx.app), Started(channel(), ("resume",), call.pbx.app))
    await dialing


async def test_who_can_not_tell_a_machine_does_not_ring():
    call = Ringing(with_machine("tell"), getModule=PbxRefused("no"))
    with pytest.raises(PbxRefused):
        await call.dialing
    assert "create" not in call.ari.names()


def with_machine(what):
    return replace(CALL, outgoing=replace(CALL.outgoing, machine=what))


async def listening(what, status):
    """A call that was answered, and is in the dialplan."""
    call = Ringing(with_machine(what))
    call.ari.variables |= {**AMD, "AMDSTATUS": status}
    await call.begins()
    call.tell(Answered("out-1"))
    await settle()
    assert call.ari.names()[-1] == "continueInDialplan"
    call.tell(Ended("out-1", call.pbx.app))
    await settle()
    assert not call.dialing.done()
    return call


def test_what_dial_tells():
    def dial(status):
        return parse(f'{{"type": "Dial", "peer": {{"id": "p"}}, "dialstatus": "{status}"}}')

    assert dial("ANSWER") == Answered("p")
    assert dial("BUSY") == Failed("p", 17)
    assert dial("RINGING") is dial("") is None
