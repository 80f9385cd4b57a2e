"""First-stage speech detector: the frame's level against the line's own noise floor.

Cheap enough for every frame of every call (a few vector operations a batch); meant to miss nothing,
not to be always right: what it fires on is judged again above. The floor follows the quietest level
at once and rises slowly, so that a voice does not become its own floor within a sentence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.audio.columns import Column, Columns

ABOVE_DB = 9.0
LEAST_DB = -46.0
"""Of full scale: nothing quieter is speech, whatever the floor."""
START_DB = -55.0
LOWEST_DB = -70.0
RISE_DB = 0.06
"""A frame: 3 dB a second."""
FALL = 0.3

SPEC = {"s_floor_db": Column("f4", START_DB), "s_speech": Column("?")}
_FULL_SCALE_DB = np.float32(20 * np.log10(32768))
_LEAST = np.float32(0.27)


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

    def judge(self, calls: NDArray[np.intp], pcm: NDArray[np.int16]) -> NDArray[np.bool_]:
        """Whether each call's frame holds speech; calls (k,), each at most once, pcm (k, n)."""
        level, floor = level_db(pcm), self.floor_db[calls]
        above = level - floor
        speech: NDArray[np.bool_] = (above > ABOVE_DB) & (level > LEAST_DB)
        self.speech[calls] = speech
        step = np.minimum(above * np.float32(FALL), np.float32(RISE_DB))
        self.floor_db[calls] = np.maximum(floor + step, LOWEST_DB)
        return speech
