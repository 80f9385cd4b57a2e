"""Tool calls: what an engine may do in the world, one at a time, when the caller has heard why.

A tool waits until all audio that was emitted before it has been heard; an interruption before that
cancels it. Its effect may be the call's end: an `Outcome`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from bridge.agent import TransferSettings
from bridge.engines.base import ToolCall, ToolResult
from bridge.errors import BridgeError, ConfigError, PbxGone
from bridge.pbx.base import Leg
from bridge.sessions.progress import Tool
from bridge.transcript import Transcript

log = logging.getLogger(__name__)

TOOL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended; `result` is what the dialplan gets as ARI_BRIDGE_RESULT."""

    result: str
    reason: str = ""
    gone: bool = False
    """The caller is with us no more: he hung up, was hung up on, or was handed over."""


class Tools:
    """One call's tools."""

    def __init__(
        self,
        leg: Leg,
        allowed: TransferSettings,
        transcript: Transcript,
        tasks: asyncio.TaskGroup,
        end: Callable[[Outcome], None],
        tell: Callable[[ToolResult], None],
    ) -> None:
        """Run tools in `tasks`.

        Args:
            leg: what they act on.
            allowed: where a caller may be transferred to.
            transcript: where each is written down.
            tasks: the call's.
            end: ends the call.
            tell: tells the engine what became of one.
        """
        self.leaving: Outcome | None = None
        """What was asked of the PBX and takes the caller from us, while it hasn't answered."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when `open` has something else to tell."""
        self._leg, self._allowed, self._transcript = leg, allowed, transcript
        self._tasks, self._end, self._tell = tasks, end, tell
        self._waiting: deque[ToolCall] = deque()
        self._task: asyncio.Task[None] | None = None
        self._running: ToolCall | None = None

    def add(self, tools: Iterable[ToolCall]) -> None:
        """These are to be run, in this order, by `next`."""
        self._waiting += tools

    def open(self) -> tuple[Tool, ...]:
        """What isn't done, as a session remembers it."""
        waiting = tuple(Tool(t.id, t.name, t.arguments) for t in self._waiting)
        if self._running is None:
            return waiting
        begun = self._running
        return (Tool(begun.id, begun.name, begun.arguments, begun=True), *waiting)

    def next(self) -> None:
        """All audio before the next tool was heard: run it, if none is running."""
        running = self._task is not None and not self._task.done()
        if self._waiting and not running:
            self._transcript.settle()
            self._task = self._tasks.create_task(self._run(self._waiting.popleft()))

    def cancel(self) -> None:
        """The caller interrupted: what waits isn't run."""
        for tool in self._waiting:
            self._tell(ToolResult(tool.id, ok=False, value="interrupted"))
        self._waiting.clear()

    async def _run(self, tool: ToolCall) -> None:
        self._running = tool
        self.on_change()
        arguments = " ".join(map(str, tool.arguments.values()))
        self._transcript.say("event", f"{tool.name} {arguments}".strip())
        try:
            async with asyncio.timeout(TOOL_TIMEOUT_S):
                await self._do(tool)
        except PbxGone:
            self._end(Outcome("hung-up", f"the caller hung up during {tool.name}", gone=True))
        except (BridgeError, TimeoutError) as error:
            log.warning("tool %s failed: %s", tool.name, error or "it took too long")
            self._running = None
            self._tell(ToolResult(tool.id, ok=False, value=str(error)))

    async def _do(self, tool: ToolCall) -> None:
        match tool.name:
            case "transfer":
                extension = str(tool.arguments.get("extension", ""))
                if extension not in self._allowed.extensions:
                    raise ConfigError(f"'{extension}' is not in the agent's transfer.extensions")
                done = Outcome("transferred", extension, gone=True)
                await self._go(done, self._leg.transfer(extension, self._allowed.context))
            case "hang_up":
                done = Outcome("done", "the agent hung up", gone=True)
                await self._go(done, self._leg.hang_up())
            case _:
                raise ConfigError(f"there is no tool '{tool.name}'")

    async def _go(self, outcome: Outcome, leave: Awaitable[None]) -> None:
        """End the call by what takes the caller from us."""
        self.leaving = outcome
        try:
            await leave
        finally:
            self.leaving = None
        self._end(outcome)
