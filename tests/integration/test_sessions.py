"""The session store on a real Redis: order, batches, and a Redis that goes and comes back."""

import asyncio
import contextlib
import os
import signal

import pytest

from bridge.errors import StoreUnreachable
from bridge.sessions.model import INDEX, LIVE, Line
from bridge.sessions.redis import RedisStore
from bridge.sessions.settings import RedisSettings
from tests.lab.redis import Cramped, Redis


@pytest.fixture
def server():
    with Redis() as server:
        yield server


@contextlib.asynccontextmanager
async def storing(url, **settings):
    store = RedisStore(RedisSettings(url=url, **settings))
    writer = asyncio.create_task(store.run())
    try:
        yield store
    finally:
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
        await store.close()


def lines(n, first=0):
    # Two lines a millisecond, so that ids have to be told apart.
    return [Line(100.0 + (first + i) // 2 / 1000, "caller", f"line {first + i}") for i in range(n)]


async def test_a_call_is_read_back_as_it_was_written(server):
    async with storing(server.url) as store:
        await store.connect()
        assert store.version.count(".") == 2
        store.begin("a")
        store.put("a", agent="demo", state="talking", started=12.5)
        for line in lines(50):
            store.say("a", line)
        store.put("a", state="ended")
        assert await store.flush(5)
        record = await store.load("a")
        assert (record.agent, record.state, record.started) == ("demo", "ended", 12.5)
        assert await store.transcript("a") == lines(50)
        assert await store.load("b") is None


async def test_an_ended_call_is_kept_for_a_while_only(server):
    async with storing(server.url, keep_ended_s=1000, keep_silent_s=9000) as store:
        store.begin("a")
        store.put("a", state="talking", started=1.0)
        store.say("a", Line(1.0, "caller", "hello"))
        await store.flush(5)
        assert 8000 < await store._redis.ttl("ari-bridge:{a}:call") <= 9000
        store.put("a", state="ended")
        await store.flush(5)
        assert 0 < await store._redis.ttl("ari-bridge:{a}:call") <= 1000
        assert 0 < await store._redis.ttl("ari-bridge:{a}:transcript") <= 1000


async def test_lines_keep_their_order_when_the_clock_steps_back(server):
    async with storing(server.url) as store:
        store.begin("a")
        told = [Line(at, "caller", str(at)) for at in (50.0, 40.0, 45.0, 50.001)]
        for line in told:
            store.say("a", line)
            await store.flush(5)
        assert await store.transcript("a") == told


async def test_a_batch_sent_twice_is_stored_once(server):
    async with storing(server.url) as store:
        store.begin("a")
        store.put("a", started=1.0)
        for line in lines(4):
            store.say("a", line)
        batch = store._box.next_batch()
        await store._send(batch)
        await store._send(batch)
        assert await store.transcript("a") == lines(4)
        assert await store._redis.zcard(INDEX) == 1


async def test_redis_away_loses_nothing(server):
    async with storing(server.url, timeout_s=0.3) as store:
        store.begin("a")
        store.put("a", state="talking", agent="demo")
        store.say("a", lines(1)[0])
        assert await store.flush(5)
        server.kill()
        for line in lines(20, first=1):
            store.say("a", line)
            await asyncio.sleep(0.01)
        store.put("a", state="ended")
        assert not await store.flush(0.5)
        with pytest.raises(StoreUnreachable):
            await store.load("a")
        server.restart()  # comes back empty: all of the call is written again
        assert await store.flush(10)
        assert await store.transcript("a") == lines(21)
        record = await store.load("a")
        assert (record.state, record.agent) == ("ended", "demo")


async def test_a_redis_whose_disk_is_full_is_as_one_that_is_away(caplog):
    with Cramped() as server:
        async with storing(server.url) as store:
            store.begin("a")
            store.put("a", agent="demo", state="talking", started=1.0)
            assert await store.flush(10)
            server.full(True)
            said = 0
            while store.up:  # the one that finds the disk full is still answered
                store.say("a", Line(200.0 + said, "caller", f"line {said}"))
                said += 1
                await asyncio.sleep(0.01)
            assert "MISCONF" in caplog.text
            assert not await store.flush(0.1)
            server.full(False)
            assert await store.flush(30)
            texts = [line.text for line in await store.transcript("a")]
            assert texts == [f"line {n}" for n in range(said)]


async def test_memory_is_bounded_while_redis_is_away(server, caplog):
    server.kill()
    async with storing(server.url, timeout_s=0.2, max_pending_lines=10) as store:
        store.begin("a")
        for line in lines(30):
            store.say("a", line)
        assert [line.text for _, line in store._box.pending["a"].lines] == [
            f"line {i}" for i in range(20, 30)
        ]
    assert "giving up the oldest" in caplog.text


async def test_what_no_encoding_can_write_stops_nothing(server):
    async with storing(server.url) as store:
        store.begin("a")
        store.say("a", Line(1.0, "agent", "half a pair: \ud83d"))
        store.say("a", Line(2.0, "agent", "and on"))
        assert await store.flush(5)
        assert [line.text for line in await store.transcript("a")] == ["half a pair: ?", "and on"]


async def test_nobody_there_says_where_and_what_to_do():
    store = RedisStore(RedisSettings(url="redis://:hidden@127.0.0.1:1/0", timeout_s=0.5))
    with pytest.raises(StoreUnreachable) as caught:
        await store.connect()
    await store.close()
    assert "127.0.0.1:1" in str(caught.value)
    assert "redis.url" in str(caught.value)
    assert "hidden" not in str(caught.value)


async def test_what_is_durable_is_known(server):
    async with storing(server.url, timeout_s=0.3) as store:
        store.begin("a")
        assert await store.written("a", 1)  # nothing to write
        store.say("a", lines(1)[0])
        assert await store.written("a", 5)
        assert await store.transcript("a") == lines(1)
        os.kill(server.pid, signal.SIGSTOP)
        store.say("a", Line(200.0, "agent", "more"))
        assert not await store.written("a", 0.05)
        os.kill(server.pid, signal.SIGCONT)
        assert await store.flush(10)


async def test_nothing_is_unwritten_when_a_flush_is_over(server):
    async with storing(server.url) as store:
        store.begin("a")
        store.say("a", lines(1)[0])
        rounds, told = store._next_round, [Line(200.0, "dtmf", "7")]

        def meanwhile():  # before whoever waits for the first batch goes on
            rounds()
            if told:
                store.say("a", told.pop())

        store._next_round = meanwhile
        assert await store.flush(5)
        assert not store._box.pending
        assert not store._sending
        store.forget("a")
        assert [line.text for line in await store.transcript("a")] == ["line 0", "7"]


async def test_a_call_that_came_over_is_not_written_twice_after_an_outage(server):
    async with storing(server.url) as first:
        first.begin("a")
        first.put("a", worker="w", state="talking")
        for line in lines(5):
            first.say("a", line)
        assert await first.flush(5)
        async with storing(server.url) as heir:
            heir.adopt(await first.load("a"), await first.transcript("a"))
            heir.refresh()
            assert await heir.flush(5)
            assert await heir.transcript("a") == lines(5)


async def test_who_is_told_to_end_ends_in_whatever_moment(server):
    """Python 3.11's `asyncio.wait_for`, by which redis-py sends, may forget it."""
    async with storing(server.url) as store:

        async def ask() -> None:
            while True:
                await store.server.get("a")

        for turns in 20 * [*range(20)]:
            asking = asyncio.create_task(ask())
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            done, _ = await asyncio.wait([asking], timeout=20)
            assert done, turns


async def test_who_has_no_time_to_wait_does_not_wait_for_a_slow_redis(server):
    async with storing(server.url, timeout_s=5) as store:
        store.begin("a")
        store.say("a", lines(1)[0])
        told = asyncio.Event()
        store.when_written("a", told.set)
        assert not told.is_set()
        await asyncio.wait_for(told.wait(), 5)
        os.kill(server.pid, signal.SIGSTOP)
        store.say("a", Line(200.0, "agent", "more"))
        told.clear()
        store.when_written("a", told.set)
        await asyncio.wait_for(told.wait(), 4)  # long before Redis has it
        told.clear()
        store.when_written("a", told.set)
        assert told.is_set(), "it is known to be slow"
        os.kill(server.pid, signal.SIGCONT)
        assert await store.flush(10)


async def test_calls_that_said_nothing_are_whole_again_too_when_redis_is_back_empty(server):
    async with storing(server.url, timeout_s=0.3) as store:
        for call_id in ("silent", "busy"):
            store.begin(call_id)
            store.put(call_id, state="talking", agent="demo", worker="w", started=5.0)
            store.say(call_id, lines(1)[0])
        assert await store.flush(5)
        server.kill()
        store.say("busy", Line(200.0, "agent", "more"))
        assert not await store.flush(0.5)
        assert not store.up
        server.restart()
        assert await store.flush(10)
        assert store.up
        record = await store.load("silent")
        assert (record.agent, record.worker, record.started) == ("demo", "w", 5.0)
        assert await store.transcript("silent") == lines(1)
        assert await store._redis.hgetall(LIVE) == {"silent": "w", "busy": "w"}
        assert await store._redis.zcard(INDEX) == 2


async def test_what_a_newer_version_wrote_is_kept_even_where_redis_loses_it(server):
    async with storing(server.url, timeout_s=0.3) as store:
        await store._redis.hset(
            "ari-bridge:{a}:call",
            mapping={"call_id": "a", "worker": "w", "fence": "3", "mood": "fine", "v": "9"},
        )
        store.adopt(await store.load("a"), [])
        store.put("a", state="talking")
        assert await store.flush(5)
        assert await store._redis.hget("ari-bridge:{a}:call", "mood") == "fine"
        await store._redis.flushall()
        store.put("a", state="talking")
        assert await store.flush(5)
        assert await store._redis.hget("ari-bridge:{a}:call", "mood") == "fine"
        assert (await store.load("a")).fence == 3


async def test_records_of_ended_calls_are_bounded_while_redis_is_away(server, caplog):
    server.kill()
    async with storing(server.url, timeout_s=0.2, max_pending_calls=5) as store:
        for n in range(9):
            store.begin(str(n))
            store.put(str(n), state="ended" if n < 8 else "talking")
        await asyncio.sleep(0)
        await store.flush(0.1)
        assert set(store._box.pending) | set(store._sending) == {"4", "5", "6", "7", "8"}
    assert "giving up the records of 4 calls" in caplog.text


async def test_a_caller_who_was_cut_off_finds_his_conversation_once(server):
    async with storing(server.url) as store:
        for call_id, caller, result, seconds in (
            ("1", "100", "hung-up", 60),
            ("2", "101", "transferred", 60),
            ("3", "anonymous", "hung-up", 60),
            ("4", "102", "hung-up", 0),
        ):
            store.begin(call_id)
            store.put(call_id, agent="demo", caller=caller, rejoin_s=seconds)
            store.say(call_id, lines(1)[0])
            store.put(call_id, state="ended", result=result)
        assert await store.flush(5)
        found, said = await store.rejoin("demo", "100")
        assert (found.call_id, said) == ("1", lines(1))
        for caller in ("100", "101", "anonymous", "102", ""):
            assert await store.rejoin("demo", caller) is None
        assert await store.rejoin("other", "100") is None


async def test_keys_between_two_owners_are_passed_on_once(server):
    async with storing(server.url) as old, storing(server.url) as heir:
        for key in "12#":
            old.pass_key("a", key)
        await asyncio.gather(*old._tasks)
        assert 0 < await heir._redis.ttl("ari-bridge:{a}:keys") <= 10
        assert await heir.passed_keys("a") == "12#"
        assert await heir.passed_keys("a") == ""
