"""The tools that a cascade has called, until it is told what became of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from bridge.engines.base import ToolCall, ToolResult
from bridge.engines.parts import Do


class Uses:
    """One call's."""

    def __init__(self) -> None:
        """None yet."""
        self._open: dict[str, tuple[ToolCall, asyncio.Event]] = {}
        self._numbers = itertools.count(1)

    def call(self, step: Do) -> ToolCall:
        """A call of that tool, to be emitted."""
        call = ToolCall(f"tool-{next(self._numbers)}", step.name, step.arguments)
        self.known(call)
        return call

    def known(self, call: ToolCall) -> None:
        """One that another process has emitted, and whose result will be told."""
        self._open[call.id] = call, asyncio.Event()

    def told(self, result: ToolResult) -> ToolCall | None:
        """What became of one; None: it isn't ours, or was told already."""
        call, over = self._open.pop(result.id, (None, None))
        if over is not None:
            over.set()
        return call

    async def over(self, ids: Iterable[str]) -> None:
        """Returns when all of these are."""
        for waiting in [self._open[i][1] for i in ids if i in self._open]:
            await waiting.wait()
