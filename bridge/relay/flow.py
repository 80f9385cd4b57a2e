"""One call's audio: a WebSocket to Asterisk, and a UDP port towards the media process."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from bridge.errors import PbxError, PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx import certificate
from bridge.pbx.base import Address, Codec
from bridge.pbx.settings import AsteriskSettings
from bridge.relay.stream import FORMS, Downstream, Upstream, command, queue_length

LOST_MS: Final = 15_000
"""Without an acknowledgement for so long TCP gives the connection up."""
_MOST_MESSAGE: Final = 1 << 16
_MOST_DATAGRAM: Final = 2048
_PING_S, _PONG_S = 10.0, 5.0
# Of audio on its way: what waits longer than a second is of no use to anybody. The kernel counts
# some 1.3 KB for each of our small segments, and doubles what it is told.
_KERNEL_BYTES: Final = 16_384
_WAITING_BYTES: Final = 4096
_AT_ONCE: Final = 4

_TEXT, _BINARY, _CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CLOSE


class Flow(WSListener):
    """One call's; made by `open_flow`. Ends with its connection."""

    def __init__(self, codec: Codec, sock: socket.socket, on_end: Callable[[Flow], None]) -> None:
        """Use `open_flow`."""
        self.address: Address = sock.getsockname()[:2]
        """Where its RTP comes from."""
        self.refused = 0
        """Frames that the network was too slow for."""
        self.down = Downstream(FORMS[codec])
        self._up = Upstream(
            *(FORMS[codec], secrets.randbits(32), secrets.randbits(15), secrets.randbits(32))
        )
        self._sock, self._on_end = sock, on_end
        self._loop = asyncio.get_running_loop()
        self._transport: WSTransport | None = None
        self._full = self._paused = False
        self._json: bool | None = None

    def close(self) -> None:
        """End it: Asterisk hangs the channel up."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect()

    # What the library tells -----------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        below = transport.underlying_transport
        below.set_write_buffer_limits(high=_WAITING_BYTES)
        if (sock := below.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_MS)
        self._loop.add_reader(self._sock, self._from_media)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame of the caller's, or an event."""
        kind = frame.msg_type
        if kind is _BINARY:
            now_ms = time.monotonic_ns() / 1e6
            message = frame.get_payload_as_bytes()
            for packet in self._up.packets(now_ms, message, alone=frame.last_in_buffer):
                with contextlib.suppress(OSError):  # nobody is there: media's successor comes
                    self._sock.send(packet)
        elif kind is _TEXT:
            self._event(frame.get_payload_as_bytes())
        elif kind is _CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is over."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()
        self._on_end(self)

    def pause_writing(self) -> None:
        """The network is too slow."""
        self._full = True

    def resume_writing(self) -> None:
        """It isn't any more."""
        self._full = False

    # ----------------------------------------------------------------------------------------------

    def _event(self, event: bytes) -> None:
        if self._json is None:
            self._json = event.startswith(b"{")
        if (length := queue_length(event)) is not None:
            if self.down.told(length):
                self._say("FLUSH_MEDIA")
        elif b"MEDIA_XOFF" in event:
            self._paused = True
        elif b"MEDIA_XON" in event:
            self._paused = False

    def _say(self, name: str) -> None:
        if self._transport is not None and self._json is not None:
            self._transport.send(_TEXT, command(name, as_json=self._json))

    def _from_media(self) -> None:
        assert self._transport is not None
        for _ in range(_AT_ONCE):
            try:
                packet = self._sock.recv(_MOST_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:  # what an earlier packet earned: media is away for a moment
                continue
            if self._full or self._paused:
                self.refused += 1
            elif (message := self.down.message(packet)) is not None:
                self._transport.send(_BINARY, message)
            if self.down.asks and not self._full:
                self._say("GET_STATUS")


def media_socket(to: Address, port: int = 0) -> socket.socket:
    """A UDP socket that takes from `to` alone, which is an address of this host's.

    `port`: the one that a predecessor had; 0: any.

    Raises:
        PbxRefused: `to` is another host's, or somebody else has the port.
    """
    host = "127.0.0.1" if to[0] == "0.0.0.0" else to[0]  # noqa: S104 - told, not bound to
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((host, port))
        sock.connect((host, to[1]))
    except OSError as error:
        sock.close()
        if port:
            raise PbxRefused(f"UDP port {port} on {host} can't be had again: {error}") from error
        raise PbxRefused(
            f"{to[0]} is no address of this host, and audio would leave it unencrypted: with "
            'media_transport = "websocket" leave [media] advertised_address out'
        ) from error
    return sock


async def open_flow(
    settings: AsteriskSettings,
    context: ssl.SSLContext,
    connection: str,
    codec: Codec,
    sock: socket.socket,
    on_end: Callable[[Flow], None] = lambda flow: None,
) -> Flow:
    """Connect to a channel of Asterisk's that waits for it.

    Args:
        settings: whose it is.
        context: checks its certificate.
        connection: the id that ARI gave the channel.
        codec: what the channel speaks.
        sock: see `media_socket`; closed with the flow, or here.
        on_end: told once, when a flow that had been opened is over.

    Raises:
        PbxGone: there is no such channel any more.
        PbxRefused: certificate, or an answer that isn't Asterisk's.
        PbxUnreachable: nobody answers.
    """
    url = f"{settings.url.rstrip('/')}/media/{connection}".replace("http", "ws", 1)
    flow = Flow(codec, sock, on_end)
    try:
        async with asyncio.timeout(settings.media_timeout_s):
            await ws_connect(
                lambda: flow,
                url,
                ssl_context=context,
                extra_headers={"Sec-WebSocket-Protocol": "media"},
                websocket_handshake_timeout=None,
                max_frame_size=_MOST_MESSAGE,
                max_redirects=0,
                enable_auto_ping=True,
                auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
                auto_ping_idle_timeout=_PING_S,
                auto_ping_reply_timeout=_PONG_S,
                logger_name="relay",
            )
    except BaseException as error:
        sock.close()
        if isinstance(error, (TimeoutError, OSError, WSError)):
            raise _told(error, settings) from error
        raise
    return flow


def _told(error: Exception, settings: AsteriskSettings) -> PbxError:
    where = urlsplit(settings.url).netloc
    if isinstance(error, TimeoutError):
        within = f"{settings.media_timeout_s:g} s"
        return PbxUnreachable(f"Asterisk at {where} took no connection for audio within {within}")
    if isinstance(error, ssl.SSLError):
        return PbxRefused(certificate.fault(error, settings.url))
    if isinstance(error, OSError):
        return PbxUnreachable(f"can't connect to Asterisk at {where} for audio: {error}")
    if isinstance(error, WSHandshakeError) and error.response is not None:
        status = int(error.response.status)
        if status == 404:
            return PbxGone("Asterisk knows no such channel for audio: it has ended")
        if status == 503:
            return PbxUnreachable(
                f"Asterisk at {where} takes no more connections: raise sessionlimit in http.conf"
            )
        return PbxRefused(f"Asterisk at {where} answers audio's connection with {status}")
    why = " ".join(str(error).split())[:100]
    return PbxRefused(f"Asterisk at {where} does not take audio's connection: {why}")
