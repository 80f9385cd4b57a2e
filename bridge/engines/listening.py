"""What a caller is saying, while he says it: transcripts of his growing turn.

    SpeechStarted  glimpses begin: the first `FIRST_MS` into the speech, then every `EVERY_MS`, as
                   far as the speech-to-text has time for them
    TurnPausing    one at once, which holds all that was said so far; at another one in the same
                   silence it is read in another way (`read_as`): what was misheard once is often
                   heard right then
    words          what is known of a turn up to its end; where nothing was said since the last
                   transcript that is the last one, and nobody has to wait

A call has at most one transcription under way. A pause that comes meanwhile is looked at behind it;
a glimpse that still waits for the model is given up for it.
Nobody tells when a cough is over that became no turn; so behind a pause only a few glimpses follow,
until there is another sign of speech.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bridge.audio.hum import is_hum
from bridge.engines.base import Pcm
from bridge.engines.hearing import Hearing
from bridge.engines.parts import Stt
from bridge.engines.stt_queue import Rank
from bridge.errors import EngineError

log = logging.getLogger(__name__)

FIRST_MS, EVERY_MS = 240, 300

AFTER_PAUSE = 4
"""Glimpses behind a pause without another one: a second of speech."""

PRE_ROLL_MS, POST_ROLL_MS = 240, 120
"""Audio around a turn that goes with it: the detector is late at soft beginnings and ends."""

TAIL_MS = 40
"""Of silence that a transcript must hold behind the last voice to stand for the whole turn."""


MORE_QUIET_MS, SLOWER = 300, 0.9
"""What a second reading has behind it, and the speed of a third."""


def read_as(pcm: Pcm, rate: int, look: int) -> Pcm:
    """The audio int16 (n,) for a silence's first, second or third look."""
    if look == 0 or not len(pcm):
        return pcm
    if look == 1:
        return np.concatenate([pcm, np.zeros(rate * MORE_QUIET_MS // 1000, np.int16)])
    places = np.arange(0, len(pcm) - 1, SLOWER)
    slower: Pcm = np.interp(places, np.arange(len(pcm)), pcm).astype(np.int16)
    return slower


@dataclass(frozen=True, slots=True)
class Glimpse:
    """Words of one stretch of a caller's audio, and when they were found (seconds)."""

    turn: int
    start_ms: int
    until_ms: int
    text: str
    heard: float
    known: float
    hum: bool = False
    """It sounds like a hum, whatever words were made of it."""


class Listener(Protocol):
    """What a cascade needs to know of a caller's words; `Listening` tells what each is for."""

    @property
    def last(self) -> Glimpse | None: ...
    def started(self, at_ms: int) -> None: ...
    def pausing(self, turn: int, start_ms: int, end_ms: int) -> None: ...
    def ended(self) -> None: ...
    def grew(self) -> None: ...
    async def words(self, turn: int, start_ms: int, end_ms: int) -> Glimpse: ...
    async def close(self) -> None: ...


class Listening:
    """One call's."""

    def __init__(
        self,
        stt: Stt,
        hearing: Hearing,
        tasks: asyncio.TaskGroup,
        told: Callable[[Glimpse], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`told` is called with every glimpse, on the event loop; `tasks` are the call's."""
        self._stt, self._hearing, self._tasks = stt, hearing, tasks
        self._told, self._clock = told, clock
        self._turn = self._start_ms = 0
        self._left = 0  # glimpses until there must be another sign of speech
        self._due_ms = 0
        self._pause_ms: int | None = None  # the voice stopped there; not looked at yet
        self._looks = (-1, 0)  # at the silence that begins there, so many times before
        self._until_ms = 0  # what the transcription under way holds
        self._task: asyncio.Task[None] | None = None
        self._idle_glimpse = False  # it is one, and its audio isn't cut yet
        self._last: Glimpse | None = None

    @property
    def last(self) -> Glimpse | None:
        """What is known of what he is saying."""
        return self._last

    def started(self, at_ms: int) -> None:
        """The caller began to speak."""
        self._turn, self._start_ms, self._last = 0, at_ms, None
        self._left, self._pause_ms = 1000, None
        self._due_ms = at_ms + FIRST_MS

    def pausing(self, turn: int, start_ms: int, end_ms: int) -> None:
        """He has just stopped; his words since `start_ms` are wanted."""
        self._turn, self._start_ms = turn, start_ms
        self._left = AFTER_PAUSE
        before, looks = self._looks
        self._looks = (end_ms, looks + 1 if before == end_ms else 0)
        if self._task is not None and self._idle_glimpse:
            self._task.cancel()  # it waits where the pause goes first
            self._task = None
        if self._task is None:
            self._look(Rank.PAUSE)
        else:
            self._pause_ms = end_ms

    def ended(self) -> None:
        """He has said what he had to say: no more glimpses until he begins again."""
        self._left, self._pause_ms = 0, None

    def grew(self) -> None:
        """More audio has come."""
        if self._left and self._task is None and self._hearing.end_ms >= self._due_ms:
            self._left -= 1
            self._look(Rank.GLIMPSE)

    async def words(self, turn: int, start_ms: int, end_ms: int) -> Glimpse:
        """What was said between two times. Raises `EngineError`."""
        soon = self._until_ms >= end_ms + TAIL_MS or self._pause_ms is not None
        if self._known(start_ms, end_ms) is None and self._task is not None and soon:
            await asyncio.wait([self._task])
        if (known := self._known(start_ms, end_ms)) is not None:
            return known
        heard = self._clock()
        until_ms = min(end_ms + POST_ROLL_MS, self._hearing.end_ms)
        text = await self._stt.transcribe(self._hearing.cut(start_ms - PRE_ROLL_MS, until_ms))
        found = Glimpse(turn, start_ms, until_ms, text, heard, self._clock())
        self._last = found
        return found

    def _known(self, start_ms: int, end_ms: int) -> Glimpse | None:
        last = self._last
        holds = last and last.start_ms == start_ms and last.until_ms >= end_ms + TAIL_MS
        return last if holds else None

    async def close(self) -> None:
        """Stop at once."""
        self.ended()
        if self._task is not None:
            self._task.cancel()

    def _look(self, rank: Rank) -> None:
        self._until_ms = self._hearing.end_ms
        self._idle_glimpse = rank is Rank.GLIMPSE
        self._task = self._tasks.create_task(self._work(rank), name="glimpse")

    async def _work(self, rank: Rank) -> None:
        try:
            await self._glimpse(rank)
            while self._pause_ms is not None:  # he stopped meanwhile
                self._pause_ms = None
                await self._glimpse(Rank.PAUSE)
        except EngineError as error:  # whoever needs the words meets it again, and says so
            log.warning("a glimpse of the caller's words failed: %s", error)
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    async def _glimpse(self, rank: Rank) -> None:
        heard = start_ms = 0.0
        hum = False

        def cut() -> Pcm | None:
            nonlocal heard, start_ms, hum
            self._idle_glimpse = False
            if not self._left and rank is Rank.GLIMPSE:
                return None
            heard, start_ms = self._clock(), self._start_ms
            self._until_ms = self._hearing.end_ms
            self._due_ms = self._until_ms + EVERY_MS
            self._pause_ms = None  # he stopped before now
            pcm = self._hearing.cut(self._start_ms - PRE_ROLL_MS, self._until_ms)
            hum = is_hum(pcm, self._stt.rate)
            return read_as(pcm, self._stt.rate, self._looks[1] if rank is Rank.PAUSE else 0)

        until_turn = self._turn
        text = await self._stt.glimpse(cut, rank)
        if text is None or self._start_ms != start_ms:
            return
        turn = self._turn or until_turn
        self._last = Glimpse(turn, self._start_ms, self._until_ms, text, heard, self._clock(), hum)
        self._told(self._last)
