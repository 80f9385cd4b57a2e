"""A vendor's WebSocket by our own library: plain sends, JSON both ways, its end told once.

For vendors whose wire is small. `Dialled` is what their `Wire`s are made with: it connects, hands
every JSON message to `take` (and audio to `audio`), ignores what nobody understands, and turns
everything that goes wrong into one line.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from picows import WSError

from bridge.engines.socket import Socket, dial
from bridge.engines.wire import refused
from bridge.errors import EngineError, EngineLost

log = logging.getLogger(__name__)

# Of a message that nobody understands; RecursionError: brackets within brackets within brackets.
_ODD = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Dialled:
    """One connection."""

    def __init__(
        self,
        vendor: str,
        take: Callable[[dict[str, Any]], None],
        audio: Callable[[bytes], None] | None = None,
    ) -> None:
        """`take` gets every JSON object, `audio` every binary message; either may raise
        `EngineError`, which ends the connection."""
        self._vendor, self._take, self._audio = vendor, take, audio
        self._socket: Socket | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over.add_done_callback(lambda over: over.cancelled() or over.exception())
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._warned = False

    async def connect(self, url: str, headers: Mapping[str, str], variable: str) -> None:
        """Dial; `variable` is the environment variable of the key. Raises `EngineError`."""
        try:
            self._socket = await dial(url, self._text, self._binary, headers, timeout_s=30)
        except EngineError as error:
            response = getattr(error.__cause__, "response", None)
            if isinstance(error.__cause__, WSError) and response is not None:
                raise refused(self._vendor, int(response.status), variable) from error
            what = str(error).removeprefix("can't connect to the bot at ")
            raise EngineLost(f"can't connect to {self._vendor} at {what}") from error
        self._socket.on_end = self._ended

    async def expect(self, kind: str) -> dict[str, Any]:
        """The next message whose `type` is that; `take` gets it as well. Raises `EngineError`."""
        found: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[kind] = found
        try:
            first: set[asyncio.Future[Any]] = {found, self._over}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not found.done():
                self._over.result()
                raise EngineLost(f"{self._vendor} closed the connection")
            return found.result()
        finally:
            del self._waiting[kind]

    async def run(self) -> None:
        """Returns when the vendor closed in good order. Raises `EngineError`."""
        await asyncio.shield(self._over)

    def send(self, message: Mapping[str, Any]) -> None:
        """A JSON message; lost where the vendor doesn't read (`Socket` gives him up then)."""
        if self._socket is not None:
            self._socket.send(json.dumps(message, separators=(",", ":"), default=str).encode())

    def send_text(self, text: bytes) -> None:
        """A message that is JSON already."""
        if self._socket is not None:
            self._socket.send(text)

    def send_binary(self, data: bytes) -> None:
        """A binary message."""
        if self._socket is not None:
            self._socket.send_binary(data)

    async def close(self) -> None:
        """Close; idempotent."""
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    def _text(self, raw: bytes) -> None:
        try:
            message = json.loads(raw)
            self._take(message)
            found = self._waiting.get(message.get("type"))
            if found is not None and not found.done():
                found.set_result(message)
        except EngineError as error:
            self._end(error)
        except _ODD as error:
            if not self._warned:
                self._warned = True
                text = " ".join(str(error).split())[:200]
                log.warning("%s sends what isn't known, which is ignored: %s", self._vendor, text)

    def _binary(self, data: bytes) -> None:
        if self._audio is not None and data:
            self._audio(data)

    def _ended(self, fault: str) -> None:
        if fault:
            what = fault.partition(" at ")[2] or fault
            self._end(EngineLost(f"the connection to {self._vendor} is lost: {what}"))
        elif not self._over.done():
            self._over.set_result(None)

    def _end(self, error: EngineError) -> None:
        if not self._over.done():
            self._over.set_exception(error)
