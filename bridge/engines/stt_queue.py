"""Shares one speech-to-text among calls: first what a decision waits for, glimpses if time is left.

    FINAL    a turn may be over, and its words aren't known: somebody waits for the answer
    PAUSE    somebody has just stopped: the words tell how long to wait for more
    AGAIN    the same, read in another way because the first words didn't say that he is done
    LULL     somebody may have stopped
    GLIMPSE  somebody is speaking: the words so far

One transcription runs at a time (the model uses all cores by itself), the most urgent first, calls
of one rank in the order in which they asked. Glimpses get at most `SHARE` of the time: behind each
one (and behind a lull's) the model rests as long as it took, so that speaking callers can't take
the machine from those who wait for an answer. A glimpse's audio is cut when its turn has come, so
it is never stale, and a call that asks again before that has asked once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heappop, heappush

from bridge.engines.base import Pcm

SHARE = 0.5
"""Of the time that glimpses may take."""


class Rank(IntEnum):
    """How urgent a transcription is; see above."""

    FINAL = 0
    PAUSE = 1
    AGAIN = 2
    LULL = 3
    GLIMPSE = 4


@dataclass(order=True)
class _Job:
    rank: Rank
    number: int
    cut: Callable[[], Pcm | None] = field(compare=False)
    result: asyncio.Future[str | None] = field(compare=False)


class SttQueue:
    """The calls' way to a model."""

    def __init__(self, work: Callable[[Pcm], Awaitable[str]], rate: int) -> None:
        """`work` transcribes int16 (n,) at `rate` Hz, one at a time."""
        self.rate = rate
        self._work = work
        self._jobs: list[_Job] = []
        self._numbers = itertools.count()
        self._task: asyncio.Task[None] | None = None
        self._rest_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    async def transcribe(self, pcm: Pcm) -> str:
        """The words of int16 (n,), at once or next; "" if there are none. Raises `EngineError`."""
        text = await self.glimpse(lambda: pcm, Rank.FINAL)
        assert text is not None
        return text

    async def glimpse(self, cut: Callable[[], Pcm | None], rank: Rank = Rank.GLIMPSE) -> str | None:
        """The words of what `cut` gives when its turn has come; None if that is None (not wanted
        any more). Raises `EngineError`."""
        result: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        heappush(self._jobs, _Job(rank, next(self._numbers), cut, result))
        self._go()
        return await result

    async def close(self) -> None:
        """Stop; nobody may be waiting."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _go(self) -> None:
        """Begin the next job, if the model is free for it."""
        if self._task is not None:
            return
        loop = asyncio.get_running_loop()
        while self._jobs:
            job = self._jobs[0]
            if job.result.done():  # whoever asked has been cancelled
                heappop(self._jobs)
                continue
            if job.rank is Rank.GLIMPSE and loop.time() < self._rest_until:
                if self._alarm is None:
                    self._alarm = loop.call_at(self._rest_until, self._rested)
                return
            heappop(self._jobs)
            pcm = job.cut()
            if pcm is None:
                job.result.set_result(None)
                continue
            self._task = asyncio.create_task(self._run(job, pcm))
            return

    def _rested(self) -> None:
        self._alarm = None
        self._go()

    async def _run(self, job: _Job, pcm: Pcm) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            text = await self._work(pcm)
        except Exception as error:  # noqa: BLE001 - it is told to whoever asked
            if not job.result.done():
                job.result.set_exception(error)
        else:
            if not job.result.done():
                job.result.set_result(text)
        if job.rank >= Rank.LULL:
            self._rest_until = loop.time() + (loop.time() - begun) * (1 - SHARE) / SHARE
        self._task = None
        self._go()
