"""Deepgram's Voice Agent: their ears and voice around a language model of the operator's choice.

Theory of operation. `Settings` first, with the history as `agent.context.messages`, then audio in
binary messages both ways (PCMU on a line of 8 kHz, else PCM at the line's own rate).

    we send    Settings, InjectUserMessage (keys, silence), InjectAgentMessage (the greeting),
               FunctionCallResponse, KeepAlive where no audio flows (on hold)
    it sends   UserStartedSpeaking, ConversationText of both sides, AgentAudioDone,
               FunctionCallRequest, FunctionCallCancelled, Error

The server ends turns and interrupts whatever the agent's `barge_in` says; what it would say after a
turn of the caller can't be kept from it. It isn't told how much was heard: it takes its own clock.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.agent import Agent
from bridge.engines import vendor
from bridge.engines.base import Engine, Pcm, Shared
from bridge.engines.codec import Codec
from bridge.engines.dialled import Dialled
from bridge.engines.prompt import Message
from bridge.engines.speech import SpeechEngine
from bridge.engines.wire import Past, SpeechSettings
from bridge.errors import EngineLost
from bridge.settings import build

log = logging.getLogger(__name__)

VENDOR = "Deepgram"
SESSION_S = 7200.0
KEEP_ALIVE_S = 4.0
"""Without audio the server hangs up after ten seconds."""


@dataclass(frozen=True, kw_only=True)
class DeepgramSettings(SpeechSettings):
    """The table `[deepgram-agent]` of an agent file."""

    listen: str = "flux-general-en"
    """The model that hears; `flux-…` ends turns by their words."""
    think_provider: str = "open_ai"
    think: str = "gpt-4o-mini"
    """The language model."""
    speak: str = "aura-2-thalia-en"
    """The voice."""
    url: str = "wss://agent.deepgram.com"
    api_key_env: str = "DEEPGRAM_API_KEY"
    """The environment variable that holds the key."""


class DeepgramWire:
    """One session."""

    lasts_s = SESSION_S

    def __init__(self, engine: SpeechEngine, settings: DeepgramSettings) -> None:
        """Nothing happens before `open`."""
        self._engine, self._settings = engine, settings
        rate = engine.context.rate
        self._narrow = rate == 8000
        self._rate = rate
        self._codec = Codec("pcmu" if self._narrow else "pcm", rate, rate, rate)
        self._dialled = Dialled(VENDOR, self._take, self._audio)
        self._turn = 0
        self._replying = self._deaf = False
        self._asides: list[str] = []  # to be told with the next words
        self._injected = ""  # words of ours, which come back as the caller's
        self._sent = False  # audio, since the last look

    # Connection -----------------------------------------------------------------------------------

    async def open(self, past: Past) -> None:
        """Connect and set up. Raises `EngineError`."""
        settings = self._settings
        secret = vendor.key(settings.api_key_env, VENDOR)
        headers = {"Authorization": f"Token {secret}"}
        url = f"{settings.url}/v1/agent/converse"
        await self._dialled.connect(url, headers, settings.api_key_env)
        self._dialled.send(self._set_up(past))
        await self._dialled.expect("SettingsApplied")

    async def run(self) -> None:
        """Until it is over. Raises `EngineLost`."""
        alive = asyncio.create_task(self._keep_alive())
        try:
            await self._dialled.run()
        finally:
            alive.cancel()

    async def close(self) -> None:
        """Close the connection; idempotent."""
        await self._dialled.close()

    async def _keep_alive(self) -> None:
        while True:
            self._sent = False
            await asyncio.sleep(KEEP_ALIVE_S)
            if not self._sent:
                self._dialled.send({"type": "KeepAlive"})

    def _set_up(self, past: Past) -> dict[str, Any]:
        settings = self._settings
        encoding = "mulaw" if self._narrow else "linear16"
        audio = {"encoding": encoding, "sample_rate": self._rate}
        functions = [
            {
                "name": function.name,
                "description": function.description,
                "parameters": dict(function.parameters),
                "defer_until_eot": True,  # no tool runs for a turn that goes on
            }
            for function in past.functions
        ]
        listen = {"type": "deepgram", "model": settings.listen}
        listen["version"] = "v2" if settings.listen.startswith("flux") else "v1"
        agent: dict[str, Any] = {
            "listen": {"provider": listen},
            "think": {
                "provider": {"type": settings.think_provider, "model": settings.think},
                "prompt": past.messages[0].text,
                "functions": functions,
            },
            "speak": {"provider": {"type": "deepgram", "model": settings.speak}},
        }
        if len(past.messages) > 1:
            agent["context"] = {"messages": _history(past.messages[1:])}
        output = {**audio, "container": "none"}
        return {
            "type": "Settings",
            "audio": {"input": audio, "output": output},
            "agent": agent,
        }

    # What the engine wants ------------------------------------------------------------------------

    def hear(self, pcm: Pcm) -> None:
        """Caller audio."""
        self._sent = True
        self._dialled.send_binary(self._codec.encode(pcm))

    def begin(self, pcm: Pcm) -> None:
        """The server finds that out by itself."""

    def answer(self) -> None:
        """So it does that."""

    def tell(self, text: str, *, answer: bool) -> None:
        """As the caller's words, which are answered always: what isn't to be waits for those."""
        self._asides.append(text)
        if answer:
            self._listen()
            text = "\n".join(self._asides)
            self._asides.clear()
            self._injected = text
            self._dialled.send({"type": "InjectUserMessage", "content": text})

    def say(self, text: str) -> None:
        """Word by word."""
        self._listen()
        self._dialled.send({"type": "InjectAgentMessage", "message": text, "behavior": "queue"})

    def stop(self) -> None:
        """There is no word for it: what still comes isn't heard."""
        self._deaf = True

    def cut(self, item: str, heard_ms: int, text: str) -> None:
        """That can't be told: a prompt can only be added to, which ends the caller's words."""

    def result(self, call: str, name: str, ok: bool, value: Any, *, answer: bool) -> None:
        """A function's response; the server answers it by itself."""
        if answer:
            self._listen()
        content = json.dumps(value if ok else {"error": value}, default=str)
        self._dialled.send(
            {"type": "FunctionCallResponse", "id": call, "name": name, "content": content}
        )

    def _listen(self) -> None:
        """The next answer is wanted."""
        self._deaf = self._replying = False
        self._turn += 1

    # From the server ------------------------------------------------------------------------------

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "UserStartedSpeaking":
                self._engine.began()
                self._listen()
            case "ConversationText":
                self._text(message["role"], str(message["content"]))
            case "AgentAudioDone" if not self._deaf:
                self._replying = False
                self._engine.replied()
                self._turn += 1
            case "FunctionCallRequest" if not self._deaf:
                for call in message["functions"]:
                    if call["client_side"]:
                        self._call(call)
            case "FunctionCallCancelled":
                for call in message["functions"]:
                    self._engine.uncalled(str(call["id"]))
            case "Error":
                raise EngineLost(f"{VENDOR}: {_what(message)}")
            case "Warning" | "InjectionRefused":
                log.warning("%s: %s", VENDOR, _what(message))

    def _text(self, role: str, text: str) -> None:
        if role == "user":
            self._listen()
            if text != self._injected:
                self._engine.caller_said(text)
                self._engine.ended(0)
            self._injected = ""
        elif not self._deaf:
            self._engine.replying()
            self._engine.text(self._item, f" {text}" if self._replying else text)
            self._replying = True

    def _call(self, call: dict[str, Any]) -> None:
        name, ident = str(call["name"]), str(call["id"])
        arguments = json.loads(call["arguments"] or "{}")
        if not isinstance(arguments, dict):
            raise ValueError("the arguments of a call are no object")
        self._engine.called(ident, name, arguments)

    def _audio(self, data: bytes) -> None:
        if not self._deaf:
            self._engine.audio(self._item, self._codec.decode(data, self._item))

    @property
    def _item(self) -> str:
        return f"turn {self._turn}"


