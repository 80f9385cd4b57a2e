"""A WebSocket to a bot: whole messages in, sends that never wait out, its end told once.

A call's frames come fifty times a second on the event loop, so a send must be a plain call. That
makes a bot that reads too slowly our problem: while more than the transport's high-water mark
(64 KiB: four seconds of speech) waits, `send` refuses; if that lasts `STALL_S`, the connection is
given up. What comes in is bounded as well: a message beyond `MAX_MESSAGE` ends the connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSError,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from bridge.errors import EngineLost, EngineRefused

MAX_MESSAGE = 1 << 20
STALL_S = 5.0
CLOSE_S = 1.0
PING_S, PONG_S = 10.0, 5.0
"""A connection that is silent for so long is asked whether it lives, and has so long to answer."""

_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY
Push = Callable[[WSMsgType, bytes], object]


class Burst:
    """What all bots are sent in one round of the event loop, sent at its end in one go.

    Every message wakes its bot, which then takes our core if there is no other: one after the
    other between the work for two calls that is a change of the core's task for each, and cold
    caches after it. So the work for all calls comes first.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Push, WSMsgType, bytes]] = []

    def add(self, push: Push, kind: WSMsgType, data: bytes) -> None:
        """Send it by `push`, behind all that waits."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.send)
        self._waiting.append((push, kind, data))

    def add_many(self, messages: list[tuple[Push, WSMsgType, bytes]]) -> None:
        """Send these, in this order, behind all that waits."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.send)
        self._waiting += messages

    def send(self) -> None:
        """Send all that waits."""
        waiting, self._waiting = self._waiting, []
        for push, kind, data in waiting:
            push(kind, data)


_burst = Burst()


def send_all(messages: list[tuple[Push, WSMsgType, bytes]]) -> None:
    """Send messages by their sockets' `push`, each as `Socket.send` would."""
    if messages:
        _burst.add_many(messages)


