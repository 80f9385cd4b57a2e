"""New bots: PCM in binary messages and JSON control, as Asterisk's chan_websocket speaks it.

Theory of operation. We dial the bot and act as Asterisk's channel driver does (docs.asterisk.org,
"WebSocket Channel Driver", JSON control messages), so that a bot written for one runs on the other:

    we send    MEDIA_START first, then caller audio (binary, one message a frame), DTMF_END,
               MEDIA_MARK_PROCESSED, MEDIA_BUFFERING_COMPLETED, QUEUE_DRAINED
    it sends   agent audio (binary, any length), MARK_MEDIA, FLUSH_MEDIA, HANGUP,
               START_ and STOP_MEDIA_BUFFERING, REPORT_QUEUE_DRAINED

What differs, to the bot's good: audio of any length at any time is cut into frames here, so
buffering need not be asked for; there is no XOFF, because minutes may wait; and SPEECH_STARTED
tells when the caller begins to speak. PAUSE_MEDIA isn't needed, because the bridge pauses the agent
by itself where a caller may be interrupting.

The bot decides on everything: turns, barge-in (FLUSH_MEDIA), the end: HANGUP hangs up once all was
heard, and when it closes the connection in good order the dialplan goes on with the caller.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

from bridge.agent import Agent
from bridge.audio.g711 import decode_ulaw, encode_ulaw
from bridge.engines.base import (
    BargeIn,
    CallEvent,
    Context,
    Digit,
    Marked,
    Pcm,
    PerCall,
    Shared,
    SpeechStarted,
    ToolCall,
)
from bridge.engines.socket import Socket, dial
from bridge.engines.stream import Stream
from bridge.settings import build

log = logging.getLogger(__name__)

RATES = {"ulaw": 8000, "slin": 8000, "slin16": 16000, "slin24": 24000, "slin48": 48000}
"""Formats by Asterisk's names: PCMU, and L16 in little-endian order."""
_PCM = np.dtype("<i2")

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
    format: Literal["ulaw", "slin", "slin16", "slin24", "slin48"] = "slin16"
    """Of the audio both ways."""
    connect_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("ws", "wss"):
            raise ValueError(f"'url' is '{self.url}'; it takes ws://… or wss://…")
        if not 0 < self.connect_timeout_s <= 30:
            raise ValueError(f"'connect_timeout_s' is {self.connect_timeout_s}; it takes up to 30")


class WebsocketEngine:
    """One call's connection."""

    turns: Literal["bridge", "engine"] = "engine"
    autonomous: bool = True

    def __init__(self, settings: WebsocketSettings) -> None:
        self.rate = RATES[settings.format]
        self._settings = settings
        self._context: Context | None = None
        self._stream: Stream | None = None
        self._socket: Socket | None = None
        self._half = b""
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
            optimal_frame_size=self.rate // 50 * (1 if settings.format == "ulaw" else 2),
            ptime=20,
            channel_variables=variables,
        )

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """A binary message of these frames."""
        if self._socket is not None:
            ulaw = self._settings.format == "ulaw"
            data = encode_ulaw(pcm) if ulaw else pcm.astype(_PCM, copy=False)
            self._socket.send_binary(data.tobytes())

    def notify(self, event: CallEvent) -> None:
        """Keys, marks and the caller's voice; the bot hears the rest for itself."""
        match event:
            case Digit(digit):
                self._tell("DTMF_END", digit=digit)
            case SpeechStarted():
                self._tell("SPEECH_STARTED")
            case BargeIn() if self._stream is not None:
                self._half = b""
                self._stream.cut()
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

    def _tell(self, event: str, **body: str | int | Mapping[str, str]) -> None:
        if self._socket is not None and self._context is not None:
            message = {"event": event, "channel_id": self._context.call_id, **body}
            self._socket.send(json.dumps(message, separators=(",", ":")).encode())

    def _media(self, data: bytes) -> None:
        if self._stream is None:
            return
        if self._settings.format == "ulaw":
            self._stream.play(decode_ulaw(np.frombuffer(data, np.uint8)))
            return
        data = self._half + data  # a bot may cut within a sample
        whole = len(data) & ~1
        self._half = data[whole:]
        self._stream.play(np.frombuffer(data[:whole], _PCM).astype(np.int16, copy=False))

    def _control(self, raw: bytes) -> None:
        stream, context = self._stream, self._context
        if stream is None or context is None:
            return
        try:
            message: dict[str, Any] = json.loads(raw)
            command = message["command"]
            correlation = str(message.get("correlation_id", ""))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._odd(repr(error))
            return
        if isinstance(command, str) and command in _TOLD:
            stream.mark(f"{command} {correlation}".strip())
        elif command == "FLUSH_MEDIA":
            self._half = b""
            stream.clear()
        elif command == "HANGUP":
            stream.done()
            context.emit(ToolCall("hang-up", "hang_up"))
        elif command not in ("START_MEDIA_BUFFERING", "ANSWER"):  # both are so anyway
            self._odd(f"command {command!r:.40}")

    def _odd(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("the bot sends what we don't know, which is ignored: %s", what)


def provider(agent: Agent, shared: Shared) -> PerCall:
    """The registry's entrance."""
    settings = build(WebsocketSettings, agent.options, f"{agent.file}: [websocket]")
    return PerCall(lambda: WebsocketEngine(settings))
