"""Google's Gemini Live API, speech to speech; the SDK's own session.

Theory of operation. PCM16 goes up at 16 kHz and comes down at 24 kHz. With `barge_in = "engine"`
the server's detector of speech ends turns and interrupts. Else the bridge does: only what it takes
for a turn of the caller is sent, from 300 ms before it, between `activityStart`, which interrupts
what is being said, and `activityEnd`, which asks for an answer. So an "uh-huh" never reaches the
model, and the answer begins as soon as the bridge says so.

Nothing can be truncated here: what was cut is dropped, and the model may believe that it said it.

A connection lasts ten minutes. The server gives handles by which another one goes on with the same
session; the newest is kept as the call's state, for whatever process goes on with the call, and is
good as long as nothing was said since. Else, and if the server doesn't know it any more, a new
session begins with the history. `goAway` asks for that ahead of time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from google import genai
from google.genai import types
from google.genai.errors import APIError
from google.genai.live import AsyncSession
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.exceptions import WebSocketException as SocketError

from bridge.agent import Agent
from bridge.engines import vendor
from bridge.engines.base import Engine, Pcm, Shared
from bridge.engines.codec import Codec
from bridge.engines.prompt import Message
from bridge.engines.speech import SAY, SpeechEngine
from bridge.engines.wire import (
    CLOSE_S,
    MAX_MESSAGE,
    Outbox,
    Past,
    SpeechSettings,
    lost,
    ping_s,
    refused,
    run_both,
    unreachable,
)
from bridge.errors import EngineError, EngineLost, EngineRefused
from bridge.settings import build

log = logging.getLogger(__name__)

VENDOR = "Gemini"
UP_RATE, DOWN_RATE = 16000, 24000
SESSION_S = 600.0
_MIME = f"audio/pcm;rate={UP_RATE}"
_Turns = list[types.Content | types.ContentDict]
# Of a message that nobody understands; RecursionError: brackets within brackets within brackets.
_ODD = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class GeminiSettings(SpeechSettings):
    """The table `[gemini-live]` of an agent file."""

    model: str = "gemini-live-2.5-flash-preview"
    voice: str = "Kore"
    url: str = "https://generativelanguage.googleapis.com"
    api_key_env: str = "GEMINI_API_KEY"
    """The environment variable that holds the key."""
    silence_ms: int = 0
    """Silence that ends a turn where the server does (barge_in = "engine"); 0: as it likes."""
    uplink_chunk_ms: int = 40


class GeminiWire:
    """One connection."""

    lasts_s = SESSION_S

    def __init__(
        self, engine: SpeechEngine, settings: GeminiSettings, agent: Agent, client: genai.Client
    ) -> None:
        """Nothing happens before `open`."""
        self._engine, self._settings, self._client = engine, settings, client
        self._by_itself = agent.turns.barge_in == "engine"
        self._codec = Codec("pcm", engine.rate, UP_RATE, DOWN_RATE)
        self._exit = contextlib.AsyncExitStack()
        self._session: AsyncSession | None = None
        self._outbox: Outbox[Callable[[AsyncSession], Awaitable[None]]] = Outbox(VENDOR, self._do)
        self._turn = 0  # of the model's, so that each has an item of its own
        self._replying = self._deaf = False
        self._said = ""  # by the caller, so far
        self._warned = False

    # Connection -----------------------------------------------------------------------------------

    async def open(self, past: Past) -> None:
        """Go on with the session of the handle, or begin one. Raises `EngineError`."""
        handle = past.state.get("handle")
        if handle and past.state.get("lines") == past.lines:
            try:
                await self._connect(past, str(handle))
                return
            except EngineError as error:
                log.info("%s: no resumption, the history is told instead: %s", VENDOR, error)
                await self._exit.aclose()
        await self._connect(past, None)
        turns = _contents(past.messages[1:])
        if turns and self._session is not None:
            await self._session.send_client_content(turns=turns, turn_complete=True)

    async def _connect(self, past: Past, handle: str | None) -> None:
        config = self._config(past, handle)
        try:
            self._session = await self._exit.enter_async_context(
                self._client.aio.live.connect(model=self._settings.model, config=config)
            )
        except InvalidStatus as error:
            status = error.response.status_code
            raise refused(VENDOR, status, self._settings.api_key_env) from error
        except (APIError, ConnectionClosed) as error:
            what = _told(error)
            if "api key" in what.lower():
                raise refused(VENDOR, 401, self._settings.api_key_env, what) from error
            raise EngineRefused(f"{VENDOR} refuses the session: {what}") from error
        except (OSError, SocketError, *_ODD) as error:
            raise unreachable(VENDOR, error) from error

    async def run(self) -> None:
        """Send and receive. Raises `EngineLost`."""
        session = self._session
        assert session is not None
        try:
            await run_both(self._outbox.run(), self._receive(session))
        except APIError as error:
            if error.code == 1000:
                return
            raise EngineLost(f"the connection to {VENDOR} is lost: {_told(error)}") from error
        except (OSError, SocketError) as error:
            raise lost(VENDOR, error) from error

    async def close(self) -> None:
        """Close the connection; idempotent."""
        self._session = None
        with contextlib.suppress(TimeoutError, OSError, SocketError):
            async with asyncio.timeout(2 * CLOSE_S):
                await self._exit.aclose()

    def _config(self, past: Past, handle: str | None) -> types.LiveConnectConfig:
        detection = types.AutomaticActivityDetection(disabled=not self._by_itself)
        if self._by_itself and self._settings.silence_ms:
            detection.silence_duration_ms = self._settings.silence_ms
        declarations = [
            types.FunctionDeclaration(
                name=function.name,
                description=function.description,
                parameters_json_schema=dict(function.parameters),
            )
            for function in past.functions
        ]
        voice = types.PrebuiltVoiceConfig(voice_name=self._settings.voice)
        config = types.LiveConnectConfig(
            response_modalities=[types.Modality.AUDIO],
            system_instruction=past.messages[0].text,
            tools=[types.Tool(function_declarations=declarations)],
            speech_config=types.SpeechConfig(
                voice_config=types.VoiceConfig(prebuilt_voice_config=voice)
            ),
            input_audio_transcription=types.AudioTranscriptionConfig(),
            output_audio_transcription=types.AudioTranscriptionConfig(),
            realtime_input_config=types.RealtimeInputConfig(automatic_activity_detection=detection),
            # Without it a session ends when its context is full, after some fifteen minutes.
            context_window_compression=types.ContextWindowCompressionConfig(
                sliding_window=types.SlidingWindow()
            ),
            session_resumption=types.SessionResumptionConfig(handle=handle),
        )
        if handle is None and len(past.messages) > 1:
            config.history_config = types.HistoryConfig(initial_history_in_client_content=True)
        return config

    # What the engine wants ------------------------------------------------------------------------

    def hear(self, pcm: Pcm) -> None:
        """Caller audio."""
        blob = types.Blob(data=self._codec.encode(pcm), mime_type=_MIME)
        self._outbox.put_audio(lambda session: session.send_realtime_input(audio=blob))

    def begin(self, pcm: Pcm) -> None:
        """The caller's turn begins."""
        start = types.ActivityStart()
        self._outbox.put(lambda session: session.send_realtime_input(activity_start=start))
        self.hear(pcm)

    def answer(self) -> None:
        """His turn is over."""
        self._listen()
        if not self._by_itself:
            end = types.ActivityEnd()
            self._outbox.put(lambda session: session.send_realtime_input(activity_end=end))

    def tell(self, text: str, *, answer: bool) -> None:
        """As the caller's words."""
        if answer:
            self._listen()
        turns: _Turns = [types.Content(role="user", parts=[types.Part(text=text)])]
        self._outbox.put(
            lambda session: session.send_client_content(turns=turns, turn_complete=answer)
        )

    def say(self, text: str) -> None:
        """There are no instructions for one answer, so it is asked for."""
        self.tell(f"[{SAY.format(text=text)}]", answer=True)

    def stop(self) -> None:
        """The turn or the words that follow interrupt the model; until then it isn't heard."""
        self._deaf = True

    def cut(self, item: str, heard_ms: int, text: str) -> None:
        """That can't be told."""

    def result(self, call: str, name: str, ok: bool, value: Any, *, answer: bool) -> None:
        """A function's response; the model answers when it has all of them."""
        if answer:
            self._listen()
        response = types.FunctionResponse(
            id=call, name=name, response={"output" if ok else "error": value}
        )
        self._outbox.put(lambda session: session.send_tool_response(function_responses=response))

    async def _do(self, send: Callable[[AsyncSession], Awaitable[None]]) -> None:
        if self._session is not None:
            await send(self._session)

    def _listen(self) -> None:
        """The next answer is wanted."""
        self._deaf = self._replying = False
        self._turn += 1

    # From the server ------------------------------------------------------------------------------

    async def _receive(self, session: AsyncSession) -> None:
        while True:
            try:
                async for message in session.receive():  # ends with each turn of the model's
                    self._take(message)
            except _ODD as error:
                self._odd(error)
            except APIError as error:
                if error.code:
                    raise
                self._odd(error)

    def _take(self, message: types.LiveServerMessage) -> None:
        if message.server_content is not None:
            self._content(message.server_content)
        if message.tool_call is not None:
            self._flush_words()
            for call in message.tool_call.function_calls or ():
                if call.id and call.name and not self._deaf:
                    self._engine.called(call.id, call.name, dict(call.args or {}))
        if message.tool_call_cancellation is not None:
            for name in message.tool_call_cancellation.ids or ():
                self._engine.uncalled(name)
        update = message.session_resumption_update
        if update is not None and update.resumable and update.new_handle:
            self._engine.remember(handle=update.new_handle)
        if message.go_away is not None:
            self._engine.renew_soon()

    def _content(self, content: types.LiveServerContent) -> None:
        if content.input_transcription is not None:
            self._said += content.input_transcription.text or ""
        if content.interrupted and self._by_itself:
            self._engine.interrupted()
            self._listen()
        parts = content.model_turn.parts if content.model_turn is not None else None
        for part in parts or ():
            if part.inline_data is not None and part.inline_data.data:
                self._audio(part.inline_data.data)
        spoken = content.output_transcription
        if spoken is not None and spoken.text and not self._deaf:
            self._begin_reply()
            self._engine.text(self._item, spoken.text)
        if content.generation_complete or content.turn_complete:
            self._flush_words()
            if self._replying and not self._deaf:
                self._replying = False
                self._engine.replied()
            if content.turn_complete:
                self._turn += 1

    def _audio(self, data: bytes) -> None:
        if not self._deaf:
            self._begin_reply()
            self._engine.audio(self._item, self._codec.decode(data, self._item))

    def _begin_reply(self) -> None:
        if not self._replying:
            self._flush_words()
            self._replying = True
            self._engine.replying()

    @property
    def _item(self) -> str:
        return f"turn {self._turn}"

    def _flush_words(self) -> None:
        said, self._said = self._said, ""
        self._engine.caller_said(said)

    def _odd(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s sends what isn't known, which is ignored: %s", VENDOR, _line(error))


def _contents(messages: Sequence[Message]) -> _Turns:
    """The history; a tool's call and result in words, since the session never made it."""
    contents: _Turns = []
    for message in messages:
        role: Literal["user", "model"] = "model" if message.role == "assistant" else "user"
        text = message.text
        if message.role == "tool":
            text = f"[The tool answered: {text}]"
        for call in message.calls:
            text = f"{text} [You called the tool {call.name} with {dict(call.arguments)}.]".strip()
        if text:
            contents.append(types.Content(role=role, parts=[types.Part(text=text)]))
    return contents


def _told(error: APIError | ConnectionClosed) -> str:
    if isinstance(error, ConnectionClosed):
        close = error.rcvd
        return f"{close.code} {close.reason}"[:200] if close is not None else "dropped"
    return f"{error.code} {' '.join(str(error.message or error.details).split())[:200]}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class GeminiProvider:
    """What the calls of one agent share: a client with its key."""

    def __init__(self, agent: Agent, shared: Shared) -> None:
        """Raises `ConfigError` for a table that can't be understood."""
        self._agent = agent
        self._settings = build(GeminiSettings, agent.options, f"{agent.file}: [{agent.engine}]")
        self._client: genai.Client | None = None

    async def prepare(self) -> None:
        """Look for the key. Raises `EngineMissing`."""
        settings = self._settings
        secret = vendor.key(settings.api_key_env, VENDOR)
        ping, pong = ping_s()
        socket = {
            "max_size": MAX_MESSAGE,
            "max_queue": None,  # all is read as it comes, and is bounded by the answer
            "compression": None,
            "ping_interval": ping,
            "ping_timeout": pong,
            "close_timeout": CLOSE_S,
        }
        options = types.HttpOptions(base_url=settings.url, async_client_args=socket)
        self._client = genai.Client(api_key=secret, vertexai=False, http_options=options)

    def create(self) -> Engine:
        """An engine for one call."""
        client, settings, agent = self._client, self._settings, self._agent
        assert client is not None, "prepare comes first"
        by_itself = agent.turns.barge_in == "engine"
        return SpeechEngine(
            agent,
            settings,
            lambda engine: GeminiWire(engine, settings, agent, client),
            UP_RATE,
            "engine" if by_itself else "bridge",
            interrupts=by_itself,
        )

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.aio.aclose()
            self._client.close()


def provider(agent: Agent, shared: Shared) -> GeminiProvider:
    """The registry's entrance."""
    return GeminiProvider(agent, shared)
