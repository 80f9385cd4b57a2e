"""Orders to a worker: whom it may call, and what it does with its calls."""

import pytest

from bridge.errors import ConfigError, PbxGone, PbxRefused, StoreUnreachable
from bridge.orders import Orders
from bridge.outbound import OutboundSettings

RULES = OutboundSettings(
    enabled=True, destinations=("+49*",), endpoint="PJSIP/{to}@trunk", caller_ids=("+491",)
)


class Pbx:
    def originate(self, incoming):
        return ("leg", incoming)


class Talk:
    def __init__(self):
        self.did = []

    def mute(self, on):
        self.did.append(on)

    def say(self, text):
        self.did.append(text)
        return text != "mute engine"


class Call:
    """One that fails as it is told to."""

    def __init__(self, fail=None):
        self.talk, self.fail, self.did = Talk(), fail, []

    async def _do(self, *what):
        if self.fail is not None:
            raise self.fail
        self.did.append(what)

    async def cancel(self, reason):
        await self._do("cancel", reason)

    async def transfer(self, to):
        await self._do("transfer", to)

    async def spy(self, to):
        await self._do("spy", to)
        return 3, ("127.0.0.1", 9000)

    def renew_spy(self, number):
        self.did.append(("renew_spy", number))


class Calls(dict):
    begun = None

    def begin(self, leg, memory):
        self.begun = leg


class Desk:
    """A worker's orders."""

    def __init__(self, rules=RULES, ready=True, placed=False, calls=()):
        self.calls = Calls(calls)
        self.places = []

        async def place(call_id):
            if isinstance(placed, Exception):
                raise placed
            self.places.append(call_id)
            return not placed

        self.orders = Orders(self.calls, {"": Pbx()}, lambda: rules, place, lambda: ready)

    async def place(self, to="+4930", agent="demo", **more):
        return await self.orders.carry_out("place", "c1", {"to": to, "agent": agent, **more})


async def test_somebody_is_called():
    desk = Desk()
    more = {"caller_id": "+491", "variables": {"order": "17"}, "timeout_s": 9, "machine": "tell"}
    assert await desk.place(**more) == {"call_id": "c1"}
    _, incoming = desk.calls.begun
    assert (incoming.call_id, incoming.args) == ("c1", ("demo", "order=17"))
    out = incoming.outgoing
    assert (out.endpoint, out.caller_id, out.ring_s) == ("PJSIP/+4930@trunk", "+491", 9)
    assert (out.variables, out.machine) == ({"order": "17"}, "tell")


@pytest.mark.parametrize(
    ("more", "desk", "code"),
    [
        ({"to": "+1900"}, {}, "forbidden"),
        ({}, {"rules": OutboundSettings()}, "forbidden"),
        ({"caller_id": "110"}, {}, "forbidden"),
        ({"timeout_s": 1000}, {}, "forbidden"),
        ({"variables": {"SHELL(x)": "1"}}, {}, "forbidden"),
        ({"asterisk": "south"}, {}, "forbidden"),
        ({}, {"ready": False}, "not-ready"),
        ({}, {"placed": True}, "placed"),
        ({}, {"placed": StoreUnreachable("away")}, "store-away"),
    ],
)
async def test_nobody_is_called(more, desk, code):
    desk = Desk(**desk)
    answer = await desk.place(**more)
    assert answer["error"] == code
    assert answer["reason"]
    assert desk.calls.begun is None
    if code in ("forbidden", "not-ready"):
        assert desk.places == []  # another worker may still place it


@pytest.mark.parametrize(
    ("verb", "arguments", "did"),
    [
        ("hang_up", {"reason": "enough"}, ("cancel", "enough")),
        ("transfer", {"to": "200"}, ("transfer", "200")),
        ("listen", {"host": "h", "port": 5}, ("spy", ("h", 5))),
        ("listens", {"number": 3}, ("renew_spy", 3)),
    ],
)
async def test_what_is_done_with_a_call(verb, arguments, did):
    call = Call()
    answer = await Desk(calls={"c1": call}).orders.carry_out(verb, "c1", arguments)
    assert "error" not in answer
    assert call.did == [did]


async def test_mute_and_say():
    call = Call()
    orders = Desk(calls={"c1": call}).orders
    assert await orders.carry_out("mute", "c1", {"on": True}) == {}
    assert await orders.carry_out("say", "c1", {"text": "Hello."}) == {}
    assert call.talk.did == [True, "Hello."]
    answer = await orders.carry_out("say", "c1", {"text": "mute engine"})
    assert answer["error"] == "can-not-say"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (PbxGone("gone"), "ended"),
        (ConfigError("not in the agent's"), "refused"),
        (PbxRefused("no such extension"), "refused"),
        (RuntimeError("secret"), "fault"),
    ],
)
async def test_what_can_not_be_done(fault, code):
    orders = Desk(calls={"c1": Call(fault)}).orders
    answer = await orders.carry_out("hang_up", "c1", {})
    assert answer["error"] == code
    assert "secret" not in answer["reason"]


async def test_a_call_that_is_not_ours():
    answer = await Desk().orders.carry_out("mute", "c1", {"on": True})
    assert answer["error"] == "not-here"
