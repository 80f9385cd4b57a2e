"""New bots: audio in binary messages and JSON control, as Asterisk's chan_websocket speaks it.

Theory of operation. We dial the bot and act as Asterisk's channel driver does (docs.asterisk.org,
"WebSocket Channel Driver", JSON control messages), so that a bot written for one runs on the other:

    we send    MEDIA_START first, then caller audio (binary, one message a frame), DTMF_END,
               MEDIA_MARK_PROCESSED, MEDIA_BUFFERING_COMPLETED, QUEUE_DRAINED
    it sends   agent audio (binary, any length), MARK_MEDIA, FLUSH_MEDIA, HANGUP,
               START_ and STOP_MEDIA_BUFFERING, REPORT_QUEUE_DRAINED

What differs, to the bot's good: audio of any length at any time is cut into frames here, so
buffering need not be asked for, and there is no XOFF, because minutes may wait. PAUSE_MEDIA isn't
needed, because the bridge pauses the agent by itself where a caller may be interrupting. With
`format = "opus"` a binary message is one Opus packet, both ways.

What Asterisk doesn't have (a bot may ignore and leave out all of it; docs/websocket.md):

    we send    SPEECH_STARTED, MEDIA_FLUSHED (the agent was cut short; how much was heard),
               TOOL_RESULT
    it sends   CALL_TOOL, TEXT (for the transcript)

The bot decides on everything: turns, barge-in (FLUSH_MEDIA), the end: HANGUP hangs up once all was
heard, and when it closes the connection in good order the dialplan goes on with the caller.
"""

from __future__ import annotations

import json
import logging
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from picows import WSMsgType

from bridge.agent import Agent
from bridge.audio import opus
from bridge.audio.g711 import encode_ulaw
from bridge.engines.base import (
    BargeIn,
    CallerText,
    CallEvent,
    Context,
    Digit,
    Heard,
    HearMany,
    Marked,
    Pcm,
    PerCall,
    Shared,
    SpeechStarted,
    ToolCall,
    ToolResult,
)
from bridge.engines.socket import Push, Socket, dial, send_all
from bridge.engines.stream import Stream, l16, pcmu
from bridge.errors import EngineMissing
from bridge.settings import build

log = logging.getLogger(__name__)

RATES = {
    "ulaw": 8000,
    "slin": 8000,
    "slin16": 16000,
    "slin24": 24000,
    "slin48": 48000,
    "opus": opus.SAMPLE_RATE,  # libopus resamples: the bot may speak and hear at any rate
}
"""Formats by Asterisk's names: PCMU, L16 in little-endian order, and Opus."""
_PCM = np.dtype("<i2")
_LITTLE = sys.byteorder == "little"

# What stands before a mark's name, by the command that set it, and what then is told.
_TOLD = {
    "MARK_MEDIA": "MEDIA_MARK_PROCESSED",
    "STOP_MEDIA_BUFFERING": "MEDIA_BUFFERING_COMPLETED",
    "REPORT_QUEUE_DRAINED": "QUEUE_DRAINED",
}


@dataclass(frozen=True)
class WebsocketSettings:
    """The table `[websocket]` of an agent file."""

    url: str
    """Where the bot listens: `wss://…` (or `ws://…`)."""
    format: Literal["ulaw", "slin", "slin16", "slin24", "slin48", "opus"] = "slin16"
    """Of the audio both ways."""
    connect_timeout_s: float = 5.0
    uplink_chunk_ms: int = 20
    """So much of the caller's audio goes into one message (with "opus": into one delivery)."""

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("ws", "wss"):
            raise ValueError(f"'url' is '{self.url}'; it takes ws://… or wss://…")
        if not 0 < self.connect_timeout_s <= 30:
            raise ValueError(f"'connect_timeout_s' is {self.connect_timeout_s}; it takes up to 30")
        if self.uplink_chunk_ms not in range(20, 201, 20):
            raise ValueError(f"'uplink_chunk_ms' is {self.uplink_chunk_ms}; it takes 20, 40 … 200")


