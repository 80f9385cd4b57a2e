"""Whose conversation is gone on with, and what then is in the new call's transcript."""

import asyncio

from bridge.agent import Agent
from bridge.engines.base import Context, Entry
from bridge.errors import StoreUnreachable
from bridge.rejoin import rejoined
from bridge.sessions.model import Line, Record


class Store:
    def __init__(self, found=None):
        self.found, self.fields, self.lines, self.asked = found, {}, [], []

    def put(self, call_id, **fields):
        self.fields |= fields

    def say(self, call_id, line):
        self.lines.append((call_id, line.role, line.text))

    async def rejoin(self, agent, caller):
        self.asked.append((agent, caller))
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


PAST = (
    Record("old", agent="demo", caller="100"),
    [Line(1.0, "agent", "Which number?"), Line(2.0, "event", "hold"), Line(3.0, "dtmf", "5")],
)


def context(**settings):
    agent = Agent("demo", **settings)
    return Context("new", agent, "100", 8000, None, None, None, None)


async def test_the_conversation_goes_on():
    store = Store(PAST)
    made = await rejoined(store, context(rejoin_s=60))
    assert made.history == (Entry("agent", "Which number?"), Entry("dtmf", "5"))
    assert made.rejoin == "Welcome back. Shall we go on where we were?"
    assert store.lines == [
        ("new", "agent", "Which number?"),
        ("new", "dtmf", "5"),
        ("new", "event", "back from call old"),
    ]
    assert store.fields == {"rejoin_s": 60}


async def test_nobody_is_looked_up_where_the_agent_does_not_say_so():
    store = Store(PAST)
    assert not (await rejoined(store, context())).rejoin
    assert not store.asked
    assert not store.fields


async def test_without_a_past_or_without_redis_it_is_an_ordinary_call():
    for found in (None, StoreUnreachable("away")):
        store = Store(found)
        made = await rejoined(store, context(rejoin_s=60))
        assert (made.rejoin, made.history, store.lines) == ("", (), [])


async def test_a_slow_redis_keeps_nobody_waiting(monkeypatch):
    store = Store()
    store.rejoin = lambda agent, caller: asyncio.sleep(60)
    monkeypatch.setattr("bridge.rejoin.LOOK_S", 0)
    assert not (await rejoined(store, context(rejoin_s=60))).rejoin
