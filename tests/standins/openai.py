"""Stands in for OpenAI's HTTP API: chat completions as a stream, speech both ways.

An answer is a list of what to do, one after the other:

    "text"                 a piece of text
    Call(...)              a fragment of a tool call
    401, 404, 429, 500     refuse with that status (alone)
    b"..."                 these bytes instead of an event
    LENGTH                 the end: there were too many tokens
    DROP                   break the connection
    HANG                   say nothing more until the client gives up

To an utterance it is the text (or DROP, a status, bytes), to a sentence a list of int16 arrays.
"""

import asyncio
import io
import json
import wave
from dataclasses import dataclass
from typing import get_type_hints

import numpy as np
from aiohttp import web
from openai.types.audio import SpeechCreateParams, Transcription
from openai.types.audio.transcription_create_params import (
    TranscriptionCreateParamsNonStreaming,
)
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from typing_extensions import TypedDict

from tests.standins.server import Server

DROP, HANG, LENGTH = object(), object(), object()
FIELDS = ("model", "language", "prompt", "response_format", "temperature")
HINTS = get_type_hints(TranscriptionCreateParamsNonStreaming, include_extras=True)
FORM = TypedDict("Form", {k: v for k, v in HINTS.items() if k in FIELDS}, total=False)
"""A transcription's form but its file, of which there is no type."""
REASONS = {None: "stop", LENGTH: "length"}
END = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Call:
    """A fragment of a tool call; its first one has an id and a name."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


class OpenAi(Server):
    """`url` is what an agent file names."""

    def __init__(self, *answers):
        super().__init__(*answers)
        self.heard = []
        """Utterances, int16 (n,)."""
        self.routes = [
            web.post("/v1/chat/completions", self._chat),
            web.post("/v1/audio/transcriptions", self._transcribe),
            web.post("/v1/audio/speech", self._speak),
        ]

    @property
    def url(self):
        return f"http://{self.host}/v1"

    async def _chat(self, request):
        body = await request.json()
        self.requests.append(body)
        self.check(CompletionCreateParamsStreaming, body, "chat completion")
        self._check_tools(body["messages"])
        refusal, answer = self._answer(request)
        if refusal is not None:
            return refusal
        return await self._stream(request, "text/event-stream", [*answer, None, END], _event)

    async def _speak(self, request):
        body = await request.json()
        self.requests.append(body)
        self.check(SpeechCreateParams, body, "speech")
        refusal, answer = self._answer(request)
        if refusal is not None:
            return refusal
        return await self._stream(request, "audio/pcm", answer, lambda pcm: pcm.tobytes())

    async def _transcribe(self, request):
        form = await request.post()
        self.requests.append({k: v for k, v in form.items() if k != "file"})
        file = form["file"].file.read()
        self.check(FORM, self.requests[-1], "transcription")
        with wave.open(io.BytesIO(file)) as audio:
            assert (audio.getframerate(), audio.getsampwidth(), audio.getnchannels()) == (
                16000,
                2,
                1,
            )
            self.heard.append(np.frombuffer(audio.readframes(audio.getnframes()), "<i2"))
        refusal, answer = self._answer(request)
        if refusal is not None:
            return refusal
        if answer is DROP:
            request.transport.abort()
            return web.Response()
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json")
        return web.json_response(Transcription(text=answer).model_dump(exclude_none=True))

    def _answer(self, request):
        if request.headers["Authorization"] != f"Bearer {self.key}":
            refusal = _refusal(401, "Incorrect API key provided: a-*****.", "invalid_api_key")
            return refusal, None
        answer = self.answers.popleft()
        if isinstance(answer, int):
            return _refusal(answer, "That is not to be had.", "no_such_thing"), None
        return None, answer

    async def _stream(self, request, kind, steps, encode):
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        try:
            for step in steps:
                if step is HANG:
                    await self.frozen.wait()
                elif step is DROP:
                    request.transport.abort()
                    return response
                else:
                    await response.write(step if isinstance(step, bytes) else encode(step))
        except (ConnectionResetError, asyncio.CancelledError):
            self.gone.set()
            raise
        return response

    def _check_tools(self, messages):
        """Every tool call is answered at once, and nothing else is."""
        open_calls = []
        for message in messages:
            if message["role"] == "tool":
                if message["tool_call_id"] not in open_calls:
                    self.faults.append(f"a result without its call: {message}")
                else:
                    open_calls.remove(message["tool_call_id"])
                continue
            if open_calls:
                self.faults.append(f"calls without a result: {open_calls}")
            open_calls = [call["id"] for call in message.get("tool_calls", ())]


def _event(step):
    delta = {}
    if isinstance(step, str):
        delta = {"role": "assistant", "content": step}
    elif isinstance(step, Call):
        function = {"name": step.name, "arguments": step.arguments}
        call = {"index": step.index, "id": step.id, "type": "function", "function": function}
        delta = {"tool_calls": [{k: v for k, v in call.items() if v is not None}]}
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "a-model",
        "choices": [{"index": 0, "delta": delta, "finish_reason": REASONS.get(step)}],
    }
    ChatCompletionChunk.model_validate(chunk, strict=True)
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _refusal(status, message, code):
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return web.json_response({"error": error}, status=status)
