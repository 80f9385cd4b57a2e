"""Leases on a real Redis: who owns what, who is dead, and whose word counts no more."""

import asyncio
import contextlib
import os
import signal
import time

import pytest

from bridge.errors import StoreUnreachable
from bridge.sessions import lease as lease_module
from bridge.sessions import members
from bridge.sessions.lease import RedisLeases
from bridge.sessions.model import LIVE, Line
from bridge.sessions.progress import Item, Progress, Tool
from bridge.sessions.redis import RedisStore
from bridge.sessions.settings import RedisSettings
from tests.lab.redis import Redis


@pytest.fixture
def server():
    with Redis() as server:
        yield server


@contextlib.asynccontextmanager
async def worker(url, name, **settings):
    """A store that writes, and leases on the same server."""
    store = RedisStore(RedisSettings(url=url, **{"timeout_s": 5.0, **settings}), name)
    leases = RedisLeases(store.server, name, lambda: {"started": 1.0, "takes": True})
    writer = asyncio.create_task(store.run())
    try:
        yield store, leases
    finally:
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
        await store.close()


def trusting(leases):
    """As if it had seen a healthy Redis for long enough to judge others."""
    leases._healthy_since = time.monotonic() - 60


async def test_the_first_holds_the_door_and_the_next_when_it_is_buried(server):
    async with worker(server.url, "a") as (_, a), worker(server.url, "b") as (_, b):
        await a.beat()
        await b.beat()
        assert (a.holds_door, b.holds_door, b.door_holder) == (True, False, "a")
        assert set(b.members) == {"a", "b"}
        assert b.members["a"].alive
        trusting(b)
        await b.bury("a")
        assert b._nudged.is_set(), "callers wait at the door"
        await b.beat()
        assert b.holds_door
        await a.beat()
        assert not a.holds_door
        assert a._unsure, "buried alive: are its calls still its own?"


async def test_a_door_that_was_left_is_anybodys_at_once(server):
    async with worker(server.url, "a") as (_, a), worker(server.url, "b") as (_, b):
        await a.beat()
        await b.beat()
        b._healthy_since = time.monotonic()  # it may judge nobody yet
        a.wants_door = False
        await a.beat()
        await b.beat()
        assert b.holds_door


async def test_a_claim_succeeds_once_and_fences_the_former_owner(server):
    async with worker(server.url, "a") as (store_a, _), worker(server.url, "b") as (store_b, b):
        lost = []
        store_a.on_lost = lost.append
        store_a.begin("c1")
        store_a.put("c1", worker="a", state="talking", started=1.0)
        store_a.say("c1", Line(1.0, "agent", "hello", 500, False))
        assert await store_a.flush(5)
        assert await b.live() == {"c1": "a"}
        record = await b.claim("c1", "a")
        assert (record.worker, record.fence) == ("b", 2)
        assert await b.claim("c1", "a") is None
        store_b.adopt(record, await store_b.transcript("c1"))
        store_a.put("c1", state="ended")  # the zombie's last word
        store_a.say("c1", Line(2.0, "agent", "nobody hears this", 0, False))
        assert await store_a.flush(5)
        assert lost == ["c1"]
        store_b.say("c1", Line(2.0, "agent", "and on", 500, False))
        assert await store_b.flush(5)
        assert [line.text for line in await store_b.transcript("c1")] == ["hello", "and on"]
        assert (await store_b.load("c1")).state == "talking"
        assert await b.owners(["c1", "c2"]) == {"c1": "b"}
        assert await b.live() == {"c1": "b"}
        store_a.put("c1", state="ended")  # not even as a call of its own
        assert await store_a.flush(5)
        assert (await store_b.load("c1")).state == "talking"


async def test_who_is_given_a_call_owns_it_and_who_gave_it_can_only_end_it_before(server):
    async with worker(server.url, "a") as (a, _), worker(server.url, "b") as (b, _):
        lost = []
        a.on_lost = lost.append
        a.begin("c1")
        a.put("c1", worker="b", state="setup")
        assert await a.flush(5)
        b.begin("c1")
        b.put("c1", worker="b", state="setup")
        assert await b.flush(5)
        assert (await b.load("c1")).fence == 2
        a.put("c1", state="ended")
        assert await a.flush(5)
        assert lost == ["c1"]
        assert (await b.load("c1")).state == "setup"


