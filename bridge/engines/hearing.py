"""The last seconds of a caller's audio, so that a turn can be cut out of it by its times."""

from __future__ import annotations

import numpy as np

from bridge.engines.base import Pcm


class Hearing:
    """A ring of int16 samples, addressed by milliseconds of the caller's audio."""

    def __init__(self, rate: int, keep_ms: int) -> None:
        """Keep `keep_ms` of audio of `rate` Hz."""
        self._rate = rate
        self._ring = np.zeros(rate * keep_ms // 1000, np.int16)
        self._end: int | None = None  # sample number that comes next

    @property
    def end_ms(self) -> int:
        """Where the audio ends that was heard."""
        return (self._end or 0) * 1000 // self._rate

    def put(self, at_ms: int, pcm: Pcm) -> None:
        """Add int16 (n,) that begin at `at_ms`; what is missing before them is silence."""
        start = at_ms * self._rate // 1000
        size = len(self._ring)
        if not size:
            return
        if self._end is None:
            self._end = start
        if start > self._end:
            self._write(np.zeros(min(start - self._end, size), np.int16), start)
        self._write(pcm[-size:], start + len(pcm))

    def forget(self) -> None:
        """Keep nothing any more: the parts of a call that is over know each other, so they stay in
        memory until garbage is collected, and this is most of it (a megabyte)."""
        self._ring = np.zeros(0, np.int16)

    def cut(self, start_ms: int, end_ms: int) -> Pcm:
        """The audio between two times, as far as it is still (or already) there."""
        if self._end is None or not len(self._ring):
            return np.zeros(0, np.int16)
        size = len(self._ring)
        end = min(end_ms * self._rate // 1000, self._end)
        start = max(start_ms * self._rate // 1000, self._end - size, 0)
        return self._ring[np.arange(start, max(start, end)) % size]

    def _write(self, pcm: Pcm, end: int) -> None:
        size = len(self._ring)
        where = (end - len(pcm)) % size
        head = min(len(pcm), size - where)
        self._ring[where : where + head] = pcm[:head]
        self._ring[: len(pcm) - head] = pcm[head:]
        self._end = end
