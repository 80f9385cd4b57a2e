"""How long the stages of a call's set-up took, for its record: each `mark` ends one of them."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stages:
    """One call's."""

    def __init__(self, began_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """The first stage began then, by that clock."""
        self._last, self._clock = began_s, clock
        self.ms: dict[str, float] = {}
        """By stage, in their order."""

    def mark(self, stage: str) -> None:
        """That stage is over, and the next begins."""
        now = self._clock()
        self.ms[stage] = round((now - self._last) * 1000, 1)
        self._last = now
