"""The port to the session store, as a call sees it."""

from __future__ import annotations

from typing import Protocol

from bridge.sessions.model import Line, Record


class Store(Protocol):
    """Remembers calls. Writes return at once and are carried out in order behind the scenes."""

    def put(self, call_id: str, **fields: str | float) -> None:
        """Set fields of the call's record, by their names in `Record`."""

    def say(self, call_id: str, line: Line) -> None:
        """Add a line to the call's transcript."""

    async def load(self, call_id: str) -> Record | None:
        """The call's record, if there is one. Raises `StoreUnreachable`."""

    async def transcript(self, call_id: str) -> list[Line]:
        """The call's transcript so far. Raises `StoreUnreachable`."""
