"""The desk: which worker gets an order, and what a caller of the API is told."""

import asyncio
import json

import pytest

from bridge.config import Config
from bridge.outbound import OutboundSettings
from bridge.sessions.base import Member
from bridge.sessions.model import Record
from bridge.sessions.orders import NotAnswered, NotTaken
from bridge.sessions.outbound import Reserved
from bridge.web import desk as module
from bridge.web.desk import Desk
from bridge.web.errors import Refused
from bridge.web.parts import Parts
from bridge.web.shapes import CallOrder
from tests.unit.web.conftest import Sessions

RULES = OutboundSettings(enabled=True, destinations=("+49*",), endpoint="PJSIP/{to}@trunk")


class Book:
    """Lets everybody in, unless it is told otherwise."""

    def __init__(self):
        self.known, self.given_up, self.refuse = {}, [], None

    async def reserve(self, call_id, key, fingerprint, max_calls, max_per_minute):
        if self.refuse:
            return self.refuse
        if key and key in self.known:
            return Reserved("known", *self.known[key])
        self.known[key] = (call_id, fingerprint)
        return Reserved("reserved", call_id, fingerprint)

    async def give_up(self, call_id, key):
        self.given_up.append(call_id)
        self.known.pop(key, None)


class Office:
    """A desk, with workers that answer as the test says."""

    def __init__(self, folder, monkeypatch):
        (folder / "demo.toml").write_text('engine = "echo"\n')
        config = Config(outbound=RULES, agents=type(Config().agents)(folder=str(folder)))
        self.sessions, self.orders, self.answers = Sessions(), [], {}
        self.sessions.ask = self._ask
        self.sessions.workers = {
            name: Member(name, True, 1.0, load, True, place="here")
            for name, load in (("busy", 5), ("idle", 0))
        }
        self.desk = Desk(Parts(config, self.sessions))
        self.book = self.desk._book = Book()
        monkeypatch.setattr(module, "give", self._give)
        monkeypatch.setattr(module, "WITHIN_S", 0.5)
        monkeypatch.setattr(module, "_AGAIN_S", 0.0)

    async def _ask(self, question):
        return await question

    async def _give(self, server, worker, order, within_s, still=None):
        self.orders.append((worker, order.verb, order.call_id, dict(order.arguments)))
        answer = self.answers.get(worker, {})
        if isinstance(answer, Exception):
            raise answer
        if order.verb == "place" and "error" not in answer:
            self.sessions.add(Record(order.call_id, worker=worker, state="setup"))
        return answer

    async def place(self, key="", **more):
        return await self.desk.place(CallOrder(**{"to": "+49 30", "agent": "demo", **more}), key)


@pytest.fixture
def office(tmp_path, monkeypatch):
    return Office(tmp_path, monkeypatch)


async def refusal(work):
    with pytest.raises(Refused) as told:
        await work
    return told.value.status, told.value.code


async def test_the_least_loaded_worker_calls(office):
    record, new = await office.place(variables={"a": "1"})
    assert new
    ((worker, verb, call_id, arguments),) = office.orders
    assert (worker, verb, call_id) == ("idle", "place", record.call_id)
    assert arguments["to"] == "+4930"
    assert json.dumps(arguments)


async def test_a_worker_that_does_not_take_it_is_passed_over(office):
    office.answers["idle"] = NotTaken()
    record, _ = await office.place()
    assert [worker for worker, *_ in office.orders] == ["idle", "busy"]
    assert record.worker == "busy"


async def test_what_may_ring_is_not_given_to_another(office):
    office.answers["idle"] = NotAnswered()
    assert await refusal(office.place("k")) == (504, "unknown")
    assert [worker for worker, *_ in office.orders] == ["idle"]
    assert office.book.given_up == []  # the same key asks after the same call


async def test_the_same_key_is_the_same_call(office):
    first, new = await office.place("k")
    again, newer = await office.place("k")
    assert (again.call_id, new, newer) == (first.call_id, True, False)
    assert len(office.orders) == 1
    assert await refusal(office.place("k", to="+4931")) == (409, "key-used")


async def test_a_call_that_was_asked_for_and_never_placed_is_placed_by_the_next_request(office):
    office.answers["idle"] = office.answers["busy"] = NotAnswered()
    await refusal(office.place("k"))
    office.answers.clear()
    (call_id, _) = office.book.known["k"]
    record, _ = await office.place("k")
    assert record.call_id == call_id


async def test_what_was_placed_before_is_waited_for(office):
    office.answers["idle"] = {"error": "placed", "reason": "x"}

    async def soon():
        await asyncio.sleep(0.02)
        (_, _, call_id, _) = office.orders[0]
        office.sessions.add(Record(call_id, state="ringing"))

    placing = asyncio.create_task(soon())
    record, _ = await office.place("k")
    await placing
    assert record.state == "ringing"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"to": "+1900"}, (403, "forbidden")),
        ({"agent": "nobody"}, (400, "bad-request")),
        ({"agent": "../demo"}, (400, "bad-request")),
        ({"asterisk": "south"}, (400, "bad-request")),
        ({"caller_id": "110"}, (403, "forbidden")),
    ],
)
async def test_what_is_refused_counts_for_nothing(office, more, told):
    assert await refusal(office.place(**more)) == told
    assert office.book.known == {}
    assert office.orders == []


@pytest.mark.parametrize(
    ("reserved", "told"),
    [
        (Reserved("calls"), (429, "too-many-calls")),
        (Reserved("rate", wait_s=9), (429, "too-fast")),
    ],
)
async def test_caps(office, reserved, told):
    office.book.refuse = reserved
    assert await refusal(office.place()) == told
    assert office.orders == []


async def test_nobody_can_call(office):
    office.sessions.workers = {}
    assert await refusal(office.place("k")) == (503, "no-worker")
    assert len(office.book.given_up) == 1


async def test_an_order_goes_to_whoever_owns_the_call_by_then(office):
    office.sessions.add(Record("c1", worker="dead", state="talking"))
    office.answers["dead"] = NotTaken()
    asking = asyncio.create_task(office.desk.ask("c1", "mute", on=True))
    while not office.orders and not asking.done():
        await asyncio.sleep(0)
    office.sessions.add(Record("c1", worker="idle", state="talking"))
    assert await asking == {}
    assert office.orders[-1] == ("idle", "mute", "c1", {"on": True})


async def test_what_can_not_be_asked(office):
    assert await refusal(office.desk.ask("c1", "mute", on=True)) == (404, "not-found")
    office.sessions.add(Record("c1", worker="idle", state="ended", result="done"))
    assert await refusal(office.desk.ask("c1", "mute", on=True)) == (409, "ended")
    office.sessions.add(Record("c1", worker="idle", state="talking"))
    office.answers["idle"] = {"error": "refused", "reason": "no such extension"}
    assert await refusal(office.desk.ask("c1", "transfer", to="9")) == (409, "refused")
    office.answers["idle"] = NotTaken()
    assert await refusal(office.desk.ask("c1", "mute", on=True)) == (503, "no-worker")
