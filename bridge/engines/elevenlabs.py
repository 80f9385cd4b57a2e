"""ElevenLabs Agents: an agent that was set up there, on this telephone.

Theory of operation. JSON both ways, audio in base64, in the formats that the agent there is set to
(`ulaw_8000` costs nothing on a telephone line; PCM at 8 to 48 kHz works as well).

    we send    conversation_initiation_client_data, user_audio_chunk, user_message (keys, silence),
               contextual_update (the history, what was heard of an answer), client_tool_result,
               pong
    it sends   conversation_initiation_metadata, audio, agent_response, user_transcript,
               interruption, client_tool_call, ping

The server ends turns and interrupts. It numbers what it sends and says up to which number an
interruption drops it; it doesn't say where an answer ends, so that one ends where nothing more came
for `GAP_S`. What this file overrides (instructions, greeting) has to be allowed in that agent's
security settings, and tools have to be declared there as client tools.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from bridge.agent import Agent
from bridge.audio.resample import RATES
from bridge.engines import vendor
from bridge.engines.base import Engine, Pcm, Shared
from bridge.engines.codec import Codec
from bridge.engines.dialled import Dialled
from bridge.engines.prompt import Message
from bridge.engines.speech import SpeechEngine
from bridge.engines.wire import Past, SpeechSettings, refused, unreachable
from bridge.errors import EngineError
from bridge.settings import build

log = logging.getLogger(__name__)

VENDOR = "ElevenLabs"
GAP_S = 0.5
HEARD = '[The caller interrupted your last answer. He has heard only this: "{text}".]'
HEARD_NOTHING = "[The caller interrupted your last answer. He has heard nothing of it.]"
SIDES = {"assistant": "agent", "user": "caller", "tool": "tool", "system": "note"}


@dataclass(frozen=True, kw_only=True)
class ElevenLabsSettings(SpeechSettings):
    """The table `[elevenlabs]` of an agent file."""

    agent_id: str
    """Of the agent there."""
    public: bool = False
    """Anybody may talk to it: no key is needed."""
    url: str = "https://api.elevenlabs.io"
    api_key_env: str = "ELEVENLABS_API_KEY"
    """The environment variable that holds the key."""
    session_s: float = 600.0
    """How long a conversation may last there; a new one begins before that ends."""


class ElevenLabsWire:
    """One conversation."""

    speaks = False
    """The agent there can't be told what to say."""

    def __init__(self, engine: SpeechEngine, settings: ElevenLabsSettings, agent: Agent) -> None:
        """Nothing happens before `open`."""
        self.lasts_s = settings.session_s
        self._engine, self._settings, self._agent = engine, settings, agent
        self._dialled = Dialled(VENDOR, self._take)
        self._up: Codec | None = None
        self._down: Codec | None = None
        self._turn = 0
        self._dropped = -1  # up to that number, of what the server sent
        self._deaf = False
        self._gap: asyncio.TimerHandle | None = None

    # Connection -----------------------------------------------------------------------------------

    async def open(self, past: Past) -> None:
        """Connect and begin. Raises `EngineError`."""
        settings = self._settings
        await self._dialled.connect(await self._address(), {}, settings.api_key_env)
        override: dict[str, Any] = {}
        if settings.instructions or settings.context:
            override["prompt"] = {"prompt": past.messages[0].text}
        history = _told(past.messages[1:])
        context = self._engine.context
        if history or context.resume is not None:
            override["first_message"] = ""
        elif context.rejoin or context.greeting:
            override["first_message"] = context.rejoin or context.greeting
        start: dict[str, Any] = {
            "type": "conversation_initiation_client_data",
            "dynamic_variables": dict(context.variables),
        }
        if override:
            start["conversation_config_override"] = {"agent": override}
        self._dialled.send(start)
        await self._dialled.expect("conversation_initiation_metadata")
        if history:
            text = f"The conversation so far, which goes on now:\n{history}"
            self._dialled.send({"type": "contextual_update", "text": text})

    async def _address(self) -> str:
        """Where this conversation is dialled: with a key, an address that is signed for it."""
        settings = self._settings
        place, name = urlsplit(settings.url), quote(settings.agent_id)
        if settings.public:
            scheme = "ws" if place.scheme == "http" else "wss"
            return f"{scheme}://{place.netloc}/v1/convai/conversation?agent_id={name}"
        headers = {"xi-api-key": vendor.key(settings.api_key_env, VENDOR)}
        url = f"{settings.url}/v1/convai/conversation/get-signed-url?agent_id={name}"
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.get(url) as response,
            ):
                if response.status != 200:
                    raise refused(VENDOR, response.status, settings.api_key_env)
                return str((await response.json())["signed_url"])
        except (OSError, aiohttp.ClientError, ValueError, KeyError, TypeError) as error:
            raise unreachable(VENDOR, error) from error

    async def run(self) -> None:
        """Until it is over. Raises `EngineLost`."""
        await self._dialled.run()

    async def close(self) -> None:
        """Close the connection; idempotent."""
        if self._gap is not None:
            self._gap.cancel()
        await self._dialled.close()

    # What the engine wants ------------------------------------------------------------------------

    def hear(self, pcm: Pcm) -> None:
        """Caller audio."""
        if self._up is not None and (data := self._up.encode(pcm)):
            self._dialled.send_text(b'{"user_audio_chunk":"%b"}' % base64.b64encode(data))

    def begin(self, pcm: Pcm) -> None:
        """The server finds that out by itself."""

    def answer(self) -> None:
        """So it does that."""

    def tell(self, text: str, *, answer: bool) -> None:
        """As the caller's words, or as something to know."""
        if answer:
            self._listen()
        self._dialled.send(
            {"type": "user_message" if answer else "contextual_update", "text": text}
        )

    def say(self, text: str) -> None:
        """The greeting: it was said at the beginning how that begins."""
        self._listen()

    def stop(self) -> None:
        """There is no word for it: what still comes isn't heard."""
        self._deaf = True

    def cut(self, item: str, heard_ms: int, text: str) -> None:
        """As something to know: the agent there goes by its own clock."""
        self.tell(HEARD.format(text=text) if text else HEARD_NOTHING, answer=False)

    def result(self, call: str, name: str, ok: bool, value: Any, *, answer: bool) -> None:
        """A tool's result; the server answers it by itself."""
        if answer:
            self._listen()
        self._dialled.send(
            {
                "type": "client_tool_result",
                "tool_call_id": call,
                "result": value if isinstance(value, str) else _json(value),
                "is_error": not ok,
            }
        )

    def _listen(self) -> None:
        """The next answer is wanted."""
        self._deaf = False
        self._turn += 1

    # From the server ------------------------------------------------------------------------------

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "conversation_initiation_metadata":
                formats = message["conversation_initiation_metadata_event"]
                self._up, self._down = self._codecs(formats)
            case "audio":
                event = message["audio_event"]
                self._audio(int(event["event_id"]), str(event["audio_base_64"]))
            case "agent_response" if not self._deaf:
                text = str(message["agent_response_event"]["agent_response"]).strip()
                self._engine.replying()
                self._engine.text(self._item, text)
            case "user_transcript":
                self._engine.caller_said(
                    str(message["user_transcription_event"]["user_transcript"])
                )
                self._listen()
                self._engine.ended(0)
            case "interruption":
                self._dropped = max(self._dropped, int(message["interruption_event"]["event_id"]))
                self._engine.interrupted()
                self._listen()
            case "client_tool_call" if not self._deaf:
                call = message["client_tool_call"]
                arguments = dict(call.get("parameters") or {})
                self._engine.called(str(call["tool_call_id"]), str(call["tool_name"]), arguments)
            case "ping":
                self._dialled.send({"type": "pong", "event_id": message["ping_event"]["event_id"]})

    def _codecs(self, formats: dict[str, Any]) -> tuple[Codec, Codec]:
        line = self._engine.context.rate
        found = []
        for side in ("user_input_audio_format", "agent_output_audio_format"):
            name, _, rate = str(formats[side]).partition("_")
            if name not in ("ulaw", "pcm") or not rate.isdigit() or int(rate) not in RATES:
                raise EngineError(
                    f"{VENDOR}: the agent's audio is set to {formats[side]}; set it to ulaw_8000 "
                    "there"
                )
            found.append(Codec("pcmu" if name == "ulaw" else "pcm", line, int(rate), int(rate)))
        return found[0], found[1]

    def _audio(self, number: int, text: str) -> None:
        if self._deaf or number <= self._dropped or self._down is None:
            return
        data = base64.b64decode(text, validate=True)
        self._engine.replying()
        self._engine.audio(self._item, self._down.decode(data, self._item))
        if self._gap is not None:
            self._gap.cancel()
        self._gap = asyncio.get_running_loop().call_later(GAP_S, self._quiet)

    def _quiet(self) -> None:
        """Nothing more has come: that was the answer."""
        self._gap = None
        if not self._deaf:
            self._engine.replied()
            self._turn += 1

    @property
    def _item(self) -> str:
        return f"turn {self._turn}"


def _told(messages: Sequence[Message]) -> str:
    """The history, a line each."""
    return "\n".join(f"{SIDES[m.role]}: {m.text}" for m in messages if m.text)


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


class ElevenLabsProvider:
    """What the calls of one agent share: nothing but its table."""

    def __init__(self, agent: Agent, shared: Shared) -> None:
        """Raises `ConfigError` for a table that can't be understood."""
        self._agent = agent
        where = f"{agent.file}: [{agent.engine}]"
        self._settings = build(ElevenLabsSettings, agent.options, where)

    async def prepare(self) -> None:
        """Look for the key. Raises `EngineMissing`."""
        if not self._settings.public:
            vendor.key(self._settings.api_key_env, VENDOR)

    def create(self) -> Engine:
        """An engine for one call."""
        settings, agent = self._settings, self._agent
        return SpeechEngine(
            agent,
            settings,
            lambda engine: ElevenLabsWire(engine, settings, agent),
            0,
            interrupts=True,
        )

    async def close(self) -> None:
        """Nothing is held."""


def provider(agent: Agent, shared: Shared) -> ElevenLabsProvider:
    """The registry's entrance."""
    return ElevenLabsProvider(agent, shared)
