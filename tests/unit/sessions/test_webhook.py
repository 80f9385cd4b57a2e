"""Which call records a worker sends, and when: against a stream that is a table."""

from __future__ import annotations

import asyncio

import pytest

from bridge.errors import StoreUnreachable
from bridge.sessions import webhook
from bridge.sessions.model import Record
from bridge.sessions.settings import HistorySettings
from bridge.sessions.webhook import Webhook


class Stream:
    """Redis' part: XREADGROUP, XPENDING (IDLE, COUNT, exclusive ranges), XCLAIM, XACK."""

    def __init__(self):
        self.new, self.waiting = [], {}

    async def xreadgroup(self, group, worker, streams, count):
        taken, self.new = self.new[:count], self.new[count:]
        self.waiting |= {n: [1, 0] for n in taken}
        return [["stream", [(key(n), {"call_id": str(n)}) for n in taken]]]

    async def xpending_range(self, name, group, *, count, idle=0, **span):
        begin = span["min"]
        first = 0 if begin == "-" else number(begin.removeprefix("(")) + begin.startswith("(")
        found = [n for n in sorted(self.waiting) if n >= first and self.waiting[n][1] >= idle]
        names = ("times_delivered", "time_since_delivered")
        told = [
            {"message_id": key(n), **dict(zip(names, self.waiting[n], strict=True))} for n in found
        ]
        return told[:count]

    async def xclaim(self, name, group, worker, idle, ids):
        taken = [n for n in map(number, ids) if self.waiting[n][1] >= idle]
        for n in taken:
            self.waiting[n] = [self.waiting[n][0] + 1, 0]
        return [(key(n), {"call_id": str(n)}) for n in taken]

    async def xack(self, name, group, entry):
        del self.waiting[number(entry)]

    async def xdel(self, name, entry):
        pass


def key(n):
    return f"9999999999999-{n}"


def number(entry):
    return int(entry.partition("-")[2])


class Reader:
    def __init__(self):
        self.server, self.failure = Stream(), None

    async def ask(self, question):
        return await question

    async def load(self, call_id):
        if self.failure is not None:
            raise self.failure
        return Record(call_id, state="ended", started=1.0, ended=2.0)

    async def transcript(self, call_id):
        return []


@pytest.fixture
def reader():
    return Reader()


class Service(Webhook):
    """Notes what would be sent instead of sending it."""

    def __init__(self, reader, answer=""):
        super().__init__(HistorySettings("http://x"), reader, "w")
        self.answer, self.sent, self.all_there = answer, [], asyncio.Event()
        self.wanted = 0

    async def _send(self, session, what):
        self.sent.append(int(what["call"]["id"]))
        if len(self.sent) >= self.wanted:
            self.all_there.set()
        await self.all_there.wait()
        return self.answer


async def test_records_that_are_refused_hold_no_others_up(reader):
    for n in range(3 * webhook._PAGE):
        reader.server.waiting[n] = [10, 60_000]  # tried often: their turn is long to come
    reader.server.waiting[9999] = [1, 60_000]
    hook = Service(reader)
    for _ in range(4):
        await hook.round(None)
    assert hook.sent == [9999]
    reader.server.waiting[5] = [10, 1e9]
    for _ in range(4):
        await hook.round(None)
    assert hook.sent == [9999, 5], "it begins with the oldest again"


async def test_few_are_sent_at_once_and_none_waits_for_another(reader):
    reader.server.new = list(range(12))
    hook = Service(reader, "it answers 500")
    hook.wanted = webhook._AT_ONCE
    async with asyncio.timeout(10):
        assert await hook.round(None), "there is more"
    assert sorted(hook.sent) == list(range(webhook._AT_ONCE))
    assert sorted(reader.server.waiting) == hook.sent, "the others are anybody's"


async def test_what_is_due_again_goes_on_at_once_while_there_is_more(reader):
    for n in range(webhook._AT_ONCE + 2):
        reader.server.waiting[n] = [1, 60_000]
    hook = Service(reader)
    assert await hook.round(None)
    assert not await hook.round(None)
    assert sorted(hook.sent) == list(range(webhook._AT_ONCE + 2))
    assert reader.server.waiting == {}


async def test_nobody_else_takes_up_what_is_being_sent(reader):
    reader.server.waiting[1] = [1, int(webhook._TIMEOUT_S * 1000)]
    hook = Service(reader)
    await hook.round(None)
    assert hook.sent == []


async def test_a_store_that_goes_away_meanwhile_is_told(reader):
    reader.server.new = [1, 2]
    reader.failure = StoreUnreachable("away")
    with pytest.raises(StoreUnreachable):
        await Service(reader).round(None)
