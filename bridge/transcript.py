"""What is written down of a conversation while it goes on: who said what, and what was heard."""

from __future__ import annotations

import time
from collections.abc import Callable

from bridge import metrics
from bridge.dialog.playout import Heard
from bridge.sessions.base import Store
from bridge.sessions.model import Line, Role


class Transcript:
    """One call's lines, in the order in which they became certain."""

    def __init__(self, store: Store, call_id: str) -> None:
        """Write into `store`."""
        self._store, self._call_id = store, call_id
        self._caller: Line | None = None
        self.on_settled: Callable[[], None] = lambda: None
        """Told when `caller_text` has become a line."""

    @property
    def caller_text(self) -> str:
        """The caller's last words, while they may still be withdrawn."""
        return self._caller.text if self._caller is not None else ""

    def say(self, role: Role, text: str) -> None:
        """A line that is certain."""
        self.settle()
        self._store.say(self._call_id, Line(time.time(), role, text))

    def caller(self, text: str) -> None:
        """The words of the caller's turn; they replace those that were given before of the same."""
        self._caller = Line(time.time(), "caller", text) if text else None

    def settle(self) -> None:
        """The caller's turn can't be withdrawn any more."""
        if self._caller is not None:
            self._store.say(self._call_id, self._caller)
            self._caller = None
            self.on_settled()

    def agent(self, heard: Heard) -> None:
        """What the caller heard of an item that is over."""
        metrics.heard(heard.heard_ms)
        if heard.text or (heard.cut and heard.heard_ms):
            line = Line(time.time(), "agent", heard.text, heard.heard_ms, heard.cut)
            self._store.say(self._call_id, line)