async def test_a_frozen_workers_first_word_takes_no_call_back(server):
    async with worker(server.url, "a") as (a, _), worker(server.url, "b") as (b, leases):
        a.begin("c1")
        a.put("c1", worker="a", state="setup")
        assert await a.flush(5)
        a.forget("c1")  # what it writes next is its first word of the call
        b.adopt(await leases.claim("c1", "a"), [])
        b.begin("c1")  # he wasn't talking yet: begun anew, and ours
        b.put("c1", worker="b", state="setup")
        assert await b.flush(5)
        lost = []
        a.on_lost, b.on_lost = lost.append, lost.append
        a.begin("c1")
        a.put("c1", worker="a", state="setup")
        assert await a.flush(5)
        assert lost == ["c1"]
        assert (await b.load("c1")).worker == "b"
        b.put("c1", state="talking")
        assert await b.flush(5)
        assert (await b.load("c1")).state == "talking"
        b.put("c1", state="ended")
        assert await b.flush(5)
        a.begin("c1")  # the PBX has begun to count anew
        a.put("c1", worker="a", state="setup")
        assert await a.flush(5)
        assert (await a.load("c1")).state == "setup"


async def test_only_who_has_seen_a_healthy_redis_judges_others(server, monkeypatch):
    monkeypatch.setattr(lease_module, "TTL_S", 0.2)
    async with worker(server.url, "a") as (_, a), worker(server.url, "b") as (_, b):
        dead = []
        b.on_dead = dead.append
        await a.beat()
        b._healthy_since = time.monotonic() + 60
        while (await b.beat(), b.members["a"].alive)[1]:
            await asyncio.sleep(0.02)
        assert dead == []
        assert not b.holds_door
        trusting(b)
        async with asyncio.timeout(5):
            while (await b.beat(), not b.holds_door)[1]:  # a beat that came late takes no door
                await asyncio.sleep(0.02)
        assert set(dead) == {"a"}


async def test_a_redis_that_fails_takes_the_right_to_judge_away(server):
    async with worker(server.url, "a") as (_, a):
        trusting(a)
        before = a._healthy_since
        server.kill()
        with pytest.raises(StoreUnreachable):
            await a.beat()
        assert a._healthy_since > before + lease_module.TTL_S
        server.restart()


async def test_after_a_redis_came_back_empty_the_door_stays_where_it_was(server):
    async with worker(server.url, "a") as (_, a), worker(server.url, "b") as (_, b):
        await a.beat()
        await b.beat()
        server.kill()
        for leases in (a, b):
            with pytest.raises(StoreUnreachable):
                await leases.beat()
        server.restart()
        await b.beat()
        await a.beat()
        assert a.holds_door
        assert not b.holds_door


@pytest.mark.parametrize("empty", [True, False])
async def test_a_redis_that_came_back_empty_or_older_is_told_all_again(server, empty):
    async with worker(server.url, "a") as (store, a):
        a.on_forgotten = store.refresh
        store.begin("c1")
        store.put("c1", worker="a", state="setup")
        assert await store.flush(5)
        await a.beat()
        until = await store.server.zscore("ari-bridge:{workers}:until", "a")
        kept = await store.server.dump("ari-bridge:{c1}:call")
        store.put("c1", state="talking")
        store.say("c1", Line(1.0, "agent", "hello", 500, False))
        assert await store.flush(5)
        await a.beat()
        assert not a._unsure
        await store.server.flushall()
        if not empty:  # as a replica that takes over too early
            await store.server.restore("ari-bridge:{c1}:call", 0, kept)
            await store.server.zadd("ari-bridge:{workers}:until", {"a": until - 100})
        await a.beat()
        assert a._unsure
        assert await store.flush(5)
        assert (await store.load("c1")).state == "talking"
        assert await store.transcript("c1") == [Line(1.0, "agent", "hello", 500, False)]
        assert await a.live() == {"c1": "a"}


async def test_who_was_held_up_makes_sure_first(server):
    async with worker(server.url, "a") as (_, a):
        await a.beat()
        await asyncio.wait_for(a.sure(), 10)
        asked = asyncio.Event()

        async def make_sure():
            asked.set()

        a.on_unsure = make_sure
        a._last_tick -= 2 * lease_module.SLEPT_S  # as after SIGSTOP
        waiting = asyncio.create_task(a.sure())
        await asyncio.sleep(0)
        assert not waiting.done()
        await a._attempt()
        assert asked.is_set()
        await asyncio.wait_for(waiting, 10)


