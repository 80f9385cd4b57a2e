"""A worker's calls: whose they are, and how they are let go of and ended."""

import asyncio
from types import SimpleNamespace

import pytest

from bridge import calls as calls_module
from bridge.calls import Calls
from bridge.errors import PbxUnreachable, StoreUnreachable
from bridge.tools import Outcome


class Call:
    """Lasts until it is ended or let go."""

    fault = None
    number = 0

    def __init__(self, leg, media, store, mind, worker, memory, ears):
        self.id, self.worker, self.memory = leg.incoming.call_id, worker, memory
        self.did, self.over = [], asyncio.Event()

    async def run(self):
        await self.over.wait()
        if self.fault:
            raise self.fault

    def let_go(self):
        self.did.append("let go")
        self.over.set()

    def end(self, outcome):
        self.did.append(outcome.result)
        if outcome.reason != "stubborn":
            self.over.set()

    def note(self):
        self.did.append("note")


class Leases:
    name = "me"

    def __init__(self):
        self.of, self.sure_asked = {}, 0

    async def sure(self):
        self.sure_asked += 1

    async def owners(self, call_ids):
        if self.of is None:
            raise StoreUnreachable("no answer")
        return {c: o for c, o in self.of.items() if c in call_ids}


@pytest.fixture
def calls(monkeypatch):
    monkeypatch.setattr(calls_module, "Call", Call)
    return Calls(Leases(), None, None, None)


def begin(calls, *call_ids):
    for call_id in call_ids:
        calls.begin(SimpleNamespace(incoming=SimpleNamespace(call_id=call_id)), None)
    return [calls._calls[call_id][0] for call_id in call_ids]


async def gone(calls, *call_ids):
    while any(call_id in calls for call_id in call_ids):
        await asyncio.sleep(0)


async def test_what_is_anothers_is_let_go_of_and_nothing_else(calls):
    ours, taken, unknown = begin(calls, "c1", "c2", "c3")
    calls._leases.of = {"c1": "me", "c2": "other"}
    await calls.make_sure()
    await gone(calls, "c2")
    assert (ours.did, taken.did, unknown.did) == ([], ["let go"], [])
    assert len(calls) == 2
    calls.lost("c2")  # told twice
    assert taken.did == ["let go"]
    calls.let_go()
    await gone(calls, "c1", "c3")


async def test_without_redis_owners_keep_their_calls(calls):
    calls._leases.of = None
    (call,) = begin(calls, "c1")
    assert await calls.mine("c1")
    with pytest.raises(StoreUnreachable):
        await calls.make_sure()
    assert call.did == []
    assert calls._leases.sure_asked == 1, "who was held up finds out first"
    calls.let_go()
    await gone(calls, "c1")


async def test_what_nobody_is_said_to_own_is_ours(calls):
    calls._leases.of = {"c2": "other"}
    assert await calls.mine("c1")
    assert not await calls.mine("c2")


async def test_a_call_that_begins_anew_is_not_ended_by_its_former_self(calls):
    (former,) = begin(calls, "c1")
    (later,) = begin(calls, "c1")
    former.over.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert calls._calls["c1"][0] is later
    later.over.set()
    await gone(calls, "c1")


async def test_what_can_not_be_given_back_is_said_and_harms_no_other(calls, caplog):
    first, _ = begin(calls, "c1", "c2")
    first.fault = PbxUnreachable("Asterisk is away")
    first.over.set()
    await gone(calls, "c1")
    assert "Asterisk is away" in caplog.text
    assert "c2" in calls
    await calls.end(Outcome("shutdown"), 5)
    assert len(calls) == 0


async def test_a_call_that_does_not_end_is_named(calls, caplog):
    call, _ = begin(calls, "c1", "c2")
    calls._calls["c2"][0].over.set()
    await gone(calls, "c2")
    await calls.end(Outcome("shutdown", "stubborn"), 0)
    assert "call c1 did not end within 0 s" in caplog.text
    calls.note()
    assert call.did == ["shutdown", "note"]
    call.over.set()
    await calls.wait(5)
    assert len(calls) == 0
