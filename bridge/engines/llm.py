"""What a cascade's language model says: its stream cut into sentences, its tool calls.

    conversation ─▶ assembler ─▶ messages ─▶ Chat (a vendor's) ─▶ pieces ─▶ sentences, tool calls

A model's answer is spoken, so what only looks well on a screen is taken out, and what a reasoning
model thinks aloud. `Chat` is what a vendor's adapter (`llm_openai`, `llm_anthropic`) has to do.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bridge.agent import Agent
from bridge.engines.base import Context, Entry
from bridge.engines.functions import Function, declared
from bridge.engines.parts import Began, Do, Say, Step
from bridge.engines.prompt import Assemble, Message, assembler
from bridge.engines.sentences import Sentences
from bridge.errors import ConfigError


@dataclass(frozen=True)
class LlmSettings:
    """What the table `[llm]` holds for every provider."""

    model: str = ""
    """As the provider names it; a server with one model needs none."""
    instructions: str = ""
    """Who the agent is, and what it knows; `{name}` is the dialplan's variable of that name."""
    context: str = ""
    """An assembler of your own (entry point `ari_bridge.context`)."""
    tools: bool = True
    """Whether the model is told of the agent's tools; a small one does better without."""
    max_tokens: int = 400
    """Of one answer."""
    temperature: float | None = None
    """None: the provider's own."""
    extra: dict[str, Any] = field(default_factory=dict)
    """More of the request's body, passed on as it is."""


class Cut:
    """The answer is longer than `max_tokens`."""


Piece = str | Do | Cut


class Chat(Protocol):
    """A vendor's chat endpoint."""

    def stream(
        self, messages: Sequence[Message], functions: Sequence[Function]
    ) -> AsyncGenerator[Piece, None]:
        """Pieces of text as they come, and each tool call once it is whole.

        Closed before its end, it gives up the request. Raises `EngineError`.
        """


class ChatModel:
    """A `Model` made of a chat endpoint. Calls share it."""

    def __init__(
        self, chat: Chat, agent: Agent, instructions: str, assemble: Assemble, tools: bool = True
    ) -> None:
        """Raises `ConfigError`: a tool of the agent's can't be told of."""
        self._chat, self._instructions, self._assemble = chat, instructions, assemble
        self._agent, self._tools = agent, tools
        self._functions = declared(agent) if tools else ()

    def _known(self) -> Sequence[Function]:
        """The tools that it is told of: what a server brings may have come, or changed."""
        if self._tools and self._agent.served:
            with contextlib.suppress(ConfigError):  # a secret's file is being changed
                self._functions = declared(self._agent)
        return self._functions

    async def answer(self, context: Context, history: Sequence[Entry]) -> AsyncIterator[Step]:
        """What it says to the conversation's last line."""
        messages = await self._assemble(context, self._instructions, history)
        spoken, aloud, began, said = Sentences(), Aloud(), False, False
        async with contextlib.aclosing(self._chat.stream(messages, self._known())) as stream:
            async for piece in stream:
                if not began:
                    began = True
                    yield Began()
                if isinstance(piece, Cut):
                    if said:  # whole sentences: the one that was cut is left out
                        spoken.end()
                    continue
                if isinstance(piece, Do):
                    if rest := speakable(spoken.end()):
                        yield Say(rest)
                    yield piece
                    continue
                for sentence in spoken.add(aloud.add(piece)):
                    if text := speakable(sentence):
                        said = True
                        yield Say(text)
        if rest := speakable(spoken.end()):
            yield Say(rest)


def model_of(chat: Chat, agent: Agent, settings: LlmSettings, where: str) -> ChatModel:
    """Puts it together. Raises `ConfigError`."""
    assemble = assembler(settings.context, where)
    return ChatModel(chat, agent, settings.instructions, assemble, settings.tools)


_EMPHASIS = re.compile(r"(\*{1,3}|`+|~~|__)(?=\S)(.+?)(?<=\S)\1")
_LINK = re.compile(r"!?\[([^\]]+)\]\([^)\s]*\)")
_LEADING = re.compile(r"^\s*(?:#+\s+|[-*•>]\s+)+")
_PICTURES = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f\u200d]+")


def speakable(text: str) -> str:
    """A sentence without what is only for the eye: markdown, emojis; "" if nothing is left."""
    text = _LINK.sub(r"\1", _LEADING.sub("", text))
    text = " ".join(_PICTURES.sub("", _EMPHASIS.sub(r"\2", text)).split())
    return text if any(c.isalnum() for c in text) else ""


class Aloud:
    """Takes out what a reasoning model thinks: `<think>` at its beginning, up to `</think>`."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._kept: str | None = ""

    def add(self, piece: str) -> str:
        """What of the text so far is to be said and wasn't given yet."""
        if self._kept is None:
            return piece
        self._kept += piece
        text = self._kept.lstrip()
        if text.startswith("<think>"):
            _, end, after = text.partition("</think>")
            if not end:
                return ""
            text = after
        elif "<think>".startswith(text):
            return ""
        self._kept = None
        return text


def call_of(name: str, arguments: str) -> Do:
    """The tool call of a model that wrote these arguments, JSON or not."""
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        found = None
    if isinstance(found, dict):
        return Do(name, found)
    return Do(name, {}, "its arguments were no JSON object")
