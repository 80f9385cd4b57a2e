"""The far ends of a cascade: a Wyoming server hears, a chat endpoint thinks, another one speaks."""

import asyncio
import json
from dataclasses import replace

import numpy as np
from aiohttp import web
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from bridge.engines.talk import GO_ON
from tests.contract.far import DEEP, CallTool, Far, Say, voice
from tests.standins.openai import Call, OpenAi, _event
from tests.standins.wyoming import Wyoming


class Ear(Wyoming):
    """Hears the same words in everything that sounds."""

    def __init__(self, far):
        super().__init__()
        self.answers = self
        self._far = far

    def pop(self, _):
        """The words of the utterance that was just heard."""
        pcm = self.heard.pop()
        self._far.heard(pcm)
        return self._far.words if np.abs(pcm.astype(int)).max() > 1000 else ""


class Mouth(OpenAi):
    """Chat completions whose text the far end performs, and speech that sounds as it says."""

    def __init__(self, far):
        super().__init__()
        self._far = far

    async def _chat(self, request):
        body = await request.json()
        self.check(CompletionCreateParamsStreaming, body, "chat completion")
        self._check_tools(body["messages"])
        return await self._far.asked(request, body["messages"])

    async def _speak(self, request):
        text = (await request.json())["input"]
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        await response.prepare(request)
        step = self._far.steps[text]
        data = voice(step.ms, self._far.rate, step.seed).astype("<i2").tobytes()
        for n, piece in enumerate(step.cut(data)):
            if n and step.every_ms:
                await self._far.wait(step.every_ms)
            await response.write(piece)
        return response


class Cascade(Far):
    """moonshine's place is taken by a Wyoming server, so that what is heard is the test's."""

    engine, rate = "cascade", 16000
    does = frozenset({"text", "tools", "keys", "history", "owes"})
    lasts = False

    def __init__(self):
        super().__init__()
        self.ear, self.mouth = Ear(self), Mouth(self)
        self.steps = {}
        self._response = None
        self._asked, self._answered = "", []

    async def __aenter__(self):
        await self.ear.__aenter__()
        await self.mouth.__aenter__()
        return self

    async def __aexit__(self, *error):
        await super().__aexit__(*error)
        await self.mouth.__aexit__(*error)
        await self.ear.__aexit__(*error)

    def options(self):
        return {
            "stt": {"provider": "wyoming", "url": self.ear.url},
            "llm": {"provider": "openai", "url": self.mouth.url},
            "tts": {"provider": "openai", "url": self.mouth.url, "rate": self.rate},
        }

    def environment(self):
        return {"OPENAI_API_KEY": OpenAi.key}

    def dressed(self, agent):
        self._keep(self.greeting)
        return replace(agent, greeting=" ".join(step.text for step in self.greeting))

    async def refuse(self):
        await self.mouth.refuse()
        await self.ear.__aexit__()

    async def asked(self, request, messages):
        """The model is to answer."""
        self.open += 1
        try:
            return await self._answer(request, messages)
        finally:
            self.open -= 1

    async def _answer(self, request, messages):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._response, self._request = response, request
        if self.history is None:
            self.history = _lines(messages)
        last = messages[-1]
        if last["role"] == "tool":
            names = {c["id"]: c["function"] for m in messages for c in m.get("tool_calls", ())}
            told = last["content"]
            name = names[last["tool_call_id"]]["name"]
            self.result(name, not told.startswith("failed: "), told)
        elif (keys := last["content"].rpartition("the keys ")[2].rstrip(".]")).isdigit():
            self.key(keys)
        elif GO_ON not in last["content"]:
            self._turn_over(json.dumps(messages))
        if self._performing is not None:
            await asyncio.wait({self._performing})
        if not request.transport.is_closing():
            await response.write(_event(None) + b"data: [DONE]\n\n")
        return response

    def _turn_over(self, asked):
        """What is asked once more was given up before: the answer is the same, if it is one."""
        whole = all(isinstance(step, Say | CallTool) for step in self._answered)
        if asked != self._asked or not whole:
            self._asked, self._answered = asked, (self.answers.popleft() if self.answers else [])
        self.perform(self._answered)

    def _keep(self, steps):
        self.steps |= {step.text: step for step in steps if hasattr(step, "text")}

    async def say(self, step):
        self._keep([step])
        await self._write(_event(step.text + "\n"))

    async def call_tool(self, step):
        call = Call(0, json.dumps(step.arguments), "call-1", step.name)
        await self._write(_event(call))

    async def garbage(self):
        for text in (
            b"nonsense\n\n",
            b"data: []\n\n",
            b"data: {nonsense\n\n",
            f"data: {DEEP}\n\n".encode(),
        ):
            await self._write(text)

    async def drop(self):
        self._request.transport.abort()

    async def freeze(self):
        await asyncio.Event().wait()

    async def _write(self, data):
        try:
            await self._response.write(data)
        except ConnectionResetError:
            self.stop()


def _lines(messages):
    """What the model reads, line by line."""
    sides = {"assistant": "agent", "user": "caller"}
    return [
        (sides[m["role"]], text)
        for m in messages
        if m["role"] in sides
        for text in (m["content"] or "").split("\n")
    ]
