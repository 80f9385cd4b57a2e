"""What bridges a long wait: a clip of the engine's ("One moment, please."), or a soft sound.

It plays while the agent owes something and nothing of it is to be heard, whatever the reason: an
engine that thinks, a tool that runs, an engine that is gone. It is no item of the conversation:
never in the history, never counted as heard, and cut off by the first real audio.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AGAIN_MS = 4000
"""Between the end of one and the next."""

_TONES_HZ = (440.0, 554.4)
_TONE_S, _LEVEL = 0.18, 900.0


class Filler:
    """When one call's is due. Time is milliseconds of the caller's audio."""

    def __init__(self, after_ms: int, rate: int) -> None:
        """The first after `after_ms` (0: never), at `rate` Hz."""
        self.clip = soft_sound(rate)
        """What is played, int16 (n,)."""
        self._after_ms, self._rate = after_ms, rate
        self._due_ms: int | None = None

    def due(self, now_ms: int, wanted: bool) -> bool:
        """Whether it is to be played now; `wanted`: the agent owes something and is silent."""
        if not wanted or not self._after_ms:
            self._due_ms = None
            return False
        if self._due_ms is None:
            self._due_ms = now_ms + self._after_ms
        if now_ms < self._due_ms:
            return False
        self._due_ms = now_ms + len(self.clip) * 1000 // self._rate + AGAIN_MS
        return True


def soft_sound(rate: int) -> NDArray[np.int16]:
    """Two soft notes, int16 (n,) at `rate` Hz, at -31 dB of full scale."""
    t = np.arange(int(_TONE_S * rate)) / rate
    swell = np.sin(np.pi * t / _TONE_S) ** 2
    notes = [np.sin(2 * np.pi * hz * t) * swell * _LEVEL for hz in _TONES_HZ]
    sound: NDArray[np.int16] = np.rint(np.concatenate(notes)).astype(np.int16)
    return sound
