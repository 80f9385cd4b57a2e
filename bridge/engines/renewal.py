"""A call's connections to its vendor, one after the other.

A vendor's session lasts only so long (`Wire.lasts_s`). From nine tenths of that on the first quiet
moment is taken to open another connection, with the history, and to change over. Whoever spoke
while that one was opened isn't in its history: then it is closed again, and another try follows. If
no such moment comes, the connection is lost in the end, as any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from bridge.engines import faults
from bridge.engines.base import Context, Failed
from bridge.engines.wire import Past, Wire
from bridge.errors import BridgeError, EngineError, EngineLost

log = logging.getLogger(__name__)

RENEW_AT = 0.9
"""Of a session's life, from where on it is renewed in the next quiet moment."""
RENEW_AGAIN_MS = 5_000
"""Between two tries."""


class Talk(Protocol):
    """The conversation that goes over the connections."""

    context: Context

    @property
    def quiet(self) -> bool:
        """Whether nobody speaks, and nothing is due."""

    @property
    def lines(self) -> int:
        """How many lines of conversation there have been."""

    def changed_over(self) -> None:
        """Another connection goes on, which knows nothing of the items of the one before."""


class Sessions:
    """One call's."""

    def __init__(
        self,
        talk: Talk,
        make_wire: Callable[[], Wire],
        past: Callable[[], Awaitable[Past]],
        connect_timeout_s: float,
    ) -> None:
        """`make_wire` makes a connection, not opened yet; `past` tells what one begins with."""
        self.wire: Wire | None = None
        """The one in use."""
        self._talk, self._make_wire, self._past = talk, make_wire, past
        self._timeout_s = connect_timeout_s
        self._now_ms = self._due_ms = 0
        self._running: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._closed = False

    async def begin(self) -> Wire:
        """The first connection. Raises `EngineError`."""
        wire = await self._open()
        self._take(wire)
        return wire

    def pass_time(self, now_ms: int) -> None:
        """The line's clock."""
        self._now_ms = now_ms
        if now_ms >= self._due_ms and self._renewing is None and self._talk.quiet:
            self._due_ms = now_ms + RENEW_AGAIN_MS
            tasks = self._talk.context.tasks
            self._renewing = tasks.create_task(self._renew(), name="new session")

    def renew_soon(self) -> None:
        """The vendor is about to end the session."""
        self._due_ms = self._now_ms

    async def close(self) -> None:
        """Close the connection; idempotent."""
        self._closed = True
        wire, self.wire = self.wire, None
        for task in (self._renewing, self._running):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        if wire is not None:
            await wire.close()

    async def _open(self) -> Wire:
        past = await self._past()
        wire = self._make_wire()
        try:
            async with asyncio.timeout(self._timeout_s):
                await wire.open(past)
        except BaseException as error:
            await wire.close()
            if isinstance(error, TimeoutError):
                raise EngineLost(
                    f"engine '{self._name}' didn't answer within {self._timeout_s:g} s"
                ) from error
            raise
        return wire

    def _take(self, wire: Wire) -> None:
        self.wire = wire
        self._due_ms = self._now_ms + int(wire.lasts_s * RENEW_AT * 1000)
        tasks = self._talk.context.tasks
        self._running = tasks.create_task(self._run(wire), name="vendor's session")

    async def _run(self, wire: Wire) -> None:
        try:
            await wire.run()
            fault: EngineError = EngineLost(f"engine '{self._name}': the vendor closed the session")
        except EngineError as error:
            fault = error
        if not self._closed and wire is self.wire:
            self._talk.context.emit(Failed(str(fault), faults.kind(fault)))

    async def _renew(self) -> None:
        """Change over to a new session, if all is still quiet, and as it was, when it is open."""
        lines = self._talk.lines
        try:
            wire = await self._open()
        except BridgeError as error:
            log.warning("no new session yet: %s", error)
            return
        finally:
            self._renewing = None
        old, running = self.wire, self._running
        if not self._talk.quiet or self._talk.lines != lines or old is None:
            await wire.close()
            return
        self._talk.changed_over()
        self._take(wire)
        if running is not None:
            running.cancel()
        await old.close()
        log.info("the vendor's session was near its end; a new one goes on")

    @property
    def _name(self) -> str:
        return self._talk.context.agent.engine
