"""How long to wait before the next try: doubles from `first_s` to `most_s`, with jitter.

The jitter takes away up to half, so that many workers that lost one Asterisk at the same moment
don't come back at the same moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Waits between tries, in seconds."""

    def __init__(
        self, first_s: float, most_s: float, rand: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._rand = rand
        self._next_s = first_s

    def next_s(self) -> float:
        """The next wait: between half of the step and all of it."""
        step_s = self._next_s
        self._next_s = min(self._most_s, step_s * 2)
        return step_s * (1 - self._rand() / 2)

    def reset(self) -> None:
        """It worked: begin with short waits again."""
        self._next_s = self._first_s
