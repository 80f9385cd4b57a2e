"""One answer of a cascade in the making: kept while its turn may still be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bridge.engines.base import EngineEvent, Timing, TurnEager
from bridge.engines.listening import Glimpse


class Reply:
    """One answer in the making."""

    def __init__(self, emit: Callable[[EngineEvent], None], event: TurnEager | None) -> None:
        self.event = event
        self.words: Glimpse | None = None
        """What it answers, of a turn."""
        self.timing = Timing(event.turn) if event else None
        self.opened = asyncio.Event()
        self.likely = asyncio.Event()
        """Set when its turn is probably over: no answer to a mere pause."""
        self.calls: list[str] = []
        """Ids of the tools that it has called and that it goes on with."""
        self.guess = False
        """Whether its words lack the caller's last voice, and are yet to be confirmed."""
        self.hasty = 0
        """Where the pause began (ms) in which it was begun, while nobody takes that for the end."""
        self.spoken = 0
        """Sentences that it has said, here or where it was begun."""
        self.samples = 0
        """Of their audio."""
        self.bounded = False
        """Whether it may become too long: the caller is asked then whether to go on."""
        self.task: asyncio.Task[None] | None = None
        self._emit = emit
        self._kept: list[EngineEvent | Callable[[], None]] = []

    @property
    def speaking(self) -> bool:
        """Whether its turn stands, and more of it is to come."""
        return self.opened.is_set() and self.task is not None and not self.task.done()

    def give(self, what: EngineEvent | Callable[[], None]) -> None:
        """An event for the call, or an effect on the cascade: now if open, else later."""
        if not self.opened.is_set():
            self._kept.append(what)
        elif callable(what):
            what()
        else:
            self._emit(what)

    def stamp(self, **seconds: float) -> None:
        """Something of the answer was there for the first time."""
        if self.timing is None:
            return
        fresh: dict[str, Any] = {
            k: v for k, v in seconds.items() if getattr(self.timing, k) is None
        }
        if fresh:
            self.timing = replace(self.timing, **fresh)
            if self.opened.is_set():
                self.give(self.timing)

    def cancel(self) -> None:
        """Nobody wants it any more: what was kept is forgotten, and by it the task."""
        if self.task is not None:
            self.task.cancel()
            self.task = None
        self._kept.clear()

    def open(self) -> None:
        """The turn stands: let go of what was kept."""
        self.likely.set()
        self.opened.set()
        if self.timing is not None:
            self.give(self.timing)
        for what in self._kept:
            self.give(what)
        self._kept.clear()
