"""What bridges a long wait: a soft sound, and then a clip of the engine's ("One moment, please.").

It plays while the agent owes something and nothing of it is to be heard, whatever the reason: an
engine that thinks, a tool that runs, an engine that is gone. It is no item of the conversation:
never in the history, never counted as heard, and cut off by the first real audio.

What is counted is the silence that the caller hears: from the end of his words, or of the agent's.
The soft sound comes first, because it is short and may be cut off anywhere: an answer is mostly
near. A wait that goes on is worth words. So is a tool that has words of its own: they come first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

AGAIN_MS = 2500
"""Between the end of one and the next."""
LEAST_MS = 200
"""Once the agent owes something: a long pause had already made sure that the caller is done, and
the answer that was prepared in it is about to come."""

_TONES_HZ = (440.0, 554.4)
_TONE_S, _LEVEL = 0.18, 900.0


class Filler:
    """When one call's is due. Time is milliseconds of the caller's audio."""

    def __init__(self, after_ms: int, rate: int, tool: Callable[[], str] = lambda: "") -> None:
        """The first after `after_ms` (0: never), at `rate` Hz; `tool` tells which one runs."""
        self.clip: NDArray[np.int16] | None = None
        """The engine's own, int16 (n,)."""
        self.clips: dict[str, NDArray[np.int16]] = {}
        """Those of tools."""
        self._tool, self._told_of = tool, ""
        self._soft = soft_sound(rate)
        self._after_ms, self._rate = after_ms, rate
        self._since_ms: int | None = None
        self._due_ms: int | None = None
        self._played = False

    def silent_since(self, at_ms: int) -> None:
        """The caller's turn ended there, or he pressed a key, although it may be a while before it
        is known that the agent owes an answer."""
        self._since_ms = at_ms

    @property
    def rests(self) -> bool:
        """Whether nothing is counted: as long as nothing is wanted, `due` need not be asked."""
        return not self._after_ms or (self._since_ms is None and self._due_ms is None)

    def due(self, now_ms: int, wanted: bool) -> NDArray[np.int16] | None:
        """What is to be played, int16 (n,); `wanted`: the agent is silent, and owes something."""
        if not wanted or not self._after_ms:
            self._due_ms = None
            self._played, self._told_of = False, ""
            if self._since_ms is not None and now_ms - self._since_ms > self._after_ms:
                self._since_ms = None
            return None
        if self._due_ms is None:
            since_ms = now_ms if self._since_ms is None else self._since_ms
            self._due_ms = max(since_ms + self._after_ms, now_ms + min(LEAST_MS, self._after_ms))
        if now_ms < self._due_ms:
            return None
        clip = self._next()
        self._played = True
        self._due_ms = now_ms + len(clip) * 1000 // self._rate + AGAIN_MS
        return clip

    def _next(self) -> NDArray[np.int16]:
        tool = self._tool()
        if tool != self._told_of and tool in self.clips:
            self._told_of = tool
            return self.clips[tool]
        return self._soft if self.clip is None or not self._played else self.clip


@functools.cache
def soft_sound(rate: int) -> NDArray[np.int16]:
    """Two soft notes, int16 (n,) at `rate` Hz, at -31 dB of full scale."""
    t = np.arange(int(_TONE_S * rate)) / rate
    swell = np.sin(np.pi * t / _TONE_S) ** 2
    notes = [np.sin(2 * np.pi * hz * t) * swell * _LEVEL for hz in _TONES_HZ]
    sound: NDArray[np.int16] = np.rint(np.concatenate(notes)).astype(np.int16)
    return sound
