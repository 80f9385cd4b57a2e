"""ElevenLabs Agents, by the letter of their WebSocket's documentation: they have no small SDK."""

import base64
import itertools
import json
import re

import jsonschema
import numpy as np
from aiohttp import web

from bridge.audio.g711 import decode_ulaw, encode_ulaw
from bridge.engines import elevenlabs
from bridge.engines import socket as sockets
from tests.contract.far import DEEP, Far, voice
from tests.contract.server import Server


def shape(**fields):
    """A message of just these fields."""
    return {
        "type": "object",
        "properties": fields,
        "required": [name for name in fields if name != "conversation_config_override"],
        "additionalProperties": False,
    }


TEXT = {"type": "string"}
AGENT = {
    "type": "object",
    "properties": {"prompt": shape(prompt=TEXT), "first_message": TEXT, "language": TEXT},
    "additionalProperties": False,
}
CLIENT = {
    "conversation_initiation_client_data": shape(
        type=TEXT,
        dynamic_variables={"type": "object"},
        conversation_config_override=shape(agent=AGENT),
    ),
    "user_audio_chunk": shape(user_audio_chunk=TEXT),
    "user_message": shape(type=TEXT, text=TEXT),
    "contextual_update": shape(type=TEXT, text=TEXT),
    "client_tool_result": shape(
        type=TEXT, tool_call_id=TEXT, result=TEXT, is_error={"type": "boolean"}
    ),
    "pong": shape(type=TEXT, event_id={"type": "integer"}),
}


class Signing(Server):
    """Also gives addresses out."""

    async def _handle(self, request):
        if request.path.endswith("/get-signed-url"):
            status = self._far.sign(request)
            if status != 200:
                return web.Response(status=status)
            url = f"ws://{request.host}/v1/convai/conversation?agent_id=ours&token=t"
            return web.json_response({"signed_url": url})
        return await super()._handle(request)


class ElevenLabs(Far):
    """One conversation after the other."""

    engine, rate = "elevenlabs", 8000
    does = frozenset({"text", "tools", "keys", "history", "key", "unbounded"})
    key_env = "ELEVENLABS_API_KEY"
    format = "ulaw_8000"

    async def __aenter__(self):
        self.server = Signing(self, self.serve, self.allow)
        self.where = await self.server.start()
        self.ids = itertools.count(1)
        self.told = []
        return self

    async def __aexit__(self, *error):
        await super().__aexit__(*error)
        await self.server.stop()

    def options(self):
        return {"url": f"http://{self.where}", "agent_id": "ours"}

    def environment(self):
        return {"ELEVENLABS_API_KEY": "right-key"}

    def hurry(self, monkeypatch):
        monkeypatch.setattr(elevenlabs, "GAP_S", 0.05)

    def ping(self, monkeypatch):
        monkeypatch.setattr(sockets, "PING_S", 0.6)
        monkeypatch.setattr(sockets, "PONG_S", 0.6)

    async def refuse(self):
        await self.server.refuse()

    async def drop(self):
        await self.server.drop()

    async def freeze(self):
        await self.server.freeze()

    def sign(self, request):
        return 200 if request.headers.get("xi-api-key") == "right-key" else 401

    def allow(self, request):
        return None if request.query.get("token") == "t" else 403

    # One conversation -----------------------------------------------------------------------------

    async def serve(self, request, socket):
        self.start, self.begun_yet, self.speaking, self.pending = None, False, False, {}
        self.override = {}
        await self.tell("ping", event_id=next(self.ids), ping_ms=None)
        async for raw in self.server.messages(socket):
            if self.server.socket is not socket:
                continue  # a newer conversation has taken over
            message = json.loads(raw)
            kind = message.get("type", "user_audio_chunk")
            try:
                jsonschema.validate(message, CLIENT[kind])
            except (KeyError, jsonschema.ValidationError) as error:
                self.fault(f"{kind}: {error}")
                continue
            if self.start is None and kind not in ("conversation_initiation_client_data", "pong"):
                self.fault(f"{kind} at the beginning")
            await self.take(kind, message)

    async def take(self, kind, message):
        match kind:
            case "conversation_initiation_client_data":
                self.start = message
                self.override = message.get("conversation_config_override", {}).get("agent", {})
                await self.tell(
                    "conversation_initiation_metadata",
                    conversation_id="conv_1",
                    agent_output_audio_format=self.format,
                    user_input_audio_format=self.format,
                )
                if self.override.get("first_message"):
                    self.begin(None)
                    self.turn_over()
            case "contextual_update" if not self.begun_yet:
                lines = [line.partition(": ") for line in message["text"].splitlines()[1:]]
                self.begin([(side, text) for side, _, text in lines])
            case "contextual_update":
                self.told.append(message["text"])
            case "user_audio_chunk":
                self.begin(None)
                await self.listen(base64.b64decode(message["user_audio_chunk"], validate=True))
            case "user_message":
                self.begin(None)
                self.told.append(message["text"])
                match = re.search(r"pressed the keys ([0-9*#]+)", message["text"])
                self.keys += match[1] if match else ""
                self.turn_over()
            case "client_tool_result":
                name = self.pending.pop(message["tool_call_id"], None)
                if name is None:
                    self.fault("a result that nobody asked for")
                    return
                self.results.append((name, not message["is_error"], message["result"]))
                if not self.pending:
                    self.turn_over()

    def begin(self, history):
        if not self.begun_yet:
            self.begun_yet = True
            self.begun(history)

    async def listen(self, data):
        pcm = decode_ulaw(np.frombuffer(data, np.uint8))
        self.heard(pcm)
        match self.ends_turns(pcm):
            case "began" if self.speaking:
                self.speaking = False
                self.cut()
                await self.tell("interruption", event_id=next(self.ids))
            case "ended":
                await self.send(
                    type="user_transcript",
                    user_transcription_event={"user_transcript": self.words},
                )
                self.turn_over()

    # The agent ------------------------------------------------------------------------------------

    async def say(self, step):
        self.speaking = True
        await self.send(
            type="agent_response", agent_response_event={"agent_response": f" {step.text} "}
        )
        data = encode_ulaw(voice(step.ms, self.rate, step.seed)).tobytes()
        for n, piece in enumerate(step.cut(data)):
            if n and step.every_ms:
                await self.wait(step.every_ms)
            await self.tell(
                "audio",
                audio_base_64=base64.b64encode(piece).decode(),
                event_id=next(self.ids),
            )

    async def call_tool(self, step):
        name = f"tool_{next(self.ids)}"
        self.pending[name] = step.name
        await self.send(
            type="client_tool_call",
            client_tool_call={
                "tool_name": step.name,
                "tool_call_id": name,
                "parameters": step.arguments,
            },
        )

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
        for kind in ("audio", "agent_response", "interruption", "client_tool_call", "ping"):
            await self.server.send(json.dumps({"type": kind}))
        await self.tell("audio", audio_base_64="*", event_id=next(self.ids))
        await self.tell("vad_score", vad_score=0.5)
        await self.server.send(b"\0\xff")

    # To the bridge --------------------------------------------------------------------------------

    async def tell(self, kind, **fields):
        """A message whose body has its type's name."""
        await self.send(type=kind, **{f"{kind}_event": fields})

    async def send(self, **message):
        await self.server.send(json.dumps(message))