def _what(message: dict[str, Any]) -> str:
    what = message.get("description") or message.get("message") or message.get("code")
    return " ".join(str(what).split())[:200]


def _history(messages: Sequence[Message]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    results = {m.call_id: m.text for m in messages if m.role == "tool"}
    for message in messages:
        if message.text and message.role != "tool":
            role = "assistant" if message.role == "assistant" else "user"
            items.append({"type": "History", "role": role, "content": message.text})
        calls = [
            {
                "id": call.id,
                "name": call.name,
                "client_side": True,
                "arguments": json.dumps(dict(call.arguments), default=str),
                "response": results.get(call.id, ""),
            }
            for call in message.calls
        ]
        if calls:
            items.append({"type": "History", "function_calls": calls})
    return items


class DeepgramProvider:
    """What the calls of one agent share: nothing but its table."""

    def __init__(self, agent: Agent, shared: Shared) -> None:
        """Raises `ConfigError` for a table that can't be understood."""
        self._agent = agent
        self._settings = build(DeepgramSettings, agent.options, f"{agent.file}: [{agent.engine}]")

    async def prepare(self) -> None:
        """Look for the key. Raises `EngineMissing`."""
        vendor.key(self._settings.api_key_env, VENDOR)

    def create(self) -> Engine:
        """An engine for one call."""
        settings = self._settings
        return SpeechEngine(
            self._agent,
            settings,
            lambda engine: DeepgramWire(engine, settings),
            0,
            interrupts=True,
        )

    async def close(self) -> None:
        """Nothing is held."""


def provider(agent: Agent, shared: Shared) -> DeepgramProvider:
    """The registry's entrance."""
    return DeepgramProvider(agent, shared)
