"""What many hosts ask of their one Redis, with the bridge's own questions to a real one.

A registry and a list of live calls are put there as large as so many workers and calls would make
them; then beats, lists and claims are asked as a worker asks them, and counted is what they take of
Redis' one thread and of the asking worker's.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields

import redis.asyncio

from bridge.sessions.lease import _ABOUT, _UNTIL, RedisLeases
from bridge.sessions.model import LIVE, Record, call_key
from tests.bench.machine import cpu_s
from tests.lab.redis import Redis

_S = 1.0
"""How long each question is asked again and again."""
_ME = "host-1-1-0"
_CLAIMED = 2000
"""Calls that have a record: those that are claimed."""


@dataclass(frozen=True)
class Costs:
    """CPU in ms, of Redis and of the worker that asks."""

    redis_ms: float
    worker_ms: float


@dataclass(frozen=True)
class Sizes:
    """So many workers and calls, and what each question takes then."""

    workers: int
    calls: int
    beat: Costs
    live: Costs
    claim: Costs

    def told(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)


async def measure(server: Redis, workers: int, calls: int) -> Sizes:
    """Fill it, ask, and empty it."""
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    try:
        await _fill(client, workers, calls)
        names = [f"bridge-{n}" for n in range(min(calls, _CLAIMED))]
        me = RedisLeases(client, _ME, lambda: _about(1, 1))
        beat = await _costs(server.pid, me.beat)
        live = await _costs(server.pid, me.live)
        asked = iter(range(10**9))

        async def claim() -> None:
            assert await me.claim(names[next(asked) % len(names)], _ME) is not None

        return Sizes(workers, calls, beat, live, await _costs(server.pid, claim))
    finally:
        await client.flushdb()
        await client.aclose()


async def _costs(pid: int, ask: Callable[[], Awaitable[object]]) -> Costs:
    await ask()  # the script is loaded
    count, began = 0, time.monotonic()
    redis_s, own_s = cpu_s(pid), time.process_time()
    while time.monotonic() - began < _S:
        await ask()
        count += 1
    used = cpu_s(pid) - redis_s, time.process_time() - own_s
    return Costs(round(used[0] * 1000 / count, 4), round(used[1] * 1000 / count, 4))


def _about(host: int, load: int) -> dict[str, object]:
    """What a worker says of itself."""
    return {
        "started": 1_795_432_000.123456 + host,
        "load": load,
        "takes": True,
        "place": f"0123456789abcdef0123456789abcdef:{host:08d}",
        "active": 2,
        "left": False,
        "kept": True,
        "faults": {"offline": ""},
    }


async def _fill(client: redis.asyncio.Redis, workers: int, calls: int) -> None:
    await client.flushdb()
    later = (time.time() + 3600) * 1000
    numbers = ("float", "int")
    record = {f.name: "0" if f.type in numbers else "x" * 12 for f in fields(Record)}
    del record["other"]
    async with client.pipeline(transaction=False) as pipe:
        for n in range(workers):
            name = f"host-{n}-{1000 + n}-ab12"
            pipe.zadd(_UNTIL, {name: later})
            pipe.hset(_ABOUT, name, json.dumps(_about(n, 70)))
        for n in range(calls):
            pipe.hset(LIVE, f"bridge-{n}", f"host-{n % workers}-{1000 + n % workers}-ab12")
            if n < _CLAIMED:
                mine = {"v": "1", "state": "talking", "worker": _ME}
                pipe.hset(call_key(f"bridge-{n}"), mapping={**record, **mine})
            if n % 5000 == 4999:
                await pipe.execute()
        await pipe.execute()


def sizes(pairs: list[tuple[int, int]]) -> list[Sizes]:
    """For each number of workers and calls."""

    async def all_of_them() -> list[Sizes]:
        return [await measure(server, *pair) for pair in pairs]

    with Redis() as server:
        return asyncio.run(all_of_them())
