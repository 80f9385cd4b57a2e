"""First-stage speech detector: the frame's level against the line's own noise floor.

Cheap enough for every frame of every call (a few vector operations a batch); meant to miss nothing,
not to be always right: what it fires on is judged again above. The floor is the quietest frame of
the last 2 to 2.6 s (Martin's minimum statistics, in four windows): a noisy line is known for one
after the first 640 ms, and a voice, which has a closure or a breath in every two seconds, does not
become its own floor. Frames of digital silence (nothing was sent, or lost) say nothing of it: until
640 ms of sound stand in the windows the floor may fall but not rise, so that a word out of such
silence isn't taken for the noise of its line.

`judge` compares each frame with a limit that stands ready; what it says of the floor is noted, and
`learn`, every few frames, makes new limits of all that was noted: so a floor costs a fraction of an
operation a batch, and is a few frames old.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from bridge.audio.columns import Column, Columns

ABOVE_DB = 9.0
"""Above the floor is speech."""
LEAST_DB = -46.0
"""Of full scale: nothing quieter is speech, whatever the floor."""
SILENT_DB = -96.0
"""Digital silence."""
START_DB = -55.0
LOWEST_DB = -70.0
NOTHING_DB = -75.0
"""No line is so quiet: what is quieter was never on it."""
WINDOWS, FRAMES = 4, 32
_MOST_NOTED = 32
"""Batches: a flood must not fill the memory."""

SPEC = {
    "s_floor_db": Column("f4", START_DB),
    "s_speech": Column("?"),
    "s_limit_db": Column("f4", LEAST_DB),
    "s_above_db": Column("f4", ABOVE_DB),
    "s_least_db": Column("f4", LEAST_DB),
    "s_frames": Column("i8"),
    "s_quiet_db": Column("f4", np.inf, (WINDOWS,)),
    "s_sounds": Column("u1", 0, (WINDOWS,)),
}
_FULL_SCALE_DB = np.float32(20 * np.log10(32768))
_LEAST = np.float32(2.5e-10 * 32768**2)  # a little below SILENT_DB


def thresholds(sensitivity: float) -> tuple[float, float]:
    """`s_above_db` and `s_least_db` for an operator's sensitivity, 0 to 1; 0.5 is the default."""
    return ABOVE_DB * 4 ** (0.5 - sensitivity), LEAST_DB + 12 * (0.5 - sensitivity)


@functools.cache
def _ones(n: int) -> NDArray[np.float32]:
    return np.ones(n, np.float32)


def level_db(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """Level of each frame (calls, samples) in dB of full scale, its DC taken off; at least -96."""
    n = pcm.shape[1]
    x = pcm.astype(np.float32)
    total: NDArray[np.float32] = x @ _ones(n)
    total *= total
    total *= np.float32(-1 / n)
    total += np.vecdot(x, x)
    np.maximum(total, _LEAST * n, out=total)
    np.log10(total, out=total)
    total *= 10
    total -= np.float32(_FULL_SCALE_DB + 10 * np.log10(n))
    return total


class SpeechBank:
    """Detectors of all calls."""

    def __init__(self, columns: Columns) -> None:
        """Keep noise floors in `columns` (see `SPEC`)."""
        self.floor_db, self.speech = columns["s_floor_db"], columns["s_speech"]
        self._above_db, self._least_db = columns["s_above_db"], columns["s_least_db"]
        self._limit_db = columns["s_limit_db"]
        self._frames, self._quiet_db = columns["s_frames"], columns["s_quiet_db"]
        self._sounds = columns["s_sounds"]
        self._noted: list[tuple[NDArray[np.intp], NDArray[np.float32]]] = []

    def judge(
        self, calls: NDArray[np.intp], pcm: NDArray[np.int16], *, real: bool = True
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Whether each frame (k, n) of `calls` (k,) holds speech, and its level in dB.

        Several frames of a call stand one after the other. `real`: they came from the line; what
        was made up says nothing of its noise.
        """
        level = level_db(pcm)
        speech: NDArray[np.bool_] = level > self._limit_db[calls]
        self.speech[calls] = speech
        if real:
            self._noted.append((calls, level))
            if len(self._noted) >= _MOST_NOTED:
                self.learn()
        return speech, level

    def learn(self) -> None:
        """Set floors and limits by the frames judged since the last time."""
        if not self._noted:
            return
        calls = np.concatenate([calls for calls, _ in self._noted])
        level = np.concatenate([level for _, level in self._noted])
        self._noted.clear()
        real = level > NOTHING_DB
        window = self._frames[calls] // FRAMES
        at = calls * WINDOWS + window % WINDOWS
        np.minimum.at(self._quiet_db.reshape(-1), at[real], level[real])
        np.add.at(self._sounds.reshape(-1), at[real], 1)
        np.add.at(self._frames, calls, 1)
        begins = self._frames[calls] // FRAMES > window
        seen = np.zeros(len(self._frames), bool)
        seen[calls] = True
        rows = np.flatnonzero(seen)
        floor = np.maximum(self._quiet_db[rows].min(axis=1), LOWEST_DB)
        known = self._sounds[rows].sum(axis=1) >= FRAMES
        floor = np.where(known, floor, np.minimum(floor, self.floor_db[rows]))
        self.floor_db[rows] = floor
        self._limit_db[rows] = np.maximum(floor + self._above_db[rows], self._least_db[rows])
        if begins.any():
            rows = calls[begins]
            at = self._frames[rows] // FRAMES % WINDOWS
            self._quiet_db[rows, at], self._sounds[rows, at] = np.inf, 0
