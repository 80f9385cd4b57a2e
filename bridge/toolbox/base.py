"""The port to a tool: an async function, and what is known of it beside.

    async def book_table(call: ToolContext, *, day: str, persons: int) -> str: ...

Its signature and docstring say what a model has to know (`bridge.engines.functions`). Attributes of
the function, all of which may be missing, say more:

    description   what a model is told, instead of the docstring
    parameters    the JSON schema of its arguments, instead of the signature
    again         True: it may safely run twice with the same `ToolContext.key`
    timeout_s     how long it may take
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

INTENT, SUMMARY = "intent", "summary"
"""Notes that the dialplan gets as ARI_BRIDGE_INTENT and ARI_BRIDGE_SUMMARY."""

Function = Callable[..., Awaitable[Any]]


class Line(Protocol):
    """What a tool may do with the caller's line: a part of `bridge.pbx.base.Leg`."""

    async def get_variable(self, name: str) -> str | None:
        """A channel variable or dialplan function's value; None if it has none."""

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable."""

    async def send_dtmf(self, digits: str) -> None:
        """Press keys: the other side hears them, one after the other."""


class Recorded(Protocol):
    """What a tool may do with the call's recording. Both return False if there is none."""

    def pause(self) -> bool:
        """Leave out what is said from now on."""

    def resume(self) -> bool:
        """Go on."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom a tool runs."""

    call_id: str
    key: str
    """Idempotency key: the same for the same tool call in whatever process."""
    caller_number: str
    agent: str
    line: Line
    notes: MutableMapping[str, str]
    """What `remember` keeps of the call: in every prompt, and over a takeover."""
    recording: Recorded | None = None
