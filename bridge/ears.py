"""Which of the frames that the first stage took for speech hold a voice: the calls of a worker.

Theory of operation. A call opens an `Ear` and gives it every frame with the first stage's decision.
While that fires, and `AFTER_MS` behind it, the frames go to the neural stage: what all calls have
brought in one round of the event loop is judged together at its end. When it begins to fire, the
last `BEFORE_MS` go first. A line that is silent costs next to nothing.

A verdict is at most 32 ms of audio and one delivery old. In the first `DOUBT_MS` of an onset the
network hasn't heard enough, and what is loud counts as speech. Later a voice is there from `on` on,
until the probability falls below `on - HYSTERESIS`.

Voices in the background are voices to the network. What tells them from the caller is that they are
farther away: their loudest syllables stay `FAR_DB` below his. How loud he is, is learnt from his
turns; until then he is supposed to be as loud as people are on telephones (ITU-T P.56 measures
-26 dB for them on the average, their loudest syllables are 6 to 11 dB above that). `NEAR_MS` of a
voice have to be heard before it can be far, and `CERTAIN_MS` of certainty before it is his. Of a
cough the network makes a little of a voice for a while, of a word it is sure at once: certainty is
its probability above `on`, over the time for which it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bridge.audio.neural import CHUNK, CHUNK_MS, RATE, Network, NeuralBank, load
from bridge.audio.resample import ResamplerBank
from bridge.audio.speech import level_db
from bridge.media.base import FRAME_MS

log = logging.getLogger(__name__)

BEFORE_MS, AFTER_MS, DOUBT_MS = 100, 400, 60
HYSTERESIS = 0.15
FAR_DB, OWN_DB, NEAR_MS = 12.5, -14.5, 256
"""dB of full scale, for the mean over `_LOUDEST` chunks of `CHUNK_MS`."""
CERTAIN_MS, FORGOTTEN_MS = 150, 230
"""Tuning half: at most 127 of coughs and noises (190 of one piece of music), at least 179 of words.
Without a voice for so long it begins anew."""
_LOUDEST, _RECENT = 3, 24
_FRAME = RATE * FRAME_MS // 1000
_STEP = 64
"""Lanes are made so many at a time."""


class Ear:
    """One call's."""

    def __init__(self, ears: Ears, lane: int, rate: int, sensitivity: float) -> None:
        """Made by `Ears.open`."""
        self._ears, self.lane, self.rate = ears, lane, rate
        self._on = 0.5 + 0.6 * (0.5 - sensitivity)
        self._before: deque[NDArray[np.int16]] = deque(maxlen=BEFORE_MS // FRAME_MS)
        self._left_ms = 0  # to listen on behind the last frame that fired
        self._heard_ms = 0  # of this stretch, by the network
        self._voice = False
        self._certain_ms = self._without_ms = 0.0
        self._own_db = OWN_DB
        self._known = False  # that is his, not a supposition
        self._level_db: deque[float] = deque(maxlen=_RECENT)  # of chunks with a voice

    def hear(self, pcm: NDArray[np.int16], fired: Sequence[bool]) -> None:
        """Frames (n, samples) at the ear's rate, and the first stage's decisions (n,)."""
        if not self._ears.knows(self):
            return
        for frame, loud in zip(pcm, fired, strict=True):
            if not loud and self._left_ms <= 0:
                self._before.append(frame.copy())
                continue
            if self._left_ms <= 0:
                self._begin()
            self._left_ms = AFTER_MS if loud else self._left_ms - FRAME_MS
            self._ears.take(self, frame)

    @property
    def voice(self) -> bool:
        """Whether what the first stage takes for speech now is to count as speech."""
        return self._heard_ms < DOUBT_MS or self._voice

    @property
    def near(self) -> bool | None:
        """Whether there is a voice, and the caller's own; False: somebody's in the background;
        None: nobody can tell yet."""
        loud = bool(self._level_db) and self._loudest_db() >= self._own_db - FAR_DB
        if loud and self._certain_ms >= CERTAIN_MS:
            return True
        return None if loud or len(self._level_db) < NEAR_MS // CHUNK_MS else False

    def his_own(self) -> None:
        """What was heard last was a turn of the caller's."""
        if len(self._level_db) >= _LOUDEST:
            loudest = self._loudest_db()
            self._own_db = (self._own_db + loudest) / 2 if self._known else loudest
            self._known = True

    def judged(self, likely: float, level_db: float) -> None:
        """What the network says of the next chunk, and its level in dB of full scale."""
        self._heard_ms += CHUNK_MS
        self._voice = likely >= (self._on - HYSTERESIS if self._voice else self._on)
        if self._voice:
            self._level_db.append(level_db)
            self._certain_ms += max(0.0, likely - self._on) / (1 - self._on) * CHUNK_MS
            self._without_ms = 0.0
        else:
            self._without_ms += CHUNK_MS
            if self._without_ms >= FORGOTTEN_MS:
                self._certain_ms = 0.0

    def _loudest_db(self) -> float:
        loudest = sorted(self._level_db)[-_LOUDEST:]
        return sum(loudest) / len(loudest)

    def close(self) -> None:
        """Give the lane back; idempotent."""
        self._ears.give_back(self)

    def _begin(self) -> None:
        self._heard_ms = 0
        self._voice = False
        self._certain_ms = 0.0
        self._level_db.clear()
        self._ears.reset(self)
        # What came before is heard too, but says nothing of the onset: the doubt begins behind it.
        self._heard_ms = -len(self._before) * FRAME_MS
        for frame in self._before:
            self._ears.take(self, frame)
        self._before.clear()


class Ears:
    """The neural stage of a worker; without the model it opens no ears, and the first stage alone
    decides."""

    def __init__(
        self,
        network: Network | None = None,
        soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """`network`: another than the packaged one; `soon` has `flush` called at the end of the
        round, the event loop's by default."""
        self._network = network
        self._soon = soon or _soon
        self._bank: NeuralBank | None = None
        self._lanes = 0
        self._free: list[int] = []
        self._ears: dict[int, Ear] = {}
        self._frames: dict[Ear, list[NDArray[np.int16]]] = {}
        self._rest: dict[int, NDArray[np.int16]] = {}  # of each lane, less than a chunk
        self._down: dict[int, ResamplerBank] = {}

    def load(self) -> None:
        """Load the model, or say once why there is none."""
        if self._network is not None:
            return
        try:
            self._network = load()
        except ImportError as error:
            log.warning(
                "no neural speech detector (%s): coughs and noises may interrupt agents; "
                "pip install 'ari-bridge[offline]'",
                error,
            )

    def open(self, rate: int, sensitivity: float) -> Ear | None:
        """An ear for a call whose frames have `rate` Hz; None: there is no model."""
        if self._network is None:
            return None
        if not self._free:
            self._grow()
        ear = Ear(self, self._free.pop(), rate, sensitivity)
        self._ears[ear.lane] = ear
        self.reset(ear)
        return ear

    def knows(self, ear: Ear) -> bool:
        """Whether that ear is open."""
        return self._ears.get(ear.lane) is ear

    def take(self, ear: Ear, frame: NDArray[np.int16]) -> None:
        """A frame to be judged at the end of this round of the loop."""
        if not self._frames:
            self._soon(self.flush)
        self._frames.setdefault(ear, []).append(frame)

    def reset(self, ear: Ear) -> None:
        """A new stretch of audio begins."""
        assert self._bank is not None
        self._bank.reset(ear.lane)
        self._rest[ear.lane] = np.zeros(0, np.int16)
        if ear.rate in self._down:
            self._down[ear.rate].reset(ear.lane)

    def give_back(self, ear: Ear) -> None:
        """The call is over."""
        if self.knows(ear):
            del self._ears[ear.lane]
            self._frames.pop(ear, None)
            self._free.append(ear.lane)

    def flush(self) -> None:
        """Judge what has come."""
        taken, self._frames = self._frames, {}
        for count, rate in sorted({(len(frames), ear.rate) for ear, frames in taken.items()}):
            some = [e for e, f in taken.items() if len(f) == count and e.rate == rate]
            pcm = np.stack([np.concatenate(taken[ear]) for ear in some])
            lanes = np.array([ear.lane for ear in some], np.intp)
            for lane, line in zip(lanes.tolist(), self._to_line(lanes, pcm, rate), strict=True):
                self._rest[lane] = np.concatenate([self._rest[lane], line])
        ready = list(taken)
        while ready := [ear for ear in ready if len(self._rest[ear.lane]) >= CHUNK]:
            self._judge(ready)

    def _judge(self, ears: list[Ear]) -> None:
        assert self._bank is not None
        lanes = np.array([ear.lane for ear in ears], np.intp)
        chunk = np.stack([self._rest[ear.lane][:CHUNK] for ear in ears])
        judged = zip(ears, self._bank.judge(lanes, chunk).tolist(), level_db(chunk), strict=True)
        for ear, likely, level in judged:
            self._rest[ear.lane] = self._rest[ear.lane][CHUNK:]
            ear.judged(likely, float(level))

    def _to_line(
        self, lanes: NDArray[np.intp], pcm: NDArray[np.int16], rate: int
    ) -> NDArray[np.int16]:
        if rate == RATE:
            return pcm
        if rate not in self._down:
            self._down[rate] = ResamplerBank(rate, RATE, self._lanes)
        return self._down[rate].process(lanes, pcm)

    def _grow(self) -> None:
        """More lanes; what the present ones have heard is kept."""
        assert self._network is not None
        old, before = self._bank, self._lanes
        self._lanes += _STEP
        self._bank = NeuralBank(self._network, self._lanes)
        if old is not None:
            self._bank.keep(old)
        self._down.clear()  # 2 ms of memory a call
        self._free += range(before, self._lanes)


def _soon(flush: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(flush)
