"""Language models behind OpenAI's chat completions: OpenAI, Ollama, vLLM, llama.cpp and many more.

By OpenAI's own SDK, one client for all calls of a worker. It streams (server-sent events); a stream
that is closed before its end closes its connection, by which the server knows to stop. The SDK's
own retries are off: a retry is the supervisor's to decide, who has a caller waiting.

Fragments of tool calls come with an index; a call is whole when the stream is.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.agent import Agent
from bridge.engines import vendor
from bridge.engines.base import Shared
from bridge.engines.functions import Function
from bridge.engines.llm import ChatModel, Cut, LlmSettings, Piece, call_of, model_of
from bridge.engines.prompt import Message
from bridge.errors import ConfigError
from bridge.settings import build

if TYPE_CHECKING:
    from openai import AsyncOpenAI

EXTRA = "openai"
CONNECT_S, READ_S = 5.0, 30.0


@dataclass(frozen=True)
class OpenAiSettings(LlmSettings):
    """`[llm] provider = "openai"`."""

    url: str = ""
    """Of a compatible server, such as `http://127.0.0.1:8080/v1`; "" is OpenAI."""
    key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; a server of your own may need none."""


def provider(table: Mapping[str, Any], where: str, agent: Agent) -> OpenAi:
    """The part that `[llm]` asks for. Raises `ConfigError`."""
    settings = build(OpenAiSettings, table, where)
    if not settings.url and not settings.model:
        raise ConfigError(f"{where}: 'model' is missing, such as model = 'gpt-4.1-mini'")
    return OpenAi(settings, agent, where)


class OpenAi:
    """A model that is yet to be connected."""

    def __init__(self, settings: OpenAiSettings, agent: Agent, where: str) -> None:
        """Raises `ConfigError`."""
        self._settings = settings
        self._chat = OpenAiChat(settings)
        self._model = model_of(self._chat, agent, settings, where)

    async def prepare(self, shared: Shared) -> ChatModel:
        """Raises `EngineMissing`."""
        self._chat.client = await client(shared, self._settings.url, self._settings.key_env)
        return self._model


class OpenAiChat:
    """A chat completions endpoint."""

    client: AsyncOpenAI

    def __init__(self, settings: OpenAiSettings) -> None:
        """`client` is set before it is used."""
        self._settings = settings

    async def stream(
        self, messages: Sequence[Message], functions: Sequence[Function]
    ) -> AsyncGenerator[Piece, None]:
        """Pieces of text as they come, then the tool calls. Raises `EngineError`."""
        calls: dict[int, list[str]] = {}
        with errors(self._settings.url, self._settings.key_env):
            stream = await self.client.chat.completions.create(**self._request(messages, functions))
            async with stream:
                async for chunk in stream:
                    if not chunk.choices:  # usage, at the end
                        continue
                    delta = chunk.choices[0].delta
                    if delta.content:
                        yield delta.content
                    for part in delta.tool_calls or ():
                        index = len(calls) if part.index is None else part.index
                        call = calls.setdefault(index, ["", ""])
                        if part.function is not None:
                            call[0] += part.function.name or ""
                            call[1] += part.function.arguments or ""
                    if chunk.choices[0].finish_reason == "length":
                        yield Cut()
        for name, text in calls.values():
            yield call_of(name, text)

    def _request(self, messages: Sequence[Message], functions: Sequence[Function]) -> Any:
        own = self._settings
        limit = "max_tokens" if own.url else "max_completion_tokens"
        request: dict[str, Any] = {
            "model": own.model or "default",
            "messages": [_message(m) for m in messages],
            "stream": True,
            limit: own.max_tokens,
        }
        if own.temperature is not None:
            request["temperature"] = own.temperature
        if functions:
            request["tools"] = [_tool(function) for function in functions]
        if own.extra:
            request["extra_body"] = own.extra
        return request


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call_id, "content": message.text}
    if not message.calls:
        return {"role": message.role, "content": message.text}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
        }
        for call in message.calls
    ]
    return {"role": message.role, "content": message.text or None, "tool_calls": calls}


def _tool(function: Function) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": function.name,
            "description": function.description,
            "parameters": dict(function.parameters),
        },
    }


# For all that speak OpenAI's HTTP API -------------------------------------------------------------


async def client(shared: Shared, url: str, key_env: str) -> AsyncOpenAI:
    """The worker's client of that server. Raises `EngineMissing`."""
    await vendor.load("openai", EXTRA)
    secret = vendor.key(key_env, "OpenAI") if not url else None

    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[AsyncOpenAI]:
        import openai

        timeout = openai.Timeout(READ_S, connect=CONNECT_S)
        async with openai.AsyncOpenAI(
            api_key=secret or os.environ.get(key_env) or "none",
            base_url=url or None,
            max_retries=0,
            timeout=timeout,
        ) as made:
            yield made

    return await shared.get(("openai", url, key_env), make)


def errors(url: str, key_env: str) -> contextlib.AbstractContextManager[None]:
    """Translates the SDK's exceptions."""
    return vendor.errors("openai", "OpenAIError", url or "OpenAI", key_env)
