"""Agent audio of one call: a vendor's items and ours."""

from __future__ import annotations

from collections import deque


class Items:
    """Which of theirs is which of ours, and how much came of each."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.samples: dict[int, int] = {}
        self.done: set[int] = set()
        self.dropped: deque[str] = deque(maxlen=256)
        """The vendor's, of which no more is wanted."""
        self._heard: dict[int, str] = {}

    @property
    def open(self) -> bool:
        """Whether something was given that isn't over."""
        return any(self.samples.get(own) for own in self.begun.values())

    def begin(self, item: str, own: int) -> None:
        """An item's first word or audio."""
        self.begun[item] = own
        self.samples[own] = 0
        self._heard[own] = item

    def drop(self) -> None:
        """Nothing more is wanted of any; what was heard of them is still to be told."""
        self.dropped.extend(self.begun)
        for own in self.begun.values():
            if not self.samples[own]:  # nothing of it can be heard
                del self.samples[own], self._heard[own]
        self.begun.clear()
        self.done.clear()

    def over(self, own: int) -> tuple[str, int] | None:
        """The item was heard, or what wasn't is dropped: its name and samples."""
        item = self._heard.pop(own, None)
        if item is None:
            return None
        self.begun.pop(item, None)
        self.done.discard(own)
        self.dropped.append(item)
        return item, self.samples.pop(own, 0)
