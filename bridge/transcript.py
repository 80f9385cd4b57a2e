"""What is written down of a conversation while it goes on: who said what, and what was heard."""

from __future__ import annotations

import time
from collections.abc import Callable

from bridge import metrics
from bridge.dialog.playout import Heard
from bridge.sessions.base import Store
from bridge.sessions.model import Line, Role

HIDDEN = "(not recorded)"
LATE_S = 10.0
"""Words come so long after they were said, at most; so does the call of a tool for them."""
_SLACK_S = 0.3
"""So much later than it was said a line may seem to have begun."""


class Transcript:
    """One call's lines, in the order in which they became certain."""

    def __init__(self, store: Store, call_id: str) -> None:
        """Write into `store`."""
        self._store, self._call_id = store, call_id
        self._caller: Line | None = None
        self.private = False
        """What is said isn't written down, only that something is: the recording is paused."""
        self.resumed = 0.0
        """When it went on after the last pause: what was said before isn't written down either,
        however late its words come."""
        self.on_settled: Callable[[], None] = lambda: None
        """Told when `caller_text` has become a line."""

    @property
    def caller_text(self) -> str:
        """The caller's last words, while they may still be withdrawn."""
        return self._caller.text if self._caller is not None else ""

    def say(self, role: Role, text: str) -> None:
        """A line that is certain."""
        self.settle()
        now = time.time()
        # A key is pressed when it is; a tool called with what was said at any time before.
        if self.private or (role != "dtmf" and self._hides(0, now)):
            role, text = "event" if role == "dtmf" else role, _discreet(role, text)
        self._store.say(self._call_id, Line(now, role, text))

    def note(self, text: str) -> None:
        """An event that tells nothing of what was said: it is written down in any case."""
        self.settle()
        self._store.say(self._call_id, Line(time.time(), "event", text))

    def caller(self, text: str, began_ms: int = 0, ended_ms: int = 0) -> None:
        """The words of the caller's turn; they replace those that were given before of the same.

        `began_ms`, `ended_ms`: how long ago he did so; 0: not known.
        """
        now = time.time()
        begin = now - began_ms / 1000 if began_ms else 0.0
        text = _discreet("caller", text) if text and self._hides(begin, now) else text
        line = Line(now, "caller", text, begin=begin, end=now - ended_ms / 1000 if began_ms else 0)
        self._caller = line if text else None

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
            now = time.time()
            begin = now - heard.heard_ms / 1000
            text = _discreet("agent", heard.text) if self._hides(begin, now) else heard.text
            line = Line(now, "agent", text, heard.heard_ms, heard.cut, begin, now)
            self._store.say(self._call_id, line)

    def _hides(self, begin: float, now: float) -> bool:
        """Whether what was said from `begin` (0: nobody knows) until now may be of a pause."""
        latest = begin - _SLACK_S if begin else now - LATE_S
        return self.private or latest < self.resumed


def _discreet(role: Role, text: str) -> str:
    """What is written down instead."""
    match role:
        case "dtmf":
            return f"key {HIDDEN}"
        case "event" if " " in text:
            return f"{text.split(maxsplit=1)[0]} {HIDDEN}"
        case "event":
            return text
        case _:
            return HIDDEN
