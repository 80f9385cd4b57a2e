"""First-stage speech detector: the frame's level against the line's own noise floor.

Cheap enough for every frame of every call (a few vector operations a batch); meant to miss nothing,
not to be always right: what it fires on is judged again above. The floor is the quietest frame of
the last 2 to 2.6 s (Martin's minimum statistics, in four windows): a noisy line is known for one
after the first 640 ms, and a voice, which has a closure or a breath in every two seconds, does not
become its own floor. Frames of digital silence (nothing was sent, or lost) say nothing of it: until
640 ms of sound stand in the windows the floor may fall but not rise, so that a word out of such
silence isn't taken for the noise of its line.
"""

from __future__ import annotations

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

SPEC = {
    "s_floor_db": Column("f4", START_DB),
    "s_speech": Column("?"),
    "s_level_db": Column("f4", SILENT_DB),
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


def level_db(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """Level of each frame (calls, samples) in dB of full scale, its DC taken off; at least -96."""
    x = pcm.astype(np.float32)
    n = pcm.shape[1]
    mean = x @ np.full(n, 1 / n, np.float32)
    power = np.vecdot(x, x) / np.float32(n) - mean * mean
    level: NDArray[np.float32] = 10 * np.log10(np.maximum(power, _LEAST)) - _FULL_SCALE_DB
    return level


class SpeechBank:
    """Detectors of all calls."""

    def __init__(self, columns: Columns) -> None:
        """Keep noise floors in `columns` (see `SPEC`)."""
        self.floor_db, self.speech = columns["s_floor_db"], columns["s_speech"]
        self.level_db = columns["s_level_db"]
        """Of each call's last frame."""
        self._above_db, self._least_db = columns["s_above_db"], columns["s_least_db"]
        self._frames, self._quiet_db = columns["s_frames"], columns["s_quiet_db"]
        self._sounds = columns["s_sounds"]

    def judge(
        self, calls: NDArray[np.intp], pcm: NDArray[np.int16], *, real: bool = True
    ) -> NDArray[np.bool_]:
        """Whether each call's frame holds speech; calls (k,), each at most once, pcm (k, n).

        `real`: they came from the line; what was made up says nothing of its noise.
        """
        level = level_db(pcm)
        floor = self._floor(calls, level) if real else self.floor_db[calls]
        speech: NDArray[np.bool_] = level > np.maximum(
            floor + self._above_db[calls], self._least_db[calls]
        )
        self.speech[calls], self.level_db[calls] = speech, level
        return speech

    def _floor(self, calls: NDArray[np.intp], level: NDArray[np.float32]) -> NDArray[np.float32]:
        """The noise floor of each call's line, this frame taken in."""
        number, quiet, sounds = self._frames[calls], self._quiet_db, self._sounds
        self._frames[calls] = number + 1
        at, first = number // FRAMES % WINDOWS, number % FRAMES == 0
        sound = level > NOTHING_DB
        level = np.where(sound, level, np.float32(np.inf))
        quiet[calls, at] = np.where(first, level, np.minimum(quiet[calls, at], level))
        sounds[calls, at] = np.where(first, 0, sounds[calls, at]) + sound
        floor = np.maximum(quiet[calls].min(axis=1), np.float32(LOWEST_DB))
        known = sounds[calls].sum(axis=1) >= FRAMES
        floor = np.where(known, floor, np.minimum(floor, self.floor_db[calls]))
        self.floor_db[calls] = floor
        result: NDArray[np.float32] = floor.astype(np.float32)
        return result
