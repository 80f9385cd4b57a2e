"""One of many hosts dies: how long its callers hear nothing, and how busy their Redis is anyway.

A simulation, of what can't be run: Redis is one queue, every worker one, and so is each Asterisk.
What a question takes of each is measured (`store`, `calls`); how workers ask is the bridge's own
rules (`bridge.sessions.members`, `bridge.reconcile`). Worker of a silent host:

    known dead 1.5 s after its last beat ▸ each other worker asks who is there and lists the live
    calls ▸ takes its own part of them, 16 at a time: claims each in Redis, has Asterisk move its
    channels and open external media, begins the conversation

What is left out: the network's own time, what a busy worker's calls take of its core, and that the
workers' beats are drawn together by what they wait for.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass

from bridge.reconcile import _AT_ONCE
from bridge.sessions.members import BEAT_S, HOST_TTL_S
from tests.bench.capacity.store import Sizes

LOOK_S = 2.0
"""`bridge.worker._LOOK_S`: every worker lists all live calls that often."""


@dataclass(frozen=True)
class Line:
    """CPU ms of a question by a size: `at + per * size`, through two measured points."""

    at: float
    per: float

    def __call__(self, size: float) -> float:
        return max(self.at + self.per * size, 0.0)


@dataclass(frozen=True)
class Costs:
    """What each thing takes, ms."""

    beat_redis: Line
    beat_worker: Line
    live_redis: Line
    live_worker: Line
    claim_redis: float
    claim_worker: float
    take_worker: float
    take_asterisk: float
    write_redis: float
    """A call's own notes, ms a call-second."""


@dataclass(frozen=True)
class Storm:
    """What becomes of one host's death."""

    hosts: int
    redis_busy: float
    """Share of Redis' thread that is used while nothing happens; 1 and more: it can't be."""
    look_ms: float
    """How long every worker is held up every `LOOK_S`."""
    silent_s: tuple[float, float]
    """p50 and the longest."""


def costs(few: Sizes, many: Sizes, take: dict[str, float], write_redis: float) -> Costs:
    """From two measured sizes."""

    def line(a: float, b: float, x: int, y: int) -> Line:
        per = (b - a) / (y - x)
        return Line(a - per * x, per)

    def pair(name: str, by: str) -> tuple[Line, Line]:
        x, y = getattr(few, by), getattr(many, by)
        a, b = getattr(few, name), getattr(many, name)
        return line(a.redis_ms, b.redis_ms, x, y), line(a.worker_ms, b.worker_ms, x, y)

    return Costs(
        *pair("beat", "workers"),
        *pair("live", "calls"),
        *(many.claim.redis_ms, many.claim.worker_ms),
        *(take["worker_ms"], take["asterisk_ms"], write_redis),
    )


def busy(cost: Costs, workers: int, calls: int) -> float:
    """Share of Redis' thread that so many workers and calls use while nothing happens."""
    beats = workers / BEAT_S * cost.beat_redis(workers)
    looks = workers / LOOK_S * cost.live_redis(calls)
    return (beats + looks + calls * cost.write_redis) / 1000


class _Queue:
    """Does one thing after the other."""

    def __init__(self, factor: float = 1.0) -> None:
        self._free_at, self._factor = 0.0, factor

    def take(self, at: float, ms: float) -> float:
        """When something that comes at `at` (s) is done."""
        self._free_at = max(at, self._free_at) + ms * self._factor / 1000
        return self._free_at


def die(
    cost: Costs, hosts: int, workers: int, calls: int, *, asterisks: int = 1, seed: int = 1
) -> Storm:
    """One of `hosts` dies.

    Args:
        cost: what things take.
        hosts: bridge hosts with one Redis.
        workers: of each.
        calls: of each.
        asterisks: over how many of them the dead host's calls lie.
        seed: of chance.
    """
    chance = random.Random(seed)
    all_workers, all_calls = hosts * workers, hosts * calls
    used = busy(cost, all_workers, all_calls)
    look_ms = cost.live_worker(all_calls)
    if used >= 1.0 or hosts < 2:
        return Storm(hosts, used, look_ms, (float("inf"), float("inf")))
    redis, asterisk = _Queue(1 / (1 - used)), _Queue(1 / asterisks)
    own = [_Queue() for _ in range(all_workers - workers)]
    shares = [len(range(n, calls, len(own))) for n in range(len(own))]
    # What comes first at a queue is done first, so each visit of one is a step of its own. Each of
    # the dead host's workers is inherited by itself: so many questions.
    steps: dict[str, tuple[_Queue | None, float, str]] = {
        "ask who": (redis, workers * cost.beat_redis(all_workers), "know who"),
        "know who": (None, workers * cost.beat_worker(all_workers), "ask calls"),
        "ask calls": (redis, workers * cost.live_redis(all_calls), "know calls"),
        "know calls": (None, workers * cost.live_worker(all_calls), "share"),
        "claim": (redis, cost.claim_redis, "claimed"),
        "claimed": (None, cost.claim_worker, "move"),
        "move": (asterisk, cost.take_asterisk, "begin"),
        "begin": (None, cost.take_worker, "begun"),
    }
    todo: list[tuple[float, int, int, str]] = []
    ties = itertools.count()

    def then(at: float, n: int, step: str) -> None:
        if step != "claim" or shares[n]:
            shares[n] -= step == "claim"
            heapq.heappush(todo, (at, next(ties), n, step))

    known = HOST_TTL_S - chance.uniform(0, BEAT_S)
    for n in range(len(own)):
        then(known + chance.uniform(0, 0.05), n, "ask who")
    silent: list[float] = []
    while todo:
        at, _, n, step = heapq.heappop(todo)
        if step == "share":
            for _ in range(_AT_ONCE):
                then(at, n, "claim")
        elif step == "begun":
            silent.append(at)
            then(at, n, "claim")
        else:
            queue, ms, following = steps[step]
            then((queue or own[n]).take(at, ms), n, following)
    silent.sort()
    return Storm(hosts, used, look_ms, (silent[len(silent) // 2], silent[-1]))
