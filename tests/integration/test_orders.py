"""Orders and the book of calls of our own, with a real Redis."""

import asyncio

import pytest
import redis.asyncio

from bridge.sessions import orders, server
from bridge.sessions.model import call_key
from bridge.sessions.orders import Inbox, NotAnswered, NotTaken, Order, give
from bridge.sessions.outbound import LIVE_CALLS, OutboundBook
from bridge.sessions.redis import RedisStore
from bridge.sessions.settings import RedisSettings
from tests.lab.redis import Redis


@pytest.fixture(scope="module")
def process():
    with Redis() as process:
        yield process


@pytest.fixture
async def client(process):
    client = redis.asyncio.Redis.from_url(process.url, decode_responses=True)
    await client.flushall()
    yield client
    await client.aclose()


class Working:
    """`async with Working(client, carry_out):` takes orders."""

    def __init__(self, client, carry_out):
        self.inbox = Inbox(client, "w1", carry_out)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.inbox.run())

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.mark.parametrize("timeout_s", [0.2, 2.0])
async def test_an_order_is_carried_out_and_answered(process, client, timeout_s):
    async def carry_out(order):
        return {"did": order.verb, "with": dict(order.arguments), "of": order.call_id}

    quick = server.connect(process.url, timeout_s)  # the shorter one can't wait in Redis
    async with Working(quick, carry_out):
        answers = await asyncio.gather(
            *(give(quick, "w1", Order("say", f"c{n}", {"text": str(n)})) for n in range(20))
        )
    assert answers == [{"did": "say", "with": {"text": str(n)}, "of": f"c{n}"} for n in range(20)]
    await quick.aclose()


async def test_what_nobody_takes_is_withdrawn(client):
    taken = []

    async def carry_out(order):
        taken.append(order)
        return {}

    with pytest.raises(NotTaken):
        await give(client, "w1", Order("say", "c1"), within_s=0.01)
    async with Working(client, carry_out):
        await give(client, "w1", Order("say", "c2"))
    assert [order.call_id for order in taken] == ["c2"]


async def test_nobody_waits_for_a_worker_that_is_the_wrong_one_by_now(client):
    async def no_more():
        return False

    with pytest.raises(NotTaken):
        await give(client, "w1", Order("say", "c1"), 600, no_more)


async def test_what_was_begun_may_have_been_done(client):
    begun = asyncio.Event()

    async def carry_out(order):
        begun.set()
        await asyncio.Event().wait()

    async with Working(client, carry_out):
        asking = asyncio.create_task(give(client, "w1", Order("say", "c1"), within_s=2.0))
        await begun.wait()
        with pytest.raises(NotAnswered):
            await asking


async def test_nothing_of_orders_stays_for_ever(client):
    async def carry_out(order):
        return {}

    async with Working(client, carry_out):
        await give(client, "w1", Order("say", "c1"))
    for key in await client.keys("*"):
        assert 0 < await client.ttl(key) <= orders._KEEP_S, key


# The book -----------------------------------------------------------------------------------------


async def test_caps_hold_for_many_who_ask_at_once(client):
    book = OutboundBook(client)
    found = await asyncio.gather(*(book.reserve(f"c{n}", "", "", 3, 100) for n in range(20)))
    assert sorted(r.what for r in found) == ["calls"] * 17 + ["reserved"] * 3
    await client.zrem(LIVE_CALLS, *await client.zrange(LIVE_CALLS, 0, -1))
    found = await asyncio.gather(*(book.reserve(f"d{n}", "", "", 100, 8) for n in range(20)))
    assert sorted(r.what for r in found) == ["rate"] * 15 + ["reserved"] * 5
    assert all(0 < r.wait_s <= 60 for r in found if r.what == "rate")


async def test_a_key_stands_for_one_call(client):
    book = OutboundBook(client)
    found = await asyncio.gather(*(book.reserve(f"c{n}", "k", "f", 100, 100) for n in range(9)))
    assert [r.what for r in found].count("reserved") == 1
    (call_id,) = {r.call_id for r in found}
    assert await client.zrange(LIVE_CALLS, 0, -1) == [call_id]
    other = await book.reserve("x", "k", "g", 100, 100)
    assert (other.what, other.call_id, other.fingerprint) == ("known", call_id, "f")
    await book.give_up(call_id, "k")
    assert (await book.reserve("x", "k", "g", 100, 100)).what == "reserved"


async def test_one_worker_places_a_call_once(client):
    book = OutboundBook(client)
    assert await book.place("c", "w1")
    assert not await book.place("c", "w1")
    assert not await book.place("c", "w2")


async def test_the_dead_fill_no_cap(client):
    book = OutboundBook(client)
    for call_id in ("ended", "lives", "young"):
        assert (await book.reserve(call_id, "", "", 3, 100)).what == "reserved"
    await client.hset(call_key("ended"), "state", "ended")
    await client.hset(call_key("lives"), "state", "ringing")
    await client.zadd(LIVE_CALLS, {"lives": 0})
    assert (await book.reserve("next", "", "", 3, 100)).what == "reserved"
    assert (await book.reserve("too many", "", "", 3, 100)).what == "calls"
    await client.zadd(LIVE_CALLS, {"young": 0})  # nobody has placed it for long
    assert (await book.reserve("last", "", "", 3, 100)).what == "reserved"
    assert set(await client.zrange(LIVE_CALLS, 0, -1)) == {"lives", "next", "last"}


async def test_a_call_that_ends_makes_room(process, client):
    book = OutboundBook(client)
    assert (await book.reserve("c1", "", "", 1, 100)).what == "reserved"
    store = RedisStore(RedisSettings(url=process.url), "w1")
    writing = asyncio.create_task(store.run())
    store.begin("c1")
    store.put("c1", worker="w1", direction="out", state="ringing", started=1.0)
    assert await store.flush(10)
    assert await client.zcard(LIVE_CALLS) == 1
    store.put("c1", state="ended", result="busy")
    assert await store.flush(10)
    assert await client.zcard(LIVE_CALLS) == 0
    writing.cancel()
    await store.close()
