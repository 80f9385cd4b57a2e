"""Any bot written for Twilio: we dial it as Twilio's Media Streams would.

Theory of operation. A bidirectional stream (`<Connect><Stream>`), by the letter of Twilio's
"Media Streams - WebSocket Messages". We send, each numbered: `connected`, `start`, then `media`
every 20 ms (PCMU, base64), `dtmf`, `mark`, `stop`. The bot sends `media` as fast as it likes,
`mark`, `clear`. What it sends is played in order; a mark comes back when all that was sent before
it has been played, and at once after `clear`, which drops what is not played yet.

The bot decides on everything: turns, barge-in (its `clear`), the end. When it closes the connection
in good order the dialplan goes on with the caller once he has heard what was sent; when the
connection breaks, that is the engine's failure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from picows import WSMsgType

from bridge.agent import Agent
from bridge.audio.g711 import encode_ulaw
from bridge.engines.base import BargeIn, CallEvent, Context, Digit, Marked, Pcm, PerCall, Shared
from bridge.engines.socket import Socket, dial, send_all
from bridge.engines.stream import Stream, pcmu
from bridge.settings import build

log = logging.getLogger(__name__)

_JSON = json.JSONDecoder()


@dataclass(frozen=True)
class TwilioSettings:
    """The table `[twilio]` of an agent file."""

    url: str
    """Where the bot listens: `wss://…` (or `ws://…`)."""
    account_sid: str = "AC" + "0" * 32
    """Twilio's account, as the bot is told; we have none."""
    auth_token_env: str = "TWILIO_AUTH_TOKEN"  # noqa: S105 (a name, no secret)
    """The environment variable with the secret that signs the connection; unsigned without it."""
    connect_timeout_s: float = 5.0
    uplink_chunk_ms: int = 20
    """So much of the caller's audio goes into one `media` message; Twilio itself sends 20."""
    parameters: dict[str, str] = field(default_factory=dict)
    """The bot's `customParameters`, beside those that the dialplan passes."""

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("ws", "wss"):
            raise ValueError(f"'url' is '{self.url}'; it takes ws://… or wss://…")
        if not 0 < self.connect_timeout_s <= 30:
            raise ValueError(f"'connect_timeout_s' is {self.connect_timeout_s}; it takes up to 30")
        if self.uplink_chunk_ms not in range(20, 201, 20):
            raise ValueError(f"'uplink_chunk_ms' is {self.uplink_chunk_ms}; it takes 20, 40 … 200")


