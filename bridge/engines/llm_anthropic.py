"""Anthropic's language models, by its own SDK: the Messages API as a stream.

What differs from chat completions: the instructions stand beside the conversation, which begins and
ends with the user; results of tools are the user's; a tool's arguments come in pieces of its block.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
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
    from anthropic import AsyncAnthropic

EXTRA = "anthropic"
CONNECT_S, READ_S = 5.0, 30.0
BEGINS, GO_ON = "[The call begins.]", "[Go on.]"


@dataclass(frozen=True)
class AnthropicSettings(LlmSettings):
    """`[llm] provider = "anthropic"`."""

    url: str = ""
    """Of a compatible server; "" is Anthropic."""
    key_env: str = "ANTHROPIC_API_KEY"
    """The environment variable that holds the key."""


def provider(table: Mapping[str, Any], where: str, agent: Agent) -> Anthropic:
    """The part that `[llm]` asks for. Raises `ConfigError`."""
    settings = build(AnthropicSettings, table, where)
    if not settings.model:
        raise ConfigError(f"{where}: 'model' is missing, such as model = 'claude-haiku-4-5'")
    if settings.temperature is not None:
        raise ConfigError(f"{where}: Anthropic's models know no 'temperature'; take it out")
    return Anthropic(settings, agent, where)


class Anthropic:
    """A model that is yet to be connected."""

    def __init__(self, settings: AnthropicSettings, agent: Agent, where: str) -> None:
        """Raises `ConfigError`."""
        self._settings = settings
        self._chat = AnthropicChat(settings)
        self._model = model_of(self._chat, agent, settings, where)

    async def prepare(self, shared: Shared) -> ChatModel:
        """Raises `EngineMissing`."""
        own = self._settings
        await vendor.load("anthropic", EXTRA)
        secret = vendor.key(own.key_env, "Anthropic")

        @contextlib.asynccontextmanager
        async def make() -> AsyncIterator[AsyncAnthropic]:
            import anthropic

            async with anthropic.AsyncAnthropic(
                api_key=secret,
                base_url=own.url or None,
                max_retries=0,
                timeout=anthropic.Timeout(READ_S, connect=CONNECT_S),
            ) as made:
                yield made

        self._chat.client = await shared.get(("anthropic", own.url, own.key_env), make)
        return self._model


class AnthropicChat:
    """The Messages API."""

    client: AsyncAnthropic

    def __init__(self, settings: AnthropicSettings) -> None:
        """`client` is set before it is used."""
        self._settings = settings

    async def stream(
        self, messages: Sequence[Message], functions: Sequence[Function]
    ) -> AsyncGenerator[Piece, None]:
        """Pieces of text as they come, and each tool call when its block is over."""
        own = self._settings
        calls: dict[int, list[str]] = {}
        with vendor.errors("anthropic", "AnthropicError", own.url or "Anthropic", own.key_env):
            stream = await self.client.messages.create(**self._request(messages, functions))
            async with stream:
                async for event in stream:
                    match event.type:
                        case "content_block_start" if event.content_block.type == "tool_use":
                            calls[event.index] = [event.content_block.name, ""]
                        case "content_block_delta" if event.delta.type == "text_delta":
                            yield event.delta.text
                        case "content_block_delta" if event.delta.type == "input_json_delta":
                            calls[event.index][1] += event.delta.partial_json
                        case "content_block_stop" if event.index in calls:
                            yield call_of(*calls.pop(event.index))
                        case "message_delta" if event.delta.stop_reason == "max_tokens":
                            yield Cut()

    def _request(self, messages: Sequence[Message], functions: Sequence[Function]) -> Any:
        own = self._settings
        request: dict[str, Any] = {
            "model": own.model,
            "max_tokens": own.max_tokens,
            "system": "\n\n".join(m.text for m in messages if m.role == "system"),
            "messages": _conversation([m for m in messages if m.role != "system"]),
            "stream": True,
        }
        if functions:
            request["tools"] = [
                {"name": f.name, "description": f.description, "input_schema": dict(f.parameters)}
                for f in functions
            ]
        if own.extra:
            request["extra_body"] = own.extra
        return request


def _conversation(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """As the API takes it: user and assistant in turn, the user first and last."""
    out: list[dict[str, Any]] = []
    if not messages or messages[0].role == "assistant":
        out.append({"role": "user", "content": [{"type": "text", "text": BEGINS}]})
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = list(_blocks(message))
        if out and out[-1]["role"] == role:
            out[-1]["content"] += blocks
        else:
            out.append({"role": role, "content": blocks})
    if out[-1]["role"] == "assistant":
        out.append({"role": "user", "content": [{"type": "text", "text": GO_ON}]})
    return out


def _blocks(message: Message) -> Iterator[dict[str, Any]]:
    if message.role == "tool":
        yield {
            "type": "tool_result",
            "tool_use_id": _id(message.call_id),
            "content": message.text,
        }
        return
    if message.text:
        yield {"type": "text", "text": message.text}
    for call in message.calls:
        yield {
            "type": "tool_use",
            "id": _id(call.id),
            "name": call.name,
            "input": dict(call.arguments),
        }


def _id(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)
