"""Bots behind a WebSocket: as written for Twilio, and for Asterisk's chan_websocket."""

import base64
import json

import numpy as np

from bridge.audio.g711 import decode_ulaw, encode_ulaw
from bridge.audio.opus import OpusCoder
from bridge.engines import socket as sockets
from tests.contract.far import DEEP, Far, voice
from tests.contract.server import Server


class Bot(Far):
    """What both have in common: they end turns themselves, and interrupt their own audio."""

    async def __aenter__(self):
        self.server = Server(self, self.serve)
        self.where = await self.server.start()
        self._playing = False
        return self

    async def __aexit__(self, *error):
        await super().__aexit__(*error)
        await self.server.stop()

    def options(self):
        return {"url": f"ws://{self.where}/bot"}

    def ping(self, monkeypatch):
        monkeypatch.setattr(sockets, "PING_S", 0.6)
        monkeypatch.setattr(sockets, "PONG_S", 0.6)

    async def refuse(self):
        await self.server.refuse()

    async def drop(self):
        await self.server.drop()

    async def freeze(self):
        await self.server.freeze()

    async def listen(self, pcm):
        """More of the caller's audio."""
        self.heard(pcm)
        match self.ends_turns(pcm):
            case "began" if self._playing:
                self.cut()
                await self.clear()
                self._playing = False
            case "ended":
                await self.tell_words()
                self.turn_over()

    async def tell_words(self):
        """What the caller said, where the protocol has it."""

    async def tell_text(self, text):
        """What the bot says, likewise."""

    async def say(self, step):
        self._playing = True
        await self.tell_text(step.text)
        for n, piece in enumerate(step.cut(self.encode(voice(step.ms, self.rate, step.seed)))):
            if n and step.every_ms:
                await self.wait(step.every_ms)
            await self.send_audio(piece)
        await self.send_mark()


class Twilio(Bot):
    """A bot written for Twilio's Media Streams."""

    engine, rate = "twilio", 8000
    does = frozenset({"keys", "autonomous"})

    def encode(self, pcm):
        return encode_ulaw(pcm).tobytes()

    async def serve(self, request, socket):
        self._sequence, events = 0, []
        async for raw in self.server.messages(socket):
            message = json.loads(raw)
            event = message["event"]
            events.append(event)
            if event != "connected":
                self._sequence += 1
                if message["sequenceNumber"] != str(self._sequence):
                    self.fault(f"sequenceNumber {message['sequenceNumber']} of {event}")
            if events[:2] != ["connected", "start"][: len(events)]:
                self.fault(f"began with {events[:2]}")
            match event:
                case "start":
                    self._stream = message["start"]["streamSid"]
                    custom = message["start"]["customParameters"]
                    self.begun(() if "resumeOf" in custom else None)
                case "media":
                    data = base64.b64decode(message["media"]["payload"], validate=True)
                    await self.listen(decode_ulaw(np.frombuffer(data, np.uint8)))
                case "dtmf":
                    self.key(message["dtmf"]["digit"])
                case "mark":
                    self._playing = False
                case "connected" | "stop":
                    pass
                case _:
                    self.fault(f"event {event}")

    async def tell(self, event, **body):
        """A message of the bot's."""
        await self.server.send(json.dumps({"event": event, "streamSid": self._stream, **body}))

    async def send_audio(self, data):
        await self.tell("media", media={"payload": base64.b64encode(data).decode()})

    async def send_mark(self):
        await self.tell("mark", mark={"name": "end"})

    async def clear(self):
        """Drop what isn't played."""
        await self.tell("clear")

    async def garbage(self):
        for text in (
            DEEP,
            "not JSON",
            "[]",
            "{}",
            "null",
            '"x"',
            '{"event":7}',
            '{"event":"media"}',
        ):
            await self.server.send(text)
        await self.server.send('{"event":"media","media":{"payload":"*"}}')
        await self.server.send(b"\0\xff\xfe")
        await self.server.send('{"event":"mark","mark":[]}')
        await self.server.send('{"event":"' + "x" * 100_000 + '"}')