class TwilioEngine:
    """One call's stream."""

    rate: int = 8000
    turns: Literal["bridge", "engine"] = "engine"
    autonomous: bool = True
    told_of_speech: bool = False

    def __init__(self, settings: TwilioSettings) -> None:
        self._settings = settings
        self.uplink_chunk_ms = settings.uplink_chunk_ms
        self._stream: Stream | None = None
        self._socket: Socket | None = None
        self._stream_sid = "MZ" + uuid.uuid4().hex
        self._call_sid = ""
        self._sequence = self._chunk = 0
        self._first_ms: int | None = None
        self._media_end = b'"},"streamSid":"%b"}' % self._stream_sid.encode()
        self._warned = False

    # The port -------------------------------------------------------------------------------------

    async def start(self, context: Context) -> None:
        """Dial the bot. Raises `EngineError`."""
        digest = hashlib.md5(context.call_id.encode(), usedforsecurity=False).hexdigest()
        self._call_sid = "CA" + digest
        self._stream = Stream(context)
        settings = self._settings
        token = os.environ.get(settings.auth_token_env, "")
        headers = {"X-Twilio-Signature": signature(token, settings.url)} if token else {}
        self._socket = await dial(
            settings.url, self._message, headers=headers, timeout_s=settings.connect_timeout_s
        )
        self._socket.on_end = self._stream.ended
        self._socket.send(b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
        self._tell("start", self._start(context))

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """A `media` message of these frames."""
        if self._socket is None or self._stream is None:
            return
        self._stream.tick(at_ms)
        self._socket.send(self._media(at_ms, encode_ulaw(pcm).data))

    @staticmethod
    def hear_many(engines: Sequence[TwilioEngine], at_ms: Sequence[int], pcm: Pcm) -> Sequence[int]:
        """The same for many."""
        left, messages = [], []
        encoded = encode_ulaw(pcm)
        for n, engine in enumerate(engines):
            stream, socket, ms = engine._stream, engine._socket, at_ms[n]
            if stream is None or socket is None or socket.push is None or ms >= stream.over_ms:
                left.append(n)
                continue
            stream.now_ms = ms
            messages.append((socket.push, WSMsgType.TEXT, engine._media(ms, encoded[n].data)))
        send_all(messages)
        return left

    def _media(self, at_ms: int, pcmu: memoryview) -> bytes:
        """The next `media` message."""
        if self._first_ms is None:
            self._first_ms = at_ms
        self._sequence += 1
        self._chunk += 1
        # By hand, because thousands a second pass here, and only four fields ever change.
        return (
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d",'
            b'"timestamp":"%d","payload":"%b%b'
            % (
                *(self._sequence, self._chunk, at_ms - self._first_ms),
                binascii.b2a_base64(pcmu, newline=False),
                self._media_end,
            )
        )

    def notify(self, event: CallEvent) -> None:
        """Keys and marks; the bot hears the rest for itself."""
        match event:
            case Digit(digit):
                self._tell("dtmf", {"track": "inbound_track", "digit": digit})
            case Marked(name):
                self._tell("mark", {"name": name})
            case BargeIn() if self._stream is not None:
                self._stream.cut()
            case _:
                pass

    async def close(self) -> None:
        """Say `stop` and close."""
        if self._stream is not None:
            self._stream.stop()
        if self._socket is not None:
            self._tell(
                "stop", {"accountSid": self._settings.account_sid, "callSid": self._call_sid}
            )
            socket, self._socket = self._socket, None
            await socket.close()

    # To the bot -----------------------------------------------------------------------------------

    def _start(self, context: Context) -> dict[str, Any]:
        parameters = {**self._settings.parameters, **context.variables}
        if context.resume is not None:  # another process began the conversation
            parameters["resumeOf"] = self._call_sid
            parameters["resumeAt"] = str(len(context.history))
        return {
            "accountSid": self._settings.account_sid,
            "streamSid": self._stream_sid,
            "callSid": self._call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        }

    def _tell(self, event: str, body: Mapping[str, Any]) -> None:
        if self._socket is None:
            return
        self._sequence += 1
        message = {
            "event": event,
            "sequenceNumber": str(self._sequence),
            event: body,
            "streamSid": self._stream_sid,
        }
        self._socket.send(json.dumps(message, separators=(",", ":")).encode())

    # From the bot ---------------------------------------------------------------------------------

    def _message(self, raw: bytes) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            message = parse(raw)
            match message["event"]:
                case "media":
                    payload = binascii.a2b_base64(message["media"]["payload"], strict_mode=True)
                    stream.play(payload, pcmu)
                case "mark":
                    stream.mark(str(message["mark"]["name"]))
                case "clear":
                    stream.clear()
                case event:
                    self._odd(f"event {event!r:.40}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._odd(repr(error))

    def _odd(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("the bot sends what Twilio doesn't know, which is ignored: %s", what)


def parse(raw: bytes) -> Any:
    """The JSON value of a message. Raises `ValueError`."""
    text = raw.decode()
    if text.startswith("{"):  # half the time of `loads`, which looks at encodings and white space
        value, end = _JSON.raw_decode(text)
        if end == len(text):
            return value
    return json.loads(text)


def signature(token: str, url: str, form: Mapping[str, str] | None = None) -> str:
    """The header `X-Twilio-Signature` of a request.

    Args:
        token: the account's auth token.
        url: as it is dialled, query included.
        form: the request's POST fields; a WebSocket has none.

    Returns:
        HMAC-SHA1 of the URL and the sorted fields, in base64 (Twilio, "Validating requests").
    """
    signed = url + "".join(key + value for key, value in sorted((form or {}).items()))
    return base64.b64encode(hmac.new(token.encode(), signed.encode(), "sha1").digest()).decode()


def provider(agent: Agent, shared: Shared) -> PerCall:
    """The registry's entrance."""
    settings = build(TwilioSettings, agent.options, f"{agent.file}: [twilio]")
    return PerCall(lambda: TwilioEngine(settings))
