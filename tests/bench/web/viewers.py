"""Writes a call's words as workers do, and looks on: `python -m tests.bench.web.viewers JOB`.

One process in the place of many: the worker that writes transcripts and records into Redis, and
the browsers that follow GET /v1/live. A line's text is the moment at which it was handed to the
session store; how much later each viewer has it is printed at the end, ms, as JSON.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from dataclasses import dataclass

import aiohttp

from bridge.sessions.model import Line
from bridge.sessions.redis import RedisStore
from bridge.sessions.settings import RedisSettings

TURNS = [{"turn": n, "voice_to_voice_ms": 500.0, "path_ms": {"silence": 300.0}} for n in range(12)]
AUDIO = {"mos": 4.4, "loss_percent": 0.1, "received": 3000.0, "lost": 3.0, "concealed_ms": 60.0}


@dataclass(frozen=True)
class Job:
    """What is to be done."""

    redis: str
    url: str
    token: str
    calls: int
    viewers: int
    seconds: float
    lines_per_s: float
    """Of all calls together."""


async def follow(job: Job, delays: list[float]) -> None:
    """One viewer."""
    headers = {"Authorization": f"Bearer {job.token}"}
    limit = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(headers=headers, timeout=limit, read_bufsize=1 << 24) as session,
        session.get(f"{job.url}/v1/live") as answer,
    ):
        async for row in answer.content:
            now = time.monotonic()
            if not row.startswith(b"data: "):
                continue
            message = json.loads(row[6:])
            if message.get("all"):
                continue
            for lines in message.get("lines", {}).values():
                delays += [(now - float(line["text"])) * 1000 for line in lines]


async def run(job: Job) -> None:
    """Print the delays."""
    store = RedisStore(RedisSettings(url=job.redis), "bench")
    writing = asyncio.create_task(store.run())
    for n in range(job.calls):
        store.begin(f"bench-{n}")
        fields = {"agent": "demo", "engine": "offline", "worker": "bench", "state": "talking"}
        known = {"caller": str(n), "started": time.time(), "fence": 1}
        store.put(
            f"bench-{n}", **fields, **known, latency=json.dumps(TURNS), audio=json.dumps(AUDIO)
        )
    assert await store.flush(10)
    print("ready", flush=True)
    delays: list[float] = []
    looking = [asyncio.create_task(follow(job, delays)) for _ in range(job.viewers)]
    began, n = time.monotonic(), 0
    while (now := time.monotonic()) < began + job.seconds:
        n += 1
        call_id = f"bench-{n * 7 % job.calls}"
        store.say(call_id, Line(time.time(), "caller", f"{now:.4f}"))
        await asyncio.sleep(max(0.0, began + n / job.lines_per_s - time.monotonic()))
    await asyncio.sleep(1.0)
    for task in looking:
        task.cancel()
    await asyncio.gather(*looking, return_exceptions=True)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await store.close()
    print(json.dumps({"written": n, "delays_ms": [round(ms, 1) for ms in delays]}), flush=True)


def command(job: Job) -> list[str]:
    """The command line that does it."""
    return [sys.executable, "-m", "tests.bench.web.viewers", json.dumps(dataclasses.asdict(job))]


if __name__ == "__main__":
    asyncio.run(run(Job(**json.loads(sys.argv[1]))))
