"""OpenAI's Realtime API (GA), speech to speech; the SDK's own connection, without its reconnects.

Theory of operation. One WebSocket a call, opened by `session.update` and the history as items.

    we send    input_audio_buffer.append, conversation.item.create, .truncate, response.create,
               response.cancel
    it sends   input_audio_buffer.speech_started, .committed (the caller's turn is over),
               response.created, .output_audio.delta, .function_call_arguments.done, .done, error

The server's voice detector ends turns. With `barge_in = "engine"` it interrupts and answers by
itself; else it is told not to (`interrupt_response`, `create_response`), and we send
`response.create` where the caller has the floor: a round trip later, but an "uh-huh" costs nothing.
One response is made at a time; a second one waits here until the first is done.

What was cut is told by `conversation.item.truncate`, which takes the words that weren't heard out
of the model's memory as well. On a line of 8 kHz audio goes as G.711, else as PCM at 24 kHz.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import secrets
from collections.abc import Callable
from typing import Any, ClassVar, cast

from openai import AsyncOpenAI, OpenAIError
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import (
    ConversationItemParam,
    RealtimeClientEventParam,
    RealtimeResponseCreateParamsParam,
)
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.exceptions import WebSocketException as SocketError

from bridge.agent import Agent
from bridge.engines import vendor
from bridge.engines.base import Engine, Pcm, Shared
from bridge.engines.codec import Codec
from bridge.engines.openai_items import items, line, message, told
from bridge.engines.openai_session import FORMATS, OpenAiSettings, session
from bridge.engines.speech import SAY, SpeechEngine
from bridge.engines.wire import (
    CLOSE_S,
    MAX_MESSAGE,
    Outbox,
    Past,
    lost,
    ping_s,
    refused,
    run_both,
    unreachable,
)
from bridge.errors import EngineLost, EngineRefused
from bridge.settings import build

log = logging.getLogger(__name__)

VENDOR = "OpenAI"
PCM_RATE = 24000
SESSION_S = 3600.0


class OpenAiWire:
    """One session."""

    lasts_s = SESSION_S

    def __init__(
        self, engine: SpeechEngine, settings: OpenAiSettings, agent: Agent, client: AsyncOpenAI
    ) -> None:
        """Nothing happens before `open`."""
        self._engine, self._settings, self._client = engine, settings, client
        self._language = agent.language
        self._interrupts = agent.turns.barge_in == "engine"
        rate = engine.context.rate
        name = settings.format
        if name == "auto":
            name = "pcmu" if rate == 8000 else "pcm"
        there = PCM_RATE if name == "pcm" else 8000
        self._codec = Codec(name, rate, there, there)
        self._format = FORMATS[name]
        self._connection: AsyncRealtimeConnection | None = None
        self._outbox: Outbox[str] = Outbox(VENDOR, self._send_raw)
        self._response = ""  # that is being made
        self._asked: _Ask | None = None  # for one that isn't created yet
        self._next: _Ask | None = None  # for when that is done
        self._stop_it = False  # as soon as it is created
        self._stopped: set[str] = set()
        self._start_ms = self._speech_ms = 0
        self._warned: set[str] = set()

    # Connection -----------------------------------------------------------------------------------

    async def open(self, past: Past) -> None:
        """Connect, set the session up, replay the history. Raises `EngineError`."""
        options: Any = {"max_size": MAX_MESSAGE, "compression": None, "open_timeout": None}
        options["max_queue"] = None  # all is read as it comes, and is bounded by the answer
        ping, pong = ping_s()
        options |= {"ping_interval": ping, "ping_timeout": pong, "close_timeout": CLOSE_S}
        try:
            self._connection = await self._client.realtime.connect(
                model=self._settings.model, max_retries=0, websocket_connection_options=options
            ).enter()
            await self._expect("session.created")
            how = self._format, self._language, self._interrupts
            self._send({"type": "session.update", "session": session(self._settings, past, *how)})
            for item in items(past.messages[1:]):
                self._send({"type": "conversation.item.create", "item": item})
            await self._outbox.flush()
            await self._expect("session.updated")
        except InvalidStatus as error:
            body = (error.response.body or b"")[:500].decode(errors="replace")
            status = error.response.status_code
            variable = self._settings.api_key_env
            raise refused(VENDOR, status, variable, message(body)) from error
        except (OSError, SocketError, OpenAIError, ValueError) as error:
            raise unreachable(VENDOR, error) from error

    async def run(self) -> None:
        """Send and receive. Raises `EngineLost`."""
        assert self._connection is not None
        try:
            await run_both(self._outbox.run(), self._receive(self._connection))
        except ConnectionClosedOK:
            return
        except (OSError, SocketError, OpenAIError) as error:
            raise lost(VENDOR, error) from error

    async def close(self) -> None:
        """Close the connection; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(TimeoutError, OSError, SocketError):
                async with asyncio.timeout(2 * CLOSE_S):
                    await connection.close()

    # What the engine wants ------------------------------------------------------------------------

    def hear(self, pcm: Pcm) -> None:
        """Caller audio, at the line's rate."""
        audio = base64.b64encode(self._codec.encode(pcm)).decode()
        if audio:
            self._outbox.put_audio(f'{{"type":"input_audio_buffer.append","audio":"{audio}"}}')

    def begin(self, pcm: Pcm) -> None:
        """The server finds that out by itself."""

    def answer(self) -> None:
        """Answer what he has said."""
        self._create(_Ask())

    def tell(self, text: str, *, answer: bool) -> None:
        """As the caller's words."""
        content = [{"type": "input_text", "text": text}]
        self._item({"type": "message", "role": "user", "content": cast(Any, content)})
        if answer:
            self._create(_Ask())

    def say(self, text: str) -> None:
        """Word by word."""
        self._create(_Ask({"instructions": SAY.format(text=text), "tool_choice": "none"}))

    def stop(self) -> None:
        """Cancel the response in the making."""
        self._next = None
        if self._response and self._response not in self._stopped:
            self._stopped.add(self._response)
            self._send({"type": "response.cancel", "response_id": self._response})
        self._stop_it = self._asked is not None

    def cut(self, item: str, heard_ms: int, text: str) -> None:
        """A longer time than the item has would be an error: the engine doesn't tell one."""
        self._send(
            {
                "type": "conversation.item.truncate",
                "item_id": item,
                "content_index": 0,
                "audio_end_ms": heard_ms,
            }
        )

    def result(self, call: str, name: str, ok: bool, value: Any, *, answer: bool) -> None:
        """A function's output."""
        output = json.dumps(value if ok else {"error": value}, default=str)
        self._item({"type": "function_call_output", "call_id": call, "output": output})
        if answer:
            self._create(_Ask())

    # To the server --------------------------------------------------------------------------------

    def _create(self, ask: _Ask) -> None:
        if self._asked or self._response:
            self._next = ask
            return
        self._asked = ask
        if ask.how is None:
            self._send({"type": "response.create", "event_id": ask.id})
        else:
            self._send({"type": "response.create", "event_id": ask.id, "response": ask.how})

    def _item(self, item: ConversationItemParam) -> None:
        self._send({"type": "conversation.item.create", "item": item})

    def _send(self, event: RealtimeClientEventParam) -> None:
        self._outbox.put(json.dumps(event))

    async def _send_raw(self, text: str) -> None:
        if self._connection is not None:
            await self._connection.send_raw(text)

    # From the server ------------------------------------------------------------------------------

    async def _expect(self, kind: str) -> None:
        """Wait for that event. Raises `EngineError`."""
        assert self._connection is not None
        while True:
            event = json.loads(await self._connection.recv_bytes())
            if not isinstance(event, dict):
                continue
            if event.get("type") == kind:
                return
            if event.get("type") == "error":
                raise EngineRefused(f"{VENDOR} refuses the session: {told(event)}")

    async def _receive(self, connection: AsyncRealtimeConnection) -> None:
        while True:
            raw = await connection.recv_bytes()
            try:
                event = json.loads(raw)
                kind = event["type"]
                handle = self._HANDLERS.get(kind)
                if handle is not None:
                    handle(self, event)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                self._odd("message", f"{type(error).__name__}: {error}")

    def _speech_started(self, event: dict[str, Any]) -> None:
        self._start_ms = int(event["audio_start_ms"])
        if self._interrupts and self._response:
            self._stopped.add(self._response)  # the server cancels it itself
        self._engine.began()

    def _speech_stopped(self, event: dict[str, Any]) -> None:
        self._speech_ms = int(event["audio_end_ms"]) - self._start_ms

    def _committed(self, event: dict[str, Any]) -> None:
        self._engine.ended(self._speech_ms)

    def _transcribed(self, event: dict[str, Any]) -> None:
        self._engine.caller_said(str(event["transcript"]))

    def _created(self, event: dict[str, Any]) -> None:
        self._response, self._asked = str(event["response"]["id"]), None
        if self._stop_it:
            self._stop_it, following = False, self._next
            self.stop()
            self._next = following
        else:
            self._engine.replying()

    def _audio(self, event: dict[str, Any]) -> None:
        if event["response_id"] not in self._stopped:
            data = base64.b64decode(event["delta"], validate=True)
            self._engine.audio(event["item_id"], self._codec.decode(data, event["item_id"]))

    def _text(self, event: dict[str, Any]) -> None:
        if event["response_id"] not in self._stopped:
            self._engine.text(event["item_id"], str(event["delta"]))

    def _audio_done(self, event: dict[str, Any]) -> None:
        if event["response_id"] not in self._stopped:
            self._engine.item_done(event["item_id"])

    def _called(self, event: dict[str, Any]) -> None:
        if event["response_id"] in self._stopped:
            return
        call, name = str(event["call_id"]), str(event["name"])
        try:
            arguments = json.loads(event["arguments"] or "{}")
            if not isinstance(arguments, dict):
                raise ValueError("no object")
        except ValueError:
            self.result(call, name, False, "the arguments are no JSON object", answer=True)
        else:
            self._engine.called(call, name, arguments)

    def _done(self, event: dict[str, Any]) -> None:
        response = event["response"]
        ended, self._response = self._response, ""
        if ended in self._stopped:
            self._stopped.discard(ended)
        elif response["status"] == "failed":
            details = (response.get("status_details") or {}).get("error") or {}
            what = details.get("message") or details.get("code") or "no reason given"
            raise EngineLost(f"{VENDOR} couldn't answer: {line(what)}")
        else:
            self._engine.replied(more=self._next is not None)
        if self._next is not None:
            following, self._next = self._next, None
            self._create(following)

    def _error(self, event: dict[str, Any]) -> None:
        code, what = event["error"].get("code"), told(event)
        ask = self._asked
        if code == "session_expired":
            raise EngineLost(f"{VENDOR}: {what}")
        if ask is not None and event["error"].get("event_id") == ask.id:
            if code != "conversation_already_has_active_response":
                raise EngineLost(f"{VENDOR} doesn't answer: {what}")
            self._asked, self._next = None, self._next or ask
            return
        self._odd(str(code), what)

    def _odd(self, kind: str, what: str) -> None:
        if kind not in self._warned and len(self._warned) < 20:
            self._warned.add(kind)
            log.warning("%s: %s", VENDOR, what)

    _HANDLERS: ClassVar[dict[str, Callable[[OpenAiWire, dict[str, Any]], None]]] = {
        "input_audio_buffer.speech_started": _speech_started,
        "input_audio_buffer.speech_stopped": _speech_stopped,
        "input_audio_buffer.committed": _committed,
        "conversation.item.input_audio_transcription.completed": _transcribed,
        "response.created": _created,
        "response.output_audio.delta": _audio,
        "response.output_audio.done": _audio_done,
        "response.output_audio_transcript.delta": _text,
        "response.function_call_arguments.done": _called,
        "response.done": _done,
        "error": _error,
    }


