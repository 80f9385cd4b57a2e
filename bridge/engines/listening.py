"""What a caller is saying, while he says it: transcripts of his growing turn.

    SpeechStarted  glimpses begin: the first `FIRST_MS` into the speech, then every `EVERY_MS`, as
                   far as the speech-to-text has time for them; where lulls are wanted, also one as
                   soon as his voice may have stopped (`bridge.engines.lull`)
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
from bridge.engines.lull import Lull
from bridge.engines.parts import Stt
from bridge.engines.stt_queue import Rank
from bridge.errors import EngineError

log = logging.getLogger(__name__)

FIRST_MS, EVERY_MS = 240, 300

AFTER_PAUSE = 4
"""Glimpses behind a pause without another one: a second of speech."""

PRE_ROLL_MS, POST_ROLL_MS = 240, 120
"""Audio around a turn that goes with it: the detector is late at soft beginnings and ends."""

TAIL_MS, LULL_TAIL_MS = 40, 20
"""Of silence that a transcript must hold behind the last voice to stand for the whole turn; the
second where lulls are looked at: words behind which 20 ms were heard are right no less often than
those with 80 (52 and 49 of 92 sentences)."""

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


def _goes_on(text: str) -> bool:
    """Whether it was read as half of a sentence, as happens where little silence is behind it."""
    return text.endswith(",")


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
    tail_ms: int = TAIL_MS

    def holds(self, start_ms: int, end_ms: int) -> bool:
        """Whether these are all words that were said between these times."""
        return self.start_ms == start_ms and self.until_ms >= end_ms + self.tail_ms


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
        lull: Lull | None = None,
    ) -> None:
        """`told` is called with every glimpse, on the event loop; `tasks` are the call's. With a
        `lull` a caller's words are mostly known 40 ms sooner, for a transcription more a turn."""
        self._stt, self._hearing, self._tasks = stt, hearing, tasks
        self._told, self._clock = told, clock
        self._lull, self._tail_ms = lull, TAIL_MS if lull is None else LULL_TAIL_MS
        self._turn = self._start_ms = 0
        self._left = self._lulls_left = 0  # glimpses until there must be another sign of speech
        self._due_ms = 0
        self._pause_ms: int | None = None  # the voice stopped there; not looked at yet
        self._looks = (-1, 0)  # at the silence that begins there, so many times before
        self._from_ms = self._until_ms = 0  # what the transcription under way holds
        self._task: asyncio.Task[None] | None = None
        self._shows = False  # it is a lull's, and stands for the pause behind it
        self._waits: Rank | None = None  # it is less than a pause, and its audio isn't cut yet
        self._last: Glimpse | None = None

    @property
    def last(self) -> Glimpse | None:
        """What is known of what he is saying."""
        return self._last

    def started(self, at_ms: int) -> None:
        """The caller began to speak."""
        self._turn, self._start_ms, self._last = 0, at_ms, None
        self._left = self._lulls_left = 1000
        self._pause_ms = None
        self._due_ms = at_ms + FIRST_MS
        if self._lull is not None:
            self._lull.began(at_ms)

    def pausing(self, turn: int, start_ms: int, end_ms: int) -> None:
        """He has just stopped; his words since `start_ms` are wanted."""
        self._turn, self._start_ms = turn, start_ms
        self._left = self._lulls_left = AFTER_PAUSE
        before, looks = self._looks
        self._looks = (end_ms, looks + 1 if before == end_ms else 0)
        if self._lull is not None and before != end_ms and self._shown(start_ms, end_ms):
            return
        self._give_up()
        if self._task is None:
            self._look(self._pause_rank)
        else:
            self._pause_ms = end_ms

    def ended(self) -> None:
        """He has said what he had to say: no more glimpses until he begins again."""
        self._left = self._lulls_left = 0
        self._pause_ms = None
        self._shows = False

    def grew(self) -> None:
        """More audio has come."""
        if self._lulls_left and self._lull is not None and self._lull.grew(self._hearing):
            if self._waits is Rank.GLIMPSE:
                self._give_up()
            if self._task is None:
                self._lulls_left -= 1
                self._look(Rank.LULL)
        elif self._left and self._task is None and self._hearing.end_ms >= self._due_ms:
            self._left -= 1
            self._look(Rank.GLIMPSE)

    async def words(self, turn: int, start_ms: int, end_ms: int) -> Glimpse:
        """What was said between two times. Raises `EngineError`."""
        soon = self._until_ms >= end_ms + self._tail_ms or self._pause_ms is not None
        if self._known(start_ms, end_ms) is None and self._task is not None and soon:
            await asyncio.wait([self._task])
        if (known := self._known(start_ms, end_ms)) is not None:
            return known
        heard = self._clock()
        until_ms = min(end_ms + POST_ROLL_MS, self._hearing.end_ms)
        text = await self._stt.transcribe(self._hearing.cut(start_ms - PRE_ROLL_MS, until_ms))
        found = Glimpse(turn, start_ms, until_ms, text, heard, self._clock(), tail_ms=self._tail_ms)
        self._last = found
        return found

    def _known(self, start_ms: int, end_ms: int) -> Glimpse | None:
        last = self._last
        return last if last is not None and last.holds(start_ms, end_ms) else None

    def _shown(self, start_ms: int, end_ms: int) -> bool:
        """Whether a lull has shown what the pause is looked at for, or does so just now."""
        if self._task is None or self._waits is not None:
            known = self._known(start_ms, end_ms)
            return known is not None and not _goes_on(known.text)
        self._shows = self._from_ms == start_ms and self._until_ms >= end_ms + self._tail_ms
        return self._shows

    async def close(self) -> None:
        """Stop at once."""
        self.ended()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    @property
    def _pause_rank(self) -> Rank:
        """Of a look at the present silence."""
        return Rank.AGAIN if self._looks[1] else Rank.PAUSE

    def _give_up(self) -> None:
        """What still waits for the model, if that is less than a pause: another goes first."""
        if self._task is not None and self._waits is not None:
            self._task.cancel()
            self._task = self._waits = None

    def _look(self, rank: Rank) -> None:
        self._until_ms = self._hearing.end_ms
        self._waits = rank if rank > Rank.PAUSE else None
        self._shows = False
        self._task = self._tasks.create_task(self._work(rank), name="glimpse")

    async def _work(self, rank: Rank) -> None:
        try:
            await self._glimpse(rank)
            if self._shows and self._last is not None and _goes_on(self._last.text):
                self._pause_ms = self._last.until_ms
            while self._pause_ms is not None:  # he stopped meanwhile
                self._pause_ms = None
                await self._glimpse(self._pause_rank)
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
            self._waits = None
            if rank >= Rank.LULL and not (self._left or self._lulls_left):
                return None
            if self._lull is not None:
                if rank is Rank.LULL and not self._lull.lasts:
                    return None  # he has gone on, while the model was busy
                self._lull.looked()
            heard, start_ms = self._clock(), self._start_ms
            self._from_ms = self._start_ms
            self._until_ms = self._hearing.end_ms
            self._due_ms = self._until_ms + EVERY_MS
            self._pause_ms = None  # he stopped before now
            pcm = self._hearing.cut(self._start_ms - PRE_ROLL_MS, self._until_ms)
            hum = is_hum(pcm, self._stt.rate)
            look = self._looks[1] if rank in (Rank.PAUSE, Rank.AGAIN) else 0
            return read_as(pcm, self._stt.rate, look)

        until_turn = self._turn
        text = await self._stt.glimpse(cut, rank)
        if text is None or self._start_ms != start_ms:
            return
        turn = self._turn or until_turn
        known = self._clock()
        self._last = Glimpse(
            *(turn, self._start_ms, self._until_ms, text, heard, known, hum, self._tail_ms)
        )
        self._told(self._last)