async def test_while_redis_is_away_owners_keep_their_calls(server):
    async with worker(server.url, "a") as (_, a):
        a._last_tick -= 2 * lease_module.SLEPT_S
        server.kill()
        waiting = asyncio.create_task(a.sure())
        await a._attempt()
        await asyncio.wait_for(waiting, 10)
        server.restart()


async def test_a_beat_that_a_frozen_redis_carries_out_late_takes_nothing(server, monkeypatch):
    monkeypatch.setattr(lease_module, "TTL_S", 0.2)
    monkeypatch.setattr(lease_module, "SLOW_S", 0.05)
    async with worker(server.url, "a") as (_, a), worker(server.url, "b") as (_, b):
        dead = []
        b.on_dead = dead.append
        await a.beat()
        await b.beat()
        trusting(b)
        os.kill(server.pid, signal.SIGSTOP)
        late = asyncio.create_task(b.beat())
        await asyncio.sleep(0.4)  # a's lease runs out; nobody could have renewed it
        os.kill(server.pid, signal.SIGCONT)
        await late
        assert b.door_holder == "a"
        assert dead == []


async def test_a_silent_host_is_dead_before_its_leases_are(server, monkeypatch):
    monkeypatch.setattr(members, "HOST_TTL_S", 0.2)
    async with worker(server.url, "a") as (_, a), worker(server.url, "b") as (_, b):
        a._about = lambda: {"takes": True, "place": "there"}
        dead = []
        b.on_dead = dead.append
        await a.beat()
        await b.beat()
        trusting(b)
        assert dead == []
        while not dead:
            await asyncio.sleep(0.02)
            await b.beat()
        assert b.members["a"].alive, "by its lease"


async def test_an_answer_that_another_overtakes_is_no_sign_of_a_redis_that_forgot(server):
    async with worker(server.url, "a") as (_, a):
        await a.beat()
        real, held, there = a._beat, asyncio.Event(), asyncio.Event()

        async def slow(**arguments):
            answer = await real(**arguments)
            if not there.is_set():
                there.set()
                await held.wait()
            return answer

        a._beat = slow
        forgotten = []
        a.on_forgotten = lambda: forgotten.append(1)
        first = asyncio.create_task(a.beat())
        await there.wait()
        second = asyncio.create_task(a.beat())
        await asyncio.wait({second}, timeout=0.2)
        held.set()
        await asyncio.gather(first, second)
        assert not forgotten
        assert not a._unsure


async def test_who_is_in_doubt_asks_at_once(server):
    async with worker(server.url, "a") as (_, a):
        await a.beat()
        await a.bury("a")  # by another
        await a.beat()
        assert a._unsure
        assert a._nudged.is_set()


async def test_a_call_whose_heir_died_while_he_claimed_it_is_found_again(server):
    async with worker(server.url, "a") as (store, _), worker(server.url, "c") as (_, c):
        store.begin("c1")
        store.put("c1", worker="a", state="talking", started=1.0)
        assert await store.flush(5)
        await store.server.hset("ari-bridge:{c1}:call", mapping={"worker": "b", "fence": 2})
        assert await c.live() == {"c1": "a"}, "b died before it could put itself there"
        assert await c.claim("c1", "a") is None
        assert await c.live() == {"c1": "b"}
        assert (await c.claim("c1", "b")).worker == "c"


async def test_a_call_that_is_on_the_list_by_mistake_is_taken_off_it(server):
    async with worker(server.url, "a") as (store, a):
        store.begin("c1")
        store.put("c1", worker="a", state="ended")
        assert await store.flush(5)
        await store.server.hset(LIVE, mapping={"c1": "b", "c2": "b"})
        assert await a.claim("c1", "b") is None
        assert await a.claim("c2", "b") is None
        assert await a.live() == {}


def test_progress_is_read_back_as_written_and_a_newer_one_as_far_as_known():
    progress = Progress(
        items=(Item(3, "and so on", 8000, 160, done=True),),
        last_item=3,
        tools=(Tool("t1", "transfer", {"extension": "200"}, begun=True),),
        replying=True,
        given=((2, "one"), (3, "and so on")),
        caller="where can I park",
        turn=2,
    )
    assert Progress.from_text(progress.to_text()) == progress
    assert Progress.from_text("") == Progress()
    assert Progress.from_text('{"turn": 4, "mood": "good"}').turn == 4
