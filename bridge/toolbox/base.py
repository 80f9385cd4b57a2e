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

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom a tool runs."""

    call_id: str
    key: str
    """Idempotency key: the same for the same tool call in whatever process."""
    caller_number: str
    agent: str
