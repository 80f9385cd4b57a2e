"""Which of the frames that the first stage took for speech hold a voice: the calls of a worker.

Theory of operation. Media's reader gives `Ears` what came on the lines of all calls in one round,
with the first stage's decisions, when the calls themselves have had it; a call's *lane* is the
number of its slot. The last quarter of a second of each lane is kept. While the first stage fires,
its chunks go through the network, those of all lanes together; when it begins to fire, and after a
gap, the last `BEFORE_MS` go first. A line that is silent costs next to nothing. What fires again
within `AFTER_MS` is the same stretch of sound.

A verdict is 32 ms of audio and one delivery old at most (of more than `FEW` calls, two; where no
voice can interrupt anybody, four). In the first `DOUBT_MS` of an onset the network hasn't heard
enough, and what is loud counts as speech.
Later a voice is there from `on` on, until the probability falls below `on - HYSTERESIS`. The
caller's own voice, of which the network is `SURE`, is only looked at again `SKIP` chunks later:
what may follow it is mostly more of it, or silence, which the first stage hears. A call that knows
`enough` of a stretch (its bot hears for itself, and can't be interrupted by voice) has no more of
it judged at all.

Voices in the background are voices to the network. What tells them from the caller is that they are
farther away: their loudest syllables stay `FAR_DB` below his. How loud he is, is learnt from his
turns; until then he is supposed to be as loud as people are on telephones (ITU-T P.56 measures
-26 dB for them on the average, their loudest syllables are 6 to 11 dB above that). `NEAR_MS` of a
voice have to be heard before it can be far, and `CERTAIN_MS` of certainty before it is his. Of a
cough the network makes a little of a voice for a while, of a word it is sure at once: certainty is
its probability above `on`, over the time for which it lasts.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.columns import Column, heap, reset
from bridge.audio.neural import CHUNK, CHUNK_MS, CONTEXT, RATE, Network, NeuralBank, load
from bridge.audio.resample import ResamplerBank
from bridge.audio.speech import level_db
from bridge.media.base import FRAME_MS

log = logging.getLogger(__name__)

BEFORE_MS, AFTER_MS, DOUBT_MS = 100, 400, 60
HYSTERESIS = 0.15
SURE, SKIP = 0.9, 2
FEW = 32
"""Calls that are judged with every delivery (of which media makes one in 10 ms). More are judged
with every other: where the caches are cold, a run of the network costs as much as ten more chunks
in it."""
MANY, PATIENT = 2, 4
"""So many deliveries of more calls are judged together; and where none of them is in a hurry."""
FAR_DB, OWN_DB, NEAR_MS = 12.5, -14.5, 256
"""dB of full scale, for the mean over `_LOUDEST` chunks of `CHUNK_MS`."""
CERTAIN_MS, FORGOTTEN_MS = 90, 230
"""Tuning half: of 208 noises one cough has more (112, the next 83), of 230 interruptions one has
less (65, the next 116). Without a voice for so long it begins anew."""
_LOUDEST, _RECENT = 3, 24
_FRAME = RATE * FRAME_MS // 1000
_BEFORE = RATE * BEFORE_MS // 1000
_FRAMES = 16
"""Kept of each lane: more than what is looked back at, and what waits to be a chunk."""
_KEPT = _FRAMES * _FRAME
_AUDIO, _SKIPPED = np.arange(-CONTEXT, CHUNK), np.arange(SKIP * CHUNK)

_FAR, _NEAR, _UNKNOWN = 0, 1, -1

_SPEC = {
    "listening": Column("?"),
    "heard": Column("?"),
    "enough": Column("?"),
    "hurries": Column("?"),
    "on": Column("f4"),
    "audio": Column("i2", 0, (_FRAMES, _FRAME)),
    "end": Column("i8"),
    "judged": Column("i8"),
    "left_ms": Column("i4"),
    "heard_ms": Column("i4"),
    "voiced": Column("?"),
    "wanted": Column("i4", CHUNK),
    "level_db": Column("f4", -np.inf, (_RECENT,)),
    "levels": Column("i4"),
    "certain_ms": Column("f4"),
    "certain_at": Column("i8"),
    "own_db": Column("f4", OWN_DB),
    "known": Column("?"),
    "voice": Column("?", 1),
    "near": Column("i1", _UNKNOWN),
    "verdict": Column("i1", 2 * _UNKNOWN + 1),
}
"""Of each lane: whether anybody listens; whether there is news; whether enough was heard of the
stretch; whether a voice interrupts somebody; what counts as one; audio up to `end` at `RATE` (a
ring), of which all up to `judged` was judged; what is left of the stretch; what the network has
heard of it; how much is judged next; the levels of its last chunks with a voice; the certainty, and
up to where it was added to; how loud its caller is; what its `Ear` says, and said when that was
told last."""


class Ear:
    """One call's."""

    def __init__(self, ears: Ears, lane: int) -> None:
        """Made by `Ears.open`."""
        self._ears, self.lane = ears, lane

    @property
    def voice(self) -> bool:
        """Whether what the first stage takes for speech now is to count as speech."""
        return bool(self._ears.voice.item(self.lane))

    @property
    def near(self) -> bool | None:
        """Whether there is a voice, and the caller's own; False: somebody's in the background;
        None: nobody can tell yet."""
        near = self._ears.near.item(self.lane)
        return None if near == _UNKNOWN else bool(near)

    def his_own(self) -> None:
        """What was heard last was a turn of the caller's."""
        self._ears.learn(self.lane)

    def enough(self) -> None:
        """Nobody needs to know more of this stretch of sound than that there is a voice in it."""
        self._ears.believe(self.lane)

    def close(self) -> None:
        """The call is over; idempotent."""
        self._ears.give_back(self)