class Websocket(Bot):
    """A bot written for chan_websocket's JSON control, L16 at 16 kHz."""

    engine, rate = "websocket", 16000
    does = frozenset({"keys", "autonomous", "tools", "text", "truncation"})
    format = "slin16"

    def options(self):
        return {**super().options(), "format": self.format}

    def encode(self, pcm):
        return pcm.astype("<i2").tobytes()

    async def serve(self, request, socket):
        first = True
        async for raw in self.server.messages(socket):
            if isinstance(raw, bytes):
                if len(raw) != self._frame:
                    self.fault(f"{len(raw)} bytes of audio")
                await self.listen(raw if self.format == "opus" else np.frombuffer(raw, "<i2"))
                continue
            message = json.loads(raw)
            if first != (message["event"] == "MEDIA_START"):
                self.fault(f"{message['event']} out of place")
            first = False
            match message["event"]:
                case "MEDIA_START":
                    self._frame = message["optimal_frame_size"]
                    if message["format"] != self.format:
                        self.fault(f"format {message['format']}")
                    self.begun(() if "RESUME_AT" in message["channel_variables"] else None)
                case "DTMF_END":
                    self.key(message["digit"])
                case "MEDIA_MARK_PROCESSED":
                    self._playing = False
                case "MEDIA_FLUSHED":
                    self.cuts[-1:] = [message["heard_ms"]]
                case "TOOL_RESULT":
                    if message["correlation_id"] != "t1":
                        self.fault(f"result of {message['correlation_id']}")
                    self.result("transfer", message["ok"], message["value"])

    async def send_audio(self, data):
        await self.server.send(bytes(data))

    async def command(self, command, **body):
        """A command of the bot's."""
        await self.server.send(json.dumps({"command": command, **body}))

    async def send_mark(self):
        await self.command("MARK_MEDIA", correlation_id="end")

    async def call_tool(self, step):
        about = {"name": step.name, "arguments": step.arguments}
        await self.command("CALL_TOOL", correlation_id="t1", **about)

    async def tell_words(self):
        await self.command("TEXT", role="caller", text=self.words)

    async def tell_text(self, text):
        await self.command("TEXT", role="agent", text=text)

    async def clear(self):
        """Drop what isn't played."""
        await self.command("FLUSH_MEDIA")

    async def garbage(self):
        for text in (DEEP, "not JSON", "[]", "{}", "null", '{"command":7}', '{"command":"FLY"}'):
            await self.server.send(text)
        await self.server.send('{"command":["MARK_MEDIA"]}')
        await self.server.send('{"command":"MARK_MEDIA","correlation_id":{}}')
        await self.server.send('{"command":"CALL_TOOL","name":"leave"}')
        await self.server.send('{"command":"TEXT","role":"judge","text":"x"}')
        await self.server.send(b"")


class WebsocketOpus(Websocket):
    """The same, with a packet of Opus in each message."""

    format = "opus"
    alike = 0.4  # libopus keeps the sound, not the wave, where a signal begins

    async def __aenter__(self):
        self._coder, self._call = OpusCoder(), np.zeros(1, np.intp)
        return await super().__aenter__()

    async def listen(self, packet):
        data, size = np.frombuffer(packet, np.uint8)[None], np.array([len(packet)])
        await super().listen(self._coder.decode(self._call, data, size)[0])

    async def say(self, step):
        self._playing = True
        await self.tell_text(step.text)
        frames = np.resize(voice(step.ms, self.rate, step.seed), (step.ms // 20, 1, 320))
        for n, frame in enumerate(frames):
            if n and step.every_ms:
                await self.wait(min(step.every_ms, 40))
            await self.send_audio(self._coder.encode(self._call, frame).tobytes())
        await self.send_mark()

    async def garbage(self):
        await super().garbage()
        await self.server.send(b"\xff")