class _Ask:
    """A response that is wanted."""

    def __init__(self, how: RealtimeResponseCreateParamsParam | None = None) -> None:
        self.id = f"ask_{secrets.token_hex(6)}"
        self.how = how


class OpenAiProvider:
    """What the calls of one agent share: a client with its key."""

    def __init__(self, agent: Agent, shared: Shared) -> None:
        """Raises `ConfigError` for a table that can't be understood."""
        self._agent = agent
        self._settings = build(OpenAiSettings, agent.options, f"{agent.file}: [{agent.engine}]")
        self._client: AsyncOpenAI | None = None

    async def prepare(self) -> None:
        """Look for the key. Raises `EngineMissing`."""
        settings = self._settings
        secret = vendor.key(settings.api_key_env, VENDOR)
        self._client = AsyncOpenAI(api_key=secret, websocket_base_url=settings.url, max_retries=0)

    def create(self) -> Engine:
        """An engine for one call."""
        client, settings, agent = self._client, self._settings, self._agent
        assert client is not None, "prepare comes first"
        rate = {"auto": 0, "pcmu": 8000, "pcma": 8000, "pcm": PCM_RATE}[settings.format]
        return SpeechEngine(
            agent,
            settings,
            lambda engine: OpenAiWire(engine, settings, agent, client),
            rate,
            interrupts=agent.turns.barge_in == "engine",
        )

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.close()


def provider(agent: Agent, shared: Shared) -> OpenAiProvider:
    """The registry's entrance."""
    return OpenAiProvider(agent, shared)
