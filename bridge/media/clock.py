"""The plane's clock: ticks on an absolute grid, in milliseconds of the monotonic clock.

The grid never drifts, because each deadline is the start plus a multiple of the period, whatever
the ticks before it did. CLOCK_MONOTONIC is one clock for all processes of a machine, so a successor
goes on with the times that stand in the shared map.
"""

from __future__ import annotations

import time


def now_ms() -> float:
    """Milliseconds of the monotonic clock."""
    return time.monotonic_ns() / 1e6


class Grid:
    """Deadlines every `period_ms`, from `start_ms` on."""

    def __init__(self, start_ms: float, period_ms: float) -> None:
        """The first deadline is one period after `start_ms`."""
        self.start_ms, self.period_ms = start_ms, period_ms
        self.tick = 0
        """The last tick that was due."""

    @property
    def next_ms(self) -> float:
        """The next deadline."""
        return self.start_ms + (self.tick + 1) * self.period_ms

    def due(self, now: float) -> range:
        """Ticks that have become due since the last time it was asked; empty if none."""
        last = int((now - self.start_ms) // self.period_ms)
        ticks = range(self.tick + 1, last + 1)
        self.tick = max(self.tick, last)
        return ticks
