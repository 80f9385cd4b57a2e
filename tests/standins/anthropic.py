"""Stands in for Anthropic's Messages API as a stream. Answers are written as for OpenAI's."""

import asyncio
import json

from aiohttp import web
from anthropic.types import RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from pydantic import TypeAdapter

from tests.standins.openai import DROP, HANG, LENGTH, Call
from tests.standins.server import Server

EVENTS = TypeAdapter(RawMessageStreamEvent)


class Anthropic(Server):
    """`url` is what an agent file names. Calls come whole, one after the other."""

    def __init__(self, *answers):
        super().__init__(*answers)
        self.routes = [web.post("/v1/messages", self._messages)]

    @property
    def url(self):
        return f"http://{self.host}"

    async def _messages(self, request):
        body = await request.json()
        self.requests.append(body)
        self.check(MessageCreateParamsStreaming, body, "message")
        self._check_roles(body["messages"])
        if request.headers["Authorization"] != f"Bearer {self.key}":
            return _refusal(401, "authentication_error", "invalid key")
        answer = self.answers.popleft()
        if isinstance(answer, int):
            return _refusal(answer, "api_error", "That is not to be had.")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for event in _events(answer):
                if event is HANG:
                    await self.frozen.wait()
                elif event is DROP:
                    request.transport.abort()
                    return response
                else:
                    await response.write(event if isinstance(event, bytes) else _wire(event))
        except (ConnectionResetError, asyncio.CancelledError):
            self.gone.set()
            raise
        return response

    def _check_roles(self, messages):
        roles = [message["role"] for message in messages]
        if roles != [("user", "assistant")[n % 2] for n in range(len(roles))] or not len(roles) % 2:
            self.faults.append(f"roles don't alternate from user to user: {roles}")
        used = []
        for message in messages:
            found = [b["tool_use_id"] for b in message["content"] if b["type"] == "tool_result"]
            if found != used:
                self.faults.append(f"calls {used} have results {found}")
            used = [b["id"] for b in message["content"] if b["type"] == "tool_use"]


def _events(steps):
    """The API's events for an answer's steps."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "a-model",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    yield {"type": "message_start", "message": message}
    yield {"type": "ping"}
    index, kind, reason = -1, "", "end_turn"
    for step in steps:
        if not isinstance(step, str | Call):
            if step is LENGTH:
                reason = "max_tokens"
            else:
                yield step
            continue
        own = "text" if isinstance(step, str) else step.index
        if own != kind:
            if index >= 0:
                yield {"type": "content_block_stop", "index": index}
            index, kind = index + 1, own
            block = {"type": "text", "text": ""}
            if isinstance(step, Call):
                block = {"type": "tool_use", "id": step.id, "name": step.name, "input": {}}
            yield {"type": "content_block_start", "index": index, "content_block": block}
        delta = {"type": "text_delta", "text": step}
        if isinstance(step, Call):
            delta = {"type": "input_json_delta", "partial_json": step.arguments}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    if index >= 0:
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": reason, "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 1}}
    yield {"type": "message_stop"}


def _wire(event):
    if event["type"] != "ping":
        EVENTS.validate_python(event)
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _refusal(status, kind, message):
    return web.json_response(
        {"type": "error", "error": {"type": kind, "message": message}}, status=status
    )
