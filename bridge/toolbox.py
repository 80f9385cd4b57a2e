"""Tools that others bring, by name: entry points `ari_bridge.tools`, each an async function.

    [project.entry-points."ari_bridge.tools"]
    book_table = "my_package.tools:book_table"

    async def book_table(call: ToolContext, *, day: str, persons: int) -> str: ...

An agent may call those that its file names (`tools = ["book_table"]`). The arguments are the
engine's; what is returned (or raised, as one line) is told to the engine, so it must be what JSON
knows.

A tool that had begun when its process died may have had its effect: it is not run again, and the
engine is told that nobody knows. One that may safely run twice, because it gives `call.key` to a
service that knows idempotency keys, says so: `book_table.again = True`.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from bridge.errors import ConfigError

GROUP = "ari_bridge.tools"

Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom a tool runs."""

    call_id: str
    key: str
    """Idempotency key: the same for the same tool call in whatever process."""
    caller_number: str
    agent: str


def named(name: str, allowed: Sequence[str]) -> Function:
    """The tool of that name. Raises `ConfigError` with the cure."""
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, n=1)
        have = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed) or 'none'}"
        raise ConfigError(f"there is no tool '{name}' in the agent's 'tools'; {have}")
    return _load(name)


def may_run_again(name: str, allowed: Sequence[str]) -> bool:
    """Whether a tool that had begun may run once more."""
    try:
        return bool(getattr(named(name, allowed), "again", False))
    except ConfigError:
        return False


@functools.cache
def _load(name: str) -> Function:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        have = ", ".join(sorted(points)) or "none"
        raise ConfigError(
            f"tool '{name}' is not installed (entry point {GROUP}); there are: {have}"
        )
    try:
        found: Function = points[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"tool '{name}' can't be loaded: {error}") from error
    return found
