"""What is made on the PBX is made to its end, also if nobody waits for it any more.

A request that is abandoned half way may still be carried out, after the one that was to undo it. So
each is a task that nobody cancels, and whoever takes things away waits for all of them first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Spawn = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]


class Whole:
    """One call's."""

    def __init__(self, spawn: Spawn) -> None:
        """`spawn` makes tasks that outlive whoever asked for them."""
        self._spawn = spawn
        self._making: set[asyncio.Task[Any]] = set()

    async def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Returns or raises what it does; whoever is cancelled meanwhile leaves it to itself."""
        task = self._spawn(work)
        self._making.add(task)
        task.add_done_callback(self._making.discard)
        return await asyncio.shield(task)

    async def done(self) -> None:
        """Wait for all that was begun."""
        if self._making:
            await asyncio.wait(self._making)