class WebsocketEngine:
    """One call's connection."""

    turns: Literal["bridge", "engine"] = "engine"
    autonomous: bool = True

    def __init__(self, settings: WebsocketSettings) -> None:
        self.rate = RATES[settings.format]
        self.uplink_chunk_ms = settings.uplink_chunk_ms
        self._settings = settings
        self._coder = _coder(settings.format)
        self.hear_many: HearMany | None = _MANY.get(type(self._coder))
        self._context: Context | None = None
        self._stream: Stream | None = None
        self._socket: Socket | None = None
        self._tools: set[str] = set()
        self._flushed = False
        self._warned = False

    # The port -------------------------------------------------------------------------------------

    async def start(self, context: Context) -> None:
        """Dial the bot. Raises `EngineError`."""
        settings = self._settings
        self._context, self._stream = context, Stream(context)
        self._socket = await dial(
            settings.url, self._control, self._media, timeout_s=settings.connect_timeout_s
        )
        self._socket.on_end = self._stream.ended
        variables = dict(context.variables)
        if context.resume is not None:  # another process began the conversation
            variables["RESUME_AT"] = str(len(context.history))
        self._tell(
            "MEDIA_START",
            connection_id=str(uuid.uuid4()),
            channel=f"WebSocket/{context.call_id}",
            format=settings.format,
            optimal_frame_size=self._coder.frame_bytes,
            ptime=20,
            channel_variables=variables,
        )

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """A binary message of these frames."""
        if self._socket is not None and self._stream is not None:
            self._stream.tick(at_ms)
            for data in self._coder.encode(pcm):
                self._socket.send_binary(data)

    def take(self, at_ms: int) -> Push | None:
        """What sends the frames that begin there; None: `hear` has to be told of them."""
        stream, socket = self._stream, self._socket
        if socket is None or stream is None or at_ms >= stream.over_ms:
            return None
        stream.now_ms = at_ms
        return socket.push

    def notify(self, event: CallEvent) -> None:
        """Keys, marks and the caller's voice; the bot hears the rest for itself."""
        match event:
            case Digit(digit):
                self._tell("DTMF_END", digit=digit)
            case SpeechStarted():
                self._tell("SPEECH_STARTED")
            case BargeIn() if self._stream is not None:
                self._coder.cut()
                self._stream.cut()
                self._flushed = True
            case Heard(heard_ms=ms, cut=True) if self._flushed:
                self._flushed = False
                self._tell("MEDIA_FLUSHED", heard_ms=ms)
            case ToolResult(id, ok, value) if id in self._tools:
                self._tools.remove(id)
                said = value if isinstance(value, str | int | float | bool | None) else str(value)
                self._tell("TOOL_RESULT", correlation_id=id, ok=ok, value=said)
            case Marked(name):
                command, _, correlation = name.partition(" ")
                extra = {"correlation_id": correlation} if correlation else {}
                self._tell(_TOLD[command], **extra)
            case _:
                pass

    async def close(self) -> None:
        """Close the connection."""
        self._context = None
        if self._stream is not None:
            self._stream.stop()
        if self._socket is not None:
            socket, self._socket = self._socket, None
            await socket.close()

    # To and from the bot --------------------------------------------------------------------------

    def _tell(self, event: str, **body: object) -> None:
        if self._socket is not None and self._context is not None:
            message = {"event": event, "channel_id": self._context.call_id, **body}
            self._socket.send(json.dumps(message, separators=(",", ":")).encode())

    def _media(self, data: bytes) -> None:
        if self._stream is None:
            return
        try:
            self._coder.play(self._stream, data)
        except ValueError as error:
            self._odd(str(error))

    def _control(self, raw: bytes) -> None:
        stream, context = self._stream, self._context
        if stream is None or context is None:
            return
        try:
            message: dict[str, Any] = json.loads(raw)
            command = message["command"]
            correlation = str(message.get("correlation_id", ""))
            if isinstance(command, str) and command in _TOLD:
                stream.mark(f"{command} {correlation}".strip())
            elif command == "FLUSH_MEDIA":
                self._coder.cut()
                self._flushed = True
                stream.clear()
            elif command == "HANGUP":
                stream.done()
                context.emit(ToolCall("hang-up", "hang_up"))
            elif command == "CALL_TOOL":
                self._call_tool(context, stream, correlation, message)
            elif command == "TEXT":
                self._text(context, stream, message)
            elif command not in ("START_MEDIA_BUFFERING", "ANSWER"):  # both are so anyway
                self._odd(f"command {command!r:.40}")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._odd(repr(error))

    def _call_tool(
        self, context: Context, stream: Stream, correlation: str, message: dict[str, Any]
    ) -> None:
        arguments = message.get("arguments", {})
        if not (correlation and isinstance(arguments, dict)):
            raise ValueError("CALL_TOOL takes a correlation_id and arguments")
        stream.done()
        self._tools.add(correlation)
        context.emit(ToolCall(correlation, str(message["name"]), arguments))

    def _text(self, context: Context, stream: Stream, message: dict[str, Any]) -> None:
        text = str(message["text"])
        if message["role"] == "agent":
            stream.text(text)
        elif message["role"] == "caller":
            context.emit(CallerText(text, final=True))
        else:
            raise ValueError(f"role {message['role']!r:.40}")

    def _odd(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("the bot sends what we don't know, which is ignored: %s", what)


# Formats ------------------------------------------------------------------------------------------


class _L16:
    """L16, little-endian."""

    def __init__(self, rate: int) -> None:
        self.frame_bytes = rate // 50 * 2
        self._half = b""

    def encode(self, pcm: Pcm) -> Iterable[bytes]:
        """The messages that these frames make."""
        return ((pcm if _LITTLE else pcm.astype(_PCM)).tobytes(),)

    def play(self, stream: Stream, data: bytes) -> None:
        """A message of the bot's, which may be cut within a sample. Raises `ValueError`."""
        if self._half or len(data) & 1:
            data = self._half + data
            whole = len(data) & ~1
            data, self._half = data[:whole], data[whole:]
        stream.play(data, l16)

    def cut(self) -> None:
        """What comes next is new."""
        self._half = b""


class _Pcmu(_L16):
    """PCMU."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.frame_bytes = rate // 50

    def encode(self, pcm: Pcm) -> Iterable[bytes]:
        """The messages that these frames make."""
        return (encode_ulaw(pcm).tobytes(),)

    def play(self, stream: Stream, data: bytes) -> None:
        """A message of the bot's."""
        stream.play(data, pcmu)


class _Opus(_L16):
    """Opus packets: one a frame from us, any length in time from the bot (RFC 6716)."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.frame_bytes = opus.BIT_RATE // 8 // 50
        self._frame = rate // 50
        self._coder, self._call = opus.OpusCoder(), np.zeros(1, np.intp)

    def encode(self, pcm: Pcm) -> Iterable[bytes]:
        """The messages that these frames make."""
        frames = pcm.reshape(-1, 1, self._frame)
        return [self._coder.encode(self._call, frame).tobytes() for frame in frames]

    def play(self, stream: Stream, data: bytes) -> None:
        """A packet of the bot's. Raises `ValueError`."""
        stream.play_alone(self._decode(data))

    def _decode(self, data: bytes) -> Pcm:
        packet, size = np.frombuffer(data, np.uint8)[None], np.array([len(data)])
        head = np.zeros((1, 2), np.uint8)
        head[0, : min(2, len(data))] = packet[0, :2]
        if not opus.spans(head, size)[0]:
            raise ValueError(f"{len(data)} bytes that are no Opus packet")
        decoded: Pcm = self._coder.decode(self._call, packet, size)[0]
        return decoded


def _l16_many(engines: Sequence[WebsocketEngine], at_ms: Sequence[int], pcm: Pcm) -> Sequence[int]:
    """What `hear` does, for many."""
    return _send_many(engines, at_ms, pcm if _LITTLE else pcm.astype(_PCM))


def _pcmu_many(engines: Sequence[WebsocketEngine], at_ms: Sequence[int], pcm: Pcm) -> Sequence[int]:
    """The same in PCMU."""
    return _send_many(engines, at_ms, encode_ulaw(pcm))


def _send_many(
    engines: Sequence[WebsocketEngine], at_ms: Sequence[int], encoded: NDArray[Any]
) -> Sequence[int]:
    left, messages = [], []
    raw, size = encoded.tobytes(), encoded[0].nbytes
    kind, begin = WSMsgType.BINARY, 0
    for n, engine in enumerate(engines):
        if (push := engine.take(at_ms[n])) is None:
            left.append(n)
        else:
            messages.append((push, kind, raw[begin : begin + size]))
        begin += size
    send_all(messages)
    return left


_MANY: dict[type[_L16], HearMany] = {_L16: _l16_many, _Pcmu: _pcmu_many}


def _coder(name: str) -> _L16:
    kinds: dict[str, type[_L16]] = {"ulaw": _Pcmu, "opus": _Opus}
    if name == "opus" and (why := opus.missing()):
        raise EngineMissing(why)
    return kinds.get(name, _L16)(RATES[name])


def provider(agent: Agent, shared: Shared) -> PerCall:
    """The registry's entrance."""
    settings = build(WebsocketSettings, agent.options, f"{agent.file}: [websocket]")
    return PerCall(lambda: WebsocketEngine(settings))
