"""More of an item, from its engine straight to where it is played.

While an engine gives more and more of one item, nobody on the way has anything to decide: the
engine's life, its ledger, the conversation, the mouth. Then the item *flows*: what comes next of it
goes past them, for many calls in one operation, and is counted here; who keeps books adds up what
has flowed when he is told of anything else. Whatever else happens closes the flow; then audio goes
the long way, which opens it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pour = Callable[[Sequence["Flow"], NDArray[np.int16]], None]
"""Plays (k, n) samples, a row for each flow; no flow twice."""


class Flow:
    """One call's."""

    __slots__ = ("book", "item", "over", "pour", "room", "to", "total")

    def __init__(self, pour: Pour | None = None, to: Any = None) -> None:
        """Closed. `pour` plays what flows, and knows by `to` where."""
        self.pour, self.to = pour, to
        self.item = 0
        """Of which more flows; 0: closed."""
        self.room = 0
        """Samples that may flow before somebody has to be asked."""
        self.total = 0
        """Samples that have ever flowed."""
        self.book: Callable[[int, int], None] = lambda item, samples: None
        """Told at once: item, samples."""
        self.over: Callable[[], bool] = lambda: False
        """Whether the call is."""

    def open(self, item: int, room: int) -> None:
        """Let more of the item flow, so many samples at most."""
        self.item, self.room = (item, room) if self.pour is not None else (0, 0)

    def close(self) -> None:
        """Something else has happened, or is about to."""
        self.item = 0

    def end(self) -> None:
        """Never flow again: where it played is gone."""
        self.close()
        self.pour = self.to = None

    def takes(self, item: int, samples: int) -> bool:
        """Whether so much more of the item flows; then it is as good as played: `pour` it."""
        if item != self.item or samples > self.room or self.over():
            return False
        self.room -= samples
        self.total += samples
        self.book(item, samples)
        return True
