"""OpenAI's Realtime API, as its SDK's own types describe it: every message is checked by them."""

import base64
import itertools
import json
import re
from dataclasses import replace

import numpy as np
from openai import BaseModel
from openai.types import realtime as rt
from openai.types.realtime import realtime_server_event as rs
from pydantic import ValidationError

from bridge.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from bridge.engines import wire
from tests.contract.far import DEEP, Far, voice
from tests.contract.server import Server

CLIENT = {
    "session.update": rt.SessionUpdateEvent,
    "input_audio_buffer.append": rt.InputAudioBufferAppendEvent,
    "conversation.item.create": rt.ConversationItemCreateEvent,
    "conversation.item.truncate": rt.ConversationItemTruncateEvent,
    "response.create": rt.ResponseCreateEvent,
    "response.cancel": rt.ResponseCancelEvent,
}
LAWS = {"audio/pcmu": (encode_ulaw, decode_ulaw), "audio/pcma": (encode_alaw, decode_alaw)}
USAGE = {"type": "duration", "seconds": 1.0}


def extras(value, where="message"):
    """Fields that the types don't know."""
    if isinstance(value, BaseModel):
        yield from (f"{where}.{name}" for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from extras(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from extras(item, where)


class OpenAi(Far):
    """One session after the other."""

    engine, rate = "openai-realtime", 8000
    does = frozenset({"text", "tools", "keys", "history", "truncation", "key", "owes", "unbounded"})
    key_env = "OPENAI_API_KEY"

    async def __aenter__(self):
        self.server = Server(self, self.serve, self.allow)
        self.where = await self.server.start()
        self.ids = itertools.count(1)
        return self

    async def __aexit__(self, *error):
        await super().__aexit__(*error)
        await self.server.stop()

    def options(self):
        return {"url": f"ws://{self.where}/v1"}

    def environment(self):
        return {"OPENAI_API_KEY": "sk-right-key"}

    def ping(self, monkeypatch):
        monkeypatch.setattr(wire, "PING_S", 0.6)
        monkeypatch.setattr(wire, "PONG_S", 0.6)

    async def refuse(self):
        await self.server.refuse()

    async def drop(self):
        await self.server.drop()

    async def freeze(self):
        await self.server.freeze()

    def allow(self, request):
        if request.headers.get("Authorization") != "Bearer sk-right-key":
            return 401
        return None if request.path == "/v1/realtime" and request.query.get("model") else 404

    # One session ----------------------------------------------------------------------------------

    async def serve(self, request, socket):
        self.session, self.items, self.active = None, {}, None
        self.started = False
        self.played_ms = 0
        self.buffer_ms = 0
        await self.emit(
            rt.SessionCreatedEvent, session={"type": "realtime", "model": request.query["model"]}
        )
        async for raw in self.server.messages(socket):
            if self.server.socket is not socket:
                continue  # a newer session has taken over
            if not isinstance(raw, str):
                self.fault("a binary message")
                continue
            message = json.loads(raw)
            try:
                event = CLIENT[message["type"]].model_validate(message)
            except (KeyError, ValidationError) as error:
                self.fault(str(error))
                continue
            for name in extras(event):
                self.fault(f"{message['type']}: no such field {name}")
            await self.take(event)

    async def take(self, event):
        if self.session is None and event.type != "session.update":
            self.fault(f"{event.type} before session.update")
        match event.type:
            case "session.update":
                await self.update(event)
            case "input_audio_buffer.append":
                await self.begin()
                await self.listen(event)
            case "conversation.item.create":
                await self.create_item(event)
            case "conversation.item.truncate":
                await self.truncate(event)
            case "response.create":
                await self.create_response(event)
            case "response.cancel":
                await self.cancel(event)

    async def update(self, event):
        self.session = event.session
        audio = event.session.audio
        self.format = audio.input.format.type
        if audio.output.format.type != self.format:
            self.fault("two formats")
        if self.rate != (8000 if self.format in LAWS else audio.input.format.rate):
            self.fault(f"{self.format} at {self.rate} Hz")
        if not event.session.instructions:
            self.fault("no instructions")
        await self.emit(rt.SessionUpdatedEvent, session=event.session)

    async def begin(self):
        """The history is complete: the conversation begins."""
        if not self.started:
            self.started = True
            sides = {"user": "caller", "assistant": "agent"}
            lines = [
                (sides[item.role], item.content[0].text)
                for item in self.items.values()
                if item.type == "message"
            ]
            self.begun(lines or None)

    async def create_item(self, event):
        item = event.item
        item.id = item.id or f"item_{next(self.ids)}"
        if len(item.id) > 32:
            self.fault("an item's id has at most 32 characters")
        if item.type == "function_call_output":
            known = [
                i
                for i in self.items.values()
                if i.type == "function_call" and i.call_id == item.call_id
            ]
            if not known:
                await self.error("no such call", "item_create_invalid_call_id", event)
                return
            value = json.loads(item.output)
            failed = isinstance(value, dict) and "error" in value
            self.results.append((known[0].name, not failed, value))
        elif item.type == "message" and self.started:
            match = re.search(r"pressed the keys ([0-9*#]+)", item.content[0].text)
            self.keys += match[1] if match else ""
        self.items[item.id] = item
        await self.emit(rt.ConversationItemAdded, item=item)
        await self.emit(rt.ConversationItemDone, item=item)

    # The caller -----------------------------------------------------------------------------------

    async def listen(self, event):
        data = base64.b64decode(event.audio, validate=True)
        if self.format in LAWS:
            pcm = LAWS[self.format][1](np.frombuffer(data, np.uint8))
        else:
            pcm = np.frombuffer(data, "<i2")
        self.heard(pcm)
        self.buffer_ms += len(pcm) * 1000 // self.rate
        detection = self.session.audio.input.turn_detection
        match self.ends_turns(pcm):
            case "began":
                self.user_item = f"item_{next(self.ids)}"
                await self.emit(
                    rt.InputAudioBufferSpeechStartedEvent,
                    audio_start_ms=max(0, self.buffer_ms - 300),
                    item_id=self.user_item,
                )
                if detection.interrupt_response and self.active:
                    await self.end_response("cancelled", "turn_detected")
            case "ended":
                await self.emit(
                    rt.InputAudioBufferSpeechStoppedEvent,
                    audio_end_ms=self.buffer_ms - 300,
                    item_id=self.user_item,
                )
                await self.emit(rt.InputAudioBufferCommittedEvent, item_id=self.user_item)
                if detection.create_response and not self.active:
                    await self.respond()
                if self.session.audio.input.transcription:
                    await self.emit(
                        rt.ConversationItemInputAudioTranscriptionCompletedEvent,
                        item_id=self.user_item,
                        content_index=0,
                        transcript=self.words,
                        usage=USAGE,
                    )

    # Responses ------------------------------------------------------------------------------------

    async def create_response(self, event):
        await self.begin()
        if self.active:
            await self.error("active", "conversation_already_has_active_response", event)
        else:
            self.asked = event.response
            await self.respond()

    async def respond(self):
        if self.answers:
            self.perform(self.answers.popleft())
        else:
            await self.begin_response()
            await self.end_response("completed")

    async def begin_response(self):
        self.active = f"resp_{next(self.ids)}"
        self.output = 0
        await self.emit(rt.ResponseCreatedEvent, response=self.response("in_progress"))

    async def _perform(self, steps):
        await self.begin_response()
        await super()._perform(steps)
        await self.end_response("completed")

    async def end_response(self, status, reason=None):
        if status != "completed":
            self.stop()
        response = self.response(status, {"type": status, "reason": reason} if reason else None)
        self.active = None
        await self.emit(rt.ResponseDoneEvent, response=response)

    def response(self, status, details=None):
        return {
            "id": self.active,
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": [],
        }

    async def cancel(self, event):
        if self.active and event.response_id in (None, self.active):
            await self.end_response("cancelled", "client_cancelled")
        else:
            await self.error("nothing to cancel", "response_cancel_not_active", event)

    async def truncate(self, event):
        item = self.items.get(event.item_id)
        if item is None or not hasattr(item, "ms"):
            await self.error("no such item", "item_truncate_invalid_item_id", event)
            self.fault(f"truncates {event.item_id}")
        elif event.audio_end_ms > item.ms or event.content_index:
            await self.error("too long", "invalid_value", event)
            self.fault(f"truncates at {event.audio_end_ms} of {item.ms} ms")
        else:
            self.cuts.append(event.audio_end_ms)
            await self.emit(
                rt.ConversationItemTruncatedEvent,
                audio_end_ms=event.audio_end_ms,
                content_index=0,
                item_id=event.item_id,
            )

    async def say(self, step):
        item = rt.RealtimeConversationItemAssistantMessage(
            id=f"item_{next(self.ids)}", type="message", role="assistant", content=[]
        )
        place = {"response_id": self.active, "output_index": self.output}
        self.output += 1
        self.items[item.id] = item
        await self.emit(rt.ResponseOutputItemAddedEvent, item=item, **place)
        place |= {"item_id": item.id, "content_index": 0}
        words = step.text.split(" ")
        for n, word in enumerate(words):
            await self.emit(
                rt.ResponseAudioTranscriptDeltaEvent, delta=(" " if n else "") + word, **place
            )
        pcm = voice(step.ms, self.rate, step.seed)
        data = LAWS[self.format][0](pcm) if self.format in LAWS else pcm.astype("<i2")
        data = data.tobytes()
        item.ms = 0
        sent = 0
        if self.rate > 8000:  # thousands of messages would be checked for longer than they last
            step = replace(step, sizes=tuple(max(size, 68 + size % 4) for size in step.sizes))
        for n, piece in enumerate(step.cut(data)):
            if n and step.every_ms:
                await self.wait(step.every_ms)
            sent += len(piece)
            item.ms = sent * len(pcm) // len(data) * 1000 // self.rate
            await self.emit(
                rt.ResponseAudioDeltaEvent, delta=base64.b64encode(piece).decode(), **place
            )
        await self.emit(rt.ResponseAudioDoneEvent, **place)
        await self.emit(rt.ResponseAudioTranscriptDoneEvent, transcript=step.text, **place)

    async def call_tool(self, step):
        item = rt.RealtimeConversationItemFunctionCall(
            id=f"item_{next(self.ids)}",
            type="function_call",
            call_id=f"call_{next(self.ids)}",
            name=step.name,
            arguments=json.dumps(step.arguments),
        )
        self.items[item.id] = item
        place = {"response_id": self.active, "output_index": self.output}
        self.output += 1
        await self.emit(rt.ResponseOutputItemAddedEvent, item=item, **place)
        place |= {"item_id": item.id, "call_id": item.call_id}
        await self.emit(
            rt.ResponseFunctionCallArgumentsDoneEvent,
            name=step.name,
            arguments=item.arguments,
            **place,
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
            '{"type":"x.y"}',
            "7",
        ):
            await self.server.send(text)
        for kind in (
            "response.output_audio.delta",
            "response.function_call_arguments.done",
            "conversation.item.input_audio_transcription.completed",
            "input_audio_buffer.speech_started",
            "response.output_audio_transcript.delta",
        ):
            await self.server.send(json.dumps({"type": kind}))
            await self.server.send(json.dumps({"type": kind, "item_id": {}, "response_id": []}))
        await self.server.send(
            json.dumps(
                {
                    "type": "response.output_audio.delta",
                    "item_id": "item_x",
                    "response_id": "resp_x",
                    "delta": "*",
                }
            )
        )
        await self.server.send(b"\0\xff\xfe")
        await self.error("something", "unheard_of")

    # To the bridge --------------------------------------------------------------------------------

    async def emit(self, kind, **fields):
        """An event, made and checked by the SDK's type."""
        name = kind.model_fields["type"].annotation.__args__[0]
        event = kind.model_validate({"event_id": f"event_{next(self.ids)}", "type": name, **fields})
        await self.server.send(event.to_json(indent=None))

    async def error(self, message, code, event=None):
        error = rt.RealtimeError(
            message=message,
            type="invalid_request_error",
            code=code,
            event_id=event.event_id if event else None,
        )
        await self.emit(rt.RealtimeErrorEvent, error=error)


class OpenAiWide(OpenAi):
    """The same in PCM at 24 kHz."""

    rate = 24000

    def options(self):
        return {**super().options(), "format": "pcm"}


assert rs.RealtimeServerEvent  # every event that is sent is one of these
