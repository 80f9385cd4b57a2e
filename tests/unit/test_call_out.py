"""A call of ours, with parts that do what they are told; and what somebody does who looks on."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from bridge.dialog.turns import NoInput
from bridge.engines import base as engines
from bridge.errors import ConfigError, PbxGone, PbxNotAnswered, PbxRefused
from bridge.pbx.base import HungUp, Outgoing
from bridge.sessions.progress import Progress
from tests.unit.test_call import RATE, Leg, Talk

OUT = Outgoing("PJSIP/1@trunk", "+4955", 20)


class Ringing(Leg):
    """Somebody whom we call; he answers when the test says so."""

    def __init__(self, fail=None):
        super().__init__(fail)
        self.incoming = replace(self.incoming, outgoing=OUT)
        self.answers = asyncio.get_running_loop().create_future()

    async def dial(self):
        self._step("dial")
        await self.answers


class Calling(Talk):
    """A call of ours that rings."""

    async def __aenter__(self):
        await self.settle()
        return self

    async def __aexit__(self, *_):
        if not self.leg.answers.done():
            self.leg.answers.set_result(None)
        await super().__aexit__()


@pytest.fixture(autouse=True)
def outgoing(monkeypatch, request):
    if "Calling" in request.function.__code__.co_names:
        monkeypatch.setattr("tests.unit.test_call.Leg", Ringing)


async def test_nothing_is_made_before_he_answers():
    async with Calling() as talk:
        assert talk.leg.names() == ["dial"]
        record = talk.store.record
        assert (record["direction"], record["state"]) == ("out", "ringing")
        assert record["caller_id"] == "+4955"
        talk.leg.answers.set_result(None)
        while talk.slot.on_frames is None:
            await asyncio.sleep(0)
        assert talk.leg.names() == ["dial", "open_media", "answer", "join"]
        assert record["state"] == "talking"


@pytest.mark.parametrize("result", ["busy", "no-answer", "congestion", "unavailable", "machine"])
async def test_he_does_not_answer(result):
    async with Calling() as talk:
        talk.leg.events.put_nowait(HungUp("left"))  # `dial` tells why
        await talk.settle()
        assert not talk.task.done()
        talk.leg.answers.set_exception(PbxNotAnswered(result, "because"))
        outcome = await talk.end()
        assert (outcome.result, outcome.reason) == (result, "because")
        assert "open_media" not in talk.leg.names()


async def test_another_worker_takes_it_while_it_rings():
    async with Calling() as talk:
        talk.leg.answers.set_exception(PbxGone("another worker owns the call"))
        assert (await talk.end()).gone


async def test_it_is_given_up():
    async with Calling() as talk:
        await talk.call.cancel("enough")
        assert (await talk.end()).result == "cancelled"


async def test_nobody_is_called_for_whom_there_is_no_slot():
    talk = Calling()
    talk.media.full = True
    async with talk:
        assert (await talk.end()).result == "failed"
        assert talk.leg.names() == ["leave", "release"]


async def test_nobody_is_called_whom_nobody_would_remember():
    async with Calling() as talk:
        talk.leg.answers.set_result(None)
    talk = Calling.__new__(Calling)
    talk.__init__()
    talk.store.owned = False
    async with talk:
        assert (await talk.end()).result == "failed"
        assert "dial" not in talk.leg.names()


# Somebody looks after the call --------------------------------------------------------------------


async def test_an_incoming_call_is_ended():
    async with Talk() as talk:
        await talk.call.cancel("enough")
        outcome = await talk.end()
        assert (outcome.result, outcome.reason) == ("cancelled", "enough")
        assert "hang_up" in talk.leg.names()
        assert "leave" not in talk.leg.names()


async def test_a_caller_is_handed_over():
    async with Talk() as talk:
        with pytest.raises(ConfigError, match=r"not in the agent's \[transfer\]"):
            await talk.call.transfer("666")
        await talk.call.transfer("200")
        assert (await talk.end()).result == "transferred"
        assert ("ring", "200", "from-ari-bridge") in talk.leg.did
        assert "connect" in talk.leg.names()


async def test_whoever_orders_a_transfer_is_told_at_once_why_it_can_not_be():
    async with Talk(fail={"ring": PbxRefused("busy")}) as talk:
        with pytest.raises(PbxRefused, match="200: busy"):
            await talk.call.transfer("200")
        assert "take_back" in talk.leg.names()
        assert not talk.task.done()


async def test_a_muted_agent_is_not_heard_but_listens():
    async with Talk() as talk:
        item = talk.engine.say("Hello, this is a long sentence.", 1000)
        talk.slot.deliver(False, 10)
        talk.call.talk.mute(True)
        talk.slot.deliver(False, 2)
        (heard,) = [e for e in talk.engine.told if isinstance(e, engines.Heard)]
        assert (heard.item, heard.cut) == (item, True)
        talk.engine.say("Nobody hears this.", 500)
        assert talk.slot.queue == []
        talk.engine.context.emit(engines.Mark("m"))
        before = talk.engine.heard_ms
        talk.slot.deliver(True, 100)
        assert talk.slot.queue == []
        assert talk.engine.heard_ms == before + 2000
        assert engines.Marked("m", False) in talk.engine.told
        talk.call.note()
        assert Progress.from_text(talk.store.record["progress"]).muted
        talk.call.talk.mute(False)
        talk.engine.say("But this.", 500)
        assert len(talk.slot.queue) > 0
        events = [text for role, text in talk.store.lines if role == "event"]
        assert [e for e in events if "muted" in e] == ["agent muted", "agent unmuted"]


async def test_a_muted_agent_ends_no_call_for_silence():
    async with Talk() as talk:
        talk.call.talk.mute(True)
        talk.slot.deliver(False, 4000)
        assert not [e for e in talk.engine.told if isinstance(e, NoInput)]


async def test_the_agent_says_what_it_is_told():
    async with Talk() as talk:
        assert not talk.call.talk.say("Hello.")  # this engine can't
        talk.engine.speaks = True
        talk.engine.say("A long sentence that is dropped now.", 1000)
        talk.slot.deliver(False, 10)
        assert talk.call.talk.say("One moment, please.")
        assert talk.engine.told[-1] == engines.Speak("One moment, please.")
        talk.slot.deliver(False, 2)
        assert talk.slot.queue == []
        item = talk.engine.context.new_item()
        talk.engine.context.emit(engines.Text(item, "One moment, please."))
        talk.engine.context.emit(engines.Audio(item, np.ones(RATE // 2, np.int16)))
        assert set(talk.slot.queue) == {item}
        talk.call.talk.mute(True)
        with pytest.raises(ConfigError, match="unmute"):
            talk.call.talk.say("Hello.")
