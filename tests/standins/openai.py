"""Stands in for OpenAI's HTTP API: chat completions as a stream, speech both ways.

An answer is a list of what to do, one after the other:

    "text"                 a piece of text
    Call(...)              a fragment of a tool call
    401, 404, 429, 500     refuse with that status (alone)
    b"..."                 these bytes instead of an event
    DROP                   break the connection
    HANG                   say nothing more until the client gives up
"""

import asyncio
import json
from dataclasses import dataclass

from aiohttp import web
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from tests.standins.server import Server

DROP, HANG = object(), object()


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
        self.routes = [web.post("/v1/chat/completions", self._chat)]

    @property
    def url(self):
        return f"http://{self.host}/v1"

    async def _chat(self, request):
        body = await request.json()
        self.requests.append(body)
        self.check(CompletionCreateParamsStreaming, body, "chat completion")
        self._check_tools(body["messages"])
        if request.headers["Authorization"] != f"Bearer {self.key}":
            return _refusal(401, "Incorrect API key provided: a-*****.", "invalid_api_key")
        answer = self.answers.popleft()
        if isinstance(answer, int):
            return _refusal(answer, "That is not to be had.", "no_such_thing")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for step in answer:
                if step is HANG:
                    await self.frozen.wait()
                elif step is DROP:
                    request.transport.abort()
                    return response
                else:
                    await response.write(_event(step))
            await response.write(_event(None) + b"data: [DONE]\n\n")
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
    if isinstance(step, bytes):
        return step
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
        "choices": [{"index": 0, "delta": delta, "finish_reason": None if step else "stop"}],
    }
    ChatCompletionChunk.model_validate(chunk, strict=True)
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _refusal(status, message, code):
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return web.json_response({"error": error}, status=status)