class Ears:
    """The neural stage of a worker; without the model it opens no ears, and the first stage alone
    decides."""

    def __init__(self, network: Network | None = None, few: int = FEW) -> None:
        """`network`: another than the packaged one; `few`: so many calls are judged with every
        delivery."""
        self._network, self._few = network, few
        self._bank: NeuralBank | None = None
        self._open: dict[int, Ear] = {}
        self._down: dict[int, ResamplerBank] = {}
        self._columns: dict[str, NDArray[Any]] = {}
        self._lanes = 0
        self._turn = 0
        self._grow(0)

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

    def open(self, lane: int, sensitivity: float, *, hurries: bool = True) -> Ear | None:
        """An ear for the call in that lane; None: there is no model.

        `hurries`: a voice interrupts somebody.
        """
        if self._network is None:
            return None
        if lane >= self._lanes:
            self._grow(max(lane + 1, 2 * self._lanes, 64))
        ear = self._open[lane] = Ear(self, lane)
        reset(_SPEC, self._columns, lane)
        self._listening[lane] = True
        self._hurries[lane] = hurries
        self._on[lane] = 0.5 + 0.6 * (0.5 - sensitivity)
        for bank in self._down.values():
            bank.reset(lane)
        return ear

    def give_back(self, ear: Ear) -> None:
        """The call is over."""
        if self._open.get(ear.lane) is ear:
            del self._open[ear.lane]
            self._listening[ear.lane] = self._hurries[ear.lane] = False

    def hear(
        self,
        lanes: NDArray[np.intp],
        rate: int,
        pcm: NDArray[np.int16],
        fired: NDArray[np.bool_],
    ) -> NDArray[np.intp] | None:
        """What came on some lanes; those that aren't open are passed over.

        Returns the lanes whose `Ear` says something else than after the last time.

        Args:
            lanes: (k,), each at most once.
            rate: of the lines, Hz.
            pcm: (k, n * samples of a frame).
            fired: (k, n), the first stage's decisions.
        """
        if not self._open:
            return None
        mine = lanes < self._lanes
        mine[mine] = self._listening[lanes[mine]]
        if not mine.all():
            lanes, pcm, fired = lanes[mine], pcm[mine], fired[mine]
        if not len(lanes):
            return None
        if rate != RATE:
            if rate not in self._down:
                self._down[rate] = ResamplerBank(rate, RATE, self._lanes)
            pcm = self._down[rate].process(lanes, pcm)
        self._turn += 1
        together = 1
        if len(self._open) > self._few:
            together = MANY if self._hurries.any() else PATIENT
        for n in range(fired.shape[1]):
            self._frame(lanes, pcm[:, n * _FRAME : (n + 1) * _FRAME], fired[:, n])
            # What comes late and together must not push out what waits.
            if n or not self._turn % together:
                self._judge_all()
        verdict = 2 * self.near + self.voice
        changed = np.flatnonzero((verdict != self._verdict) & self._listening)
        self._verdict[changed] = verdict[changed]
        return changed

    def learn(self, lane: int) -> None:
        """What was heard last on a lane was a turn of its caller's."""
        if self._levels[lane] >= _LOUDEST:
            loudest = _loudest(self._level_db[lane])
            known = self._known[lane]
            self._own_db[lane] = (self._own_db[lane] + loudest) / 2 if known else loudest
            self._known[lane] = True
            self._tell_near(np.array([lane]))

    def believe(self, lane: int) -> None:
        """Of the present stretch on a lane enough was heard."""
        self._enough[lane] = self.voice[lane] = True
        self._heard[lane] = False

    def _frame(
        self, lanes: NDArray[np.intp], frame: NDArray[np.int16], fired: NDArray[np.bool_]
    ) -> None:
        """One frame of each lane."""
        end = self._end[lanes]
        self._audio[lanes, end // _FRAME % _FRAMES] = frame
        self._end[lanes] = end + _FRAME
        left_ms = self._left_ms[lanes]
        over = left_ms <= 0
        self._left_ms[lanes] = np.where(fired, AFTER_MS, left_ms - FRAME_MS)
        ends = ~fired & (left_ms == FRAME_MS)
        if ends.any():  # what comes next is another stretch
            self.voice[lanes[ends]] = True
            self.near[lanes[ends]] = _UNKNOWN
        if not fired.any():
            return
        heard, end = lanes[fired], end[fired]
        self._judged[heard] = np.maximum(self._judged[heard], end - _BEFORE)
        if (begins := over[fired]).any():
            self._begin(heard[begins], end[begins])
        self._heard[heard] = ~self._enough[heard]

    def _begin(self, lanes: NDArray[np.intp], end: NDArray[np.int64]) -> None:
        """Another stretch, in the frame that begins at `end` (samples)."""
        assert self._bank is not None
        self._bank.reset(lanes)
        # What came before is heard too, but says nothing of the onset: the doubt begins behind it.
        self._heard_ms[lanes] = (self._judged[lanes] - end) * 1000 // RATE
        self._voiced[lanes] = self._enough[lanes] = False
        self._levels[lanes] = self._certain_ms[lanes] = 0
        self._wanted[lanes] = CHUNK
        self.near[lanes] = _UNKNOWN
        self._level_db[lanes] = -np.inf

    def _judge_all(self) -> None:
        """What has come and wasn't judged yet, as far as it is whole chunks."""
        lanes = np.flatnonzero(self._heard)
        self._heard[lanes] = False
        while len(lanes := lanes[self._end[lanes] - self._judged[lanes] >= self._wanted[lanes]]):
            if len(sure := lanes[self._wanted[lanes] > CHUNK]):
                self._believe(sure)
            self._judge(lanes)

    def _judge(self, lanes: NDArray[np.intp]) -> None:
        """The next chunk of each lane."""
        assert self._bank is not None
        at = (self._judged[lanes, None] + _AUDIO) % _KEPT
        audio = self._audio.reshape(len(self._audio), -1)[lanes[:, None], at]
        self._judged[lanes] += CHUNK
        likely, on = self._bank.judge(lanes, audio), self._on[lanes]
        voiced = likely >= np.where(self._voiced[lanes], on - HYSTERESIS, on)
        self._voiced[lanes] = voiced
        self._heard_ms[lanes] += CHUNK_MS
        self.voice[lanes] = voiced | (self._heard_ms[lanes] < DOUBT_MS)
        over = self._judged[lanes] - self._certain_at[lanes] > FORGOTTEN_MS * RATE // 1000
        over &= self._certain_ms[lanes] > 0
        if over.any():
            some = lanes[over]
            self._certain_ms[some] = 0
            self._tell_near(some)
        if voiced.any():
            some = lanes[voiced]
            gain = (likely[voiced] - on[voiced]) / (1 - on[voiced])
            self._certain_ms[some] += CHUNK_MS * np.maximum(gain, 0)
            self._certain_at[some] = self._judged[some]
            self._level_db[some, self._levels[some] % _RECENT] = level_db(audio[voiced, CONTEXT:])
            self._levels[some] += 1
            self._tell_near(some)
        sure = voiced & (likely >= SURE) & (self.near[lanes] == _NEAR)
        self._wanted[lanes] = np.where(sure, (SKIP + 1) * CHUNK, CHUNK)

    def _believe(self, lanes: NDArray[np.intp]) -> None:
        """The next `SKIP` chunks of some lanes hold the voice that the network was sure of."""
        at = (self._judged[lanes, None] + _SKIPPED) % _KEPT
        audio = self._audio.reshape(len(self._audio), -1)[lanes[:, None], at]
        places = (self._levels[lanes, None] + np.arange(SKIP)) % _RECENT
        self._level_db[lanes[:, None], places] = level_db(audio.reshape(-1, CHUNK)).reshape(
            -1, SKIP
        )
        self._levels[lanes] += SKIP
        self._judged[lanes] += SKIP * CHUNK
        self._certain_at[lanes] = self._judged[lanes]
        self._heard_ms[lanes] += SKIP * CHUNK_MS

    def _tell_near(self, lanes: NDArray[np.intp]) -> None:
        early = self._levels[lanes] < NEAR_MS // CHUNK_MS
        loud = _loudest(self._level_db[lanes]) >= self._own_db[lanes] - FAR_DB
        certain = loud & (self._certain_ms[lanes] >= CERTAIN_MS)
        self.near[lanes] = np.where(certain, _NEAR, np.where(early | loud, _UNKNOWN, _FAR))

    def _grow(self, lanes: int) -> None:
        """So many lanes; what the present ones have heard is kept."""
        if self._network is not None:
            bank = NeuralBank(self._network, lanes)
            if self._bank is not None:
                bank.keep(self._bank)
            self._bank = bank
        self._down.clear()  # 2 ms of memory a call
        for name, column in heap(_SPEC, lanes).items():
            if self._lanes:
                column[: self._lanes] = self._columns[name]
            self._columns[name] = column
        c = self._columns
        self.voice, self.near, self._verdict = c["voice"], c["near"], c["verdict"]
        self._listening, self._on, self._heard = c["listening"], c["on"], c["heard"]
        self._enough, self._hurries = c["enough"], c["hurries"]
        self._audio, self._end, self._judged = c["audio"], c["end"], c["judged"]
        self._left_ms, self._heard_ms = c["left_ms"], c["heard_ms"]
        self._voiced, self._wanted = c["voiced"], c["wanted"]
        self._level_db, self._levels = c["level_db"], c["levels"]
        self._certain_ms = c["certain_ms"]
        self._certain_at = c["certain_at"]
        self._own_db, self._known = c["own_db"], c["known"]
        self._lanes = lanes


def _loudest(level_db: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the loudest few of (..., n)."""
    mean: NDArray[np.float32] = np.sort(level_db, axis=-1)[..., -_LOUDEST:].mean(axis=-1)
    return mean
