"""Deepgram's Voice Agent by its SDK's own types: every message is checked by them."""

import itertools
import json
import re

import numpy as np
from deepgram.agent.v1 import types as dg
from pydantic import BaseModel, ValidationError

from bridge.audio.g711 import decode_ulaw, encode_ulaw
from bridge.engines import socket as sockets
from tests.contract.far import DEEP, Far, voice
from tests.contract.server import Server

CLIENT = {
    "Settings": dg.AgentV1Settings,
    "InjectUserMessage": dg.AgentV1InjectUserMessage,
    "InjectAgentMessage": dg.AgentV1InjectAgentMessage,
    "FunctionCallResponse": dg.AgentV1SendFunctionCallResponse,
    "KeepAlive": dg.AgentV1KeepAlive,
}


def extras(value, where="message"):
    """Fields that the types don't know."""
    if isinstance(value, BaseModel):
        yield from (f"{where}.{name}" for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from extras(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from extras(item, where)


class Deepgram(Far):
    """One session after the other."""

    engine, rate = "deepgram-agent", 8000
    does = frozenset({"text", "tools", "keys", "history", "key", "unbounded"})
    key_env = "DEEPGRAM_API_KEY"

    async def __aenter__(self):
        self.server = Server(self, self.serve, self.allow)
        self.where = await self.server.start()
        self.ids = itertools.count(1)
        self.told, self.said = [], []
        return self

    async def __aexit__(self, *error):
        await super().__aexit__(*error)
        await self.server.stop()

    def options(self):
        return {"url": f"ws://{self.where}"}

    def environment(self):
        return {"DEEPGRAM_API_KEY": "right-key"}

    def ping(self, monkeypatch):
        monkeypatch.setattr(sockets, "PING_S", 0.6)
        monkeypatch.setattr(sockets, "PONG_S", 0.6)

    async def refuse(self):
        await self.server.refuse()

    async def drop(self):
        await self.server.drop()

    async def freeze(self):
        await self.server.freeze()

    def allow(self, request):
        if request.headers.get("Authorization") != "Token right-key":
            return 401
        return None if request.path == "/v1/agent/converse" else 404

    # One session ----------------------------------------------------------------------------------

    async def serve(self, request, socket):
        self.settings, self.speaking, self.pending = None, False, {}
        await self.emit(dg.AgentV1Welcome, request_id="r1")
        async for raw in self.server.messages(socket):
            if self.server.socket is not socket:
                continue  # a newer session has taken over
            if isinstance(raw, bytes):
                await self.listen(raw)
                continue
            message = json.loads(raw)
            try:
                event = CLIENT[message["type"]].model_validate(message)
            except (KeyError, ValidationError) as error:
                self.fault(str(error))
                continue
            for name in extras(event):
                self.fault(f"{message['type']}: no such field {name}")
            if self.settings is None and event.type != "Settings":
                self.fault(f"{event.type} before Settings")
            await self.take(event)

    async def take(self, event):
        match event.type:
            case "Settings":
                await self.set_up(event)
            case "InjectUserMessage":
                self.told.append(event.content)
                match = re.search(r"pressed the keys ([0-9*#]+)", event.content)
                self.keys += match[1] if match else ""
                await self.answer(event.content)
            case "InjectAgentMessage":
                self.said.append(event.message)
                self.turn_over()
            case "FunctionCallResponse":
                if self.pending.pop(event.id, None) != event.name:
                    self.fault(f"a response to {event.id}, {event.name}")
                    return
                value = json.loads(event.content)
                failed = isinstance(value, dict) and "error" in value
                self.results.append((event.name, not failed, value))
                if not self.pending:
                    self.turn_over()

    async def set_up(self, event):
        self.settings = event
        sound = event.audio.input
        if (sound.encoding, sound.sample_rate) != ("mulaw", 8000):
            self.fault(f"{sound.encoding} at {sound.sample_rate}")
        if event.audio.output.encoding != "mulaw" or event.audio.output.container != "none":
            self.fault(f"{event.audio.output}")
        await self.emit(dg.AgentV1SettingsApplied)
        messages = event.agent.context.messages if event.agent.context else []
        sides = {"user": "caller", "assistant": "agent"}
        self.begun([(sides[m.role], m.content) for m in messages] or None)

    async def listen(self, data):
        if self.settings is None:
            self.fault("audio before Settings")
        pcm = decode_ulaw(np.frombuffer(data, np.uint8))
        self.heard(pcm)
        match self.ends_turns(pcm):
            case "began":
                await self.emit(dg.AgentV1UserStartedSpeaking)
                if self.speaking:
                    self.speaking = False
                    self.cut()
            case "ended":
                await self.answer(self.words)

    async def answer(self, words):
        """The caller has said this."""
        self.stop()
        await self.emit(dg.AgentV1ConversationText, role="user", content=words)
        self.turn_over()

    # The agent ------------------------------------------------------------------------------------

    async def _perform(self, steps):
        self.speaking = True
        await super()._perform(steps)
        if not self.pending:
            await self.emit(dg.AgentV1AgentAudioDone)

    async def say(self, step):
        await self.emit(dg.AgentV1ConversationText, role="assistant", content=step.text)
        data = encode_ulaw(voice(step.ms, self.rate, step.seed)).tobytes()
        for n, piece in enumerate(step.cut(data)):
            if n and step.every_ms:
                await self.wait(step.every_ms)
            await self.server.send(bytes(piece))

    async def call_tool(self, step):
        name = f"fn_{next(self.ids)}"
        self.pending[name] = step.name
        call = {
            "id": name,
            "name": step.name,
            "arguments": json.dumps(step.arguments),
            "client_side": True,
        }
        await self.emit(dg.AgentV1FunctionCallRequest, functions=[call])

    async def garbage(self):
        for text in (
            DEEP,
            "not JSON",
            "[]",
            "{}",
            "null",
            '"x"',
            '{"type":7}',
            '{"type":"X"}',
            "7",
        ):
            await self.server.send(text)
        for kind in ("ConversationText", "FunctionCallRequest", "FunctionCallCancelled"):
            await self.server.send(json.dumps({"type": kind}))
        await self.server.send('{"type":"FunctionCallRequest","functions":[{"client_side":true}]}')
        await self.server.send(b"")

    # To the bridge --------------------------------------------------------------------------------

    async def emit(self, kind, **fields):
        """A message, made and checked by the SDK's type."""
        await self.server.send(kind.model_validate(fields).model_dump_json(exclude_none=True))