class Socket(WSListener):
    """One connection; made by `dial`."""

    def __init__(
        self, where: str, text: Callable[[bytes], None], binary: Callable[[bytes], None] | None
    ) -> None:
        """Use `dial`."""
        self.refused = 0
        """Messages that the bot was too slow for."""
        self.on_end: Callable[[str], None] = lambda _: None
        """Called once when the connection is over, unless by `close`: with "" where the bot closed
        it in good order, else with what went wrong."""
        self._where, self._text, self._binary = where, text, binary
        self._transport: WSTransport | None = None
        self.push: Push | None = None
        """The library's `send`, unless nothing can be sent now; for `send_all`."""
        self._parts: list[bytes] = []
        self._kind = WSMsgType.TEXT
        self._size = 0
        self._full = False
        self._stall: asyncio.TimerHandle | None = None
        self._over = self._closed = False
        self._fault = ""

    def send(self, text: bytes) -> bool:
        """Send a text message (UTF-8); False: refused, because the bot doesn't read."""
        return self._send(_TEXT, text)

    def send_binary(self, data: bytes) -> bool:
        """Send a binary message; False: refused, because the bot doesn't read."""
        if self.push is None:
            return self._send(_BINARY, data)
        _burst.add(self.push, _BINARY, data)
        return True

    async def close(self) -> None:
        """Close in good order, or at once where the bot doesn't answer; idempotent."""
        _burst.send()
        self._over, self.push = True, None
        self._quiet()
        if self._transport is None or self._transport.is_disconnected:
            return
        self._transport.send_close(WSCloseCode.OK)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._transport.wait_disconnected()
        except (TimeoutError, WSError, OSError):
            self._transport.disconnect(False)

    def _send(self, kind: WSMsgType, data: bytes) -> bool:
        if self.push is None:
            self.refused += self._full and not self._over
            return False
        _burst.add(self.push, kind, data)
        return True

    # What the library tells -----------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport, self.push = transport, transport.send

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame: a message, or a part of one."""
        kind = frame.msg_type
        if kind is _BINARY and frame.fin:  # audio
            if self._binary is not None and not self._over:
                self._binary(frame.get_payload_as_bytes())
        elif kind is _TEXT and frame.fin:
            if not self._over:
                self._text(frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            self._closed = True
            code = frame.get_close_code()
            if code not in (WSCloseCode.OK, WSCloseCode.GOING_AWAY, WSCloseCode.NO_INFO):
                self._fault = f"closed with code {code:d}"
            transport.send_close(code)
            transport.disconnect()
        elif self._over:
            return  # what of a bot that was given up has come already
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            if kind is not WSMsgType.CONTINUATION:
                self._kind, self._parts, self._size = kind, [], 0
            self._parts.append(frame.get_payload_as_bytes())
            self._size += len(self._parts[-1])
            if self._size > MAX_MESSAGE:
                self._give_up(f"sent a message of over {MAX_MESSAGE} bytes")
            elif frame.fin:
                whole, self._parts = b"".join(self._parts), []
                self._message(self._kind, whole)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is over."""
        if not (self._closed or self._fault):  # the library closes where a ping isn't answered
            silent = transport.close_handshake is not None
            self._fault = f"was silent for {PING_S + PONG_S:g} s" if silent else "dropped the call"
        self._end()

    def pause_writing(self) -> None:
        """Too much waits to be sent."""
        self._full, self.push = True, None
        loop = asyncio.get_running_loop()
        self._stall = loop.call_later(STALL_S, self._give_up, f"didn't read for {STALL_S:g} s")

    def resume_writing(self) -> None:
        """The bot reads again."""
        self._full = False
        if self._transport is not None and not self._over:
            self.push = self._transport.send
        self._quiet()

    def _message(self, kind: WSMsgType, data: bytes) -> None:
        if self._over:
            return
        if kind is _TEXT:
            self._text(data)
        elif self._binary is not None:
            self._binary(data)

    def _give_up(self, fault: str) -> None:
        self._fault, self._parts = fault, []
        if self._transport is not None:
            self._transport.disconnect(False)
        self._end()

    def _quiet(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _end(self) -> None:
        self._quiet()
        self.push = None
        if not self._over:
            self._over = True
            self.on_end(f"the bot at {self._where} {self._fault}" if self._fault else "")


async def dial(
    url: str,
    text: Callable[[bytes], None],
    binary: Callable[[bytes], None] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 5.0,
) -> Socket:
    """Connect to a bot.

    Args:
        url: `ws://` or `wss://` (certificates are checked against the system's).
        text: takes each text message; an exception there ends the connection.
        binary: takes each binary message; None: they are ignored.
        headers: sent with the request.
        timeout_s: for all of it.

    Raises:
        EngineLost: it can't be reached.
        EngineRefused: it refuses, or isn't a WebSocket.
    """
    where = urlsplit(url)._replace(query="", fragment="").geturl()  # a query may hold a secret
    socket = Socket(where, text, binary)
    try:
        async with asyncio.timeout(timeout_s):
            await ws_connect(
                lambda: socket,
                url,
                extra_headers=dict(headers or {}),
                websocket_handshake_timeout=None,
                max_frame_size=MAX_MESSAGE,
                max_redirects=0,
                enable_auto_ping=True,
                auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
                auto_ping_idle_timeout=PING_S,
                auto_ping_reply_timeout=PONG_S,
                logger_name="bot",
            )
    except TimeoutError as error:
        raise EngineLost(f"the bot at {where} didn't answer within {timeout_s:g} s") from error
    except ssl.SSLError as error:
        raise EngineLost(f"no TLS with the bot at {where}: {error.reason or error}") from error
    except OSError as error:
        raise EngineLost(f"can't connect to the bot at {where}: {error}") from error
    except WSError as error:
        raise EngineRefused(f"can't connect to the bot at {where}: {error}") from error
    return socket
