"""The context manager: makes of a conversation what a language model reads.

A conversation is a list of `Entry`s, as heard; what was said last is the last of them. A tool that
was used stands in it as `Used`. An *assembler* turns it into `Message`s, the first one the
instructions. Ours is `assemble`; one of your own is an entry point `ari_bridge.context`, an async
function of the same signature, which an agent's file names (`context = "mine"`):

    [project.entry-points."ari_bridge.context"]
    mine = "my_package.context:assemble"

    async def assemble(context, instructions, history):
        facts = await look_up(history[-1].text)
        return await prompt.assemble(context, f"{instructions} {facts}", history)

Both sides of a conversation alternate, which many models' templates insist on: lines of the same
side are joined. What isn't speech (keys, silence, faults) is told to the model in brackets.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Any, Literal

from bridge.engines.base import Context, Entry, ToolCall, filled
from bridge.errors import ConfigError

GROUP = "ari_bridge.context"

MOST_CHARS = 24_000
"""Of the conversation; what is older is left out. About 6000 tokens of English."""

ON_THE_PHONE = (
    "You are speaking on the telephone, and what you write is read out. Answer in one or two short "
    "spoken sentences, in plain words, numbers too, without lists, links or emojis. What stands in "
    "[brackets] was not said: it tells you what happened on the line. Never write brackets."
)

NOTED = "What you have noted of this call:"


@dataclass(frozen=True, slots=True)
class Used(Entry):
    """A tool that was used: a line of the conversation that only the model reads."""

    call: ToolCall
    ok: bool
    value: Any


def used(call: ToolCall, ok: bool, value: Any) -> Used:
    """What became of a call."""
    return Used("event", "", call, ok, value)


@dataclass(frozen=True, slots=True)
class Message:
    """One message to a model, in the words of the chat APIs."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    """Of an assistant: the tools that it called after its text."""
    call_id: str = ""
    """Of a tool's message: whose result the text is."""


Assemble = Callable[[Context, str, Sequence[Entry]], Awaitable[Sequence[Message]]]


def assembler(name: str, where: str) -> Assemble:
    """The assembler of that name, "" for ours. Raises `ConfigError`, whose message has `where`."""
    if not name:
        return assemble
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        near = difflib.get_close_matches(name, points, n=1)
        have = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(points) or 'none'}"
        raise ConfigError(
            f"{where}: no context '{name}' is installed (entry point {GROUP}); {have}"
        )
    try:
        found: Assemble = points[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}: context '{name}' can't be loaded: {error}") from error
    return found


async def assemble(context: Context, instructions: str, history: Sequence[Entry]) -> list[Message]:
    """The instructions, how to speak on a telephone, what was noted, and the conversation's end.

    Args:
        context: the call's; `{name}` in the instructions is its variable of that name.
        instructions: the operator's.
        history: the conversation.
    """
    told = filled(instructions.strip(), context.variables)
    parts = [told, ON_THE_PHONE, _noted(context.notes)]
    system = Message("system", "\n\n".join(part for part in parts if part))
    return [system, *conversation(history)]


def _noted(notes: Mapping[str, str]) -> str:
    if not notes:
        return ""
    return "\n".join([NOTED, *(f"- {name}: {value}" for name, value in notes.items())])


def conversation(history: Sequence[Entry], most: int = MOST_CHARS) -> list[Message]:
    """The end of a conversation, `most` characters of it."""
    first, left = len(history), most
    while first and left > 0:
        first -= 1
        entry = history[first]
        left -= len(_result(entry)) + 100 if isinstance(entry, Used) else len(entry.text)
    if left < 0 and first < len(history) - 1:
        first += 1
    return _joined(m for entry in history[first:] for m in _messages(entry))


def _messages(entry: Entry) -> Iterable[Message]:
    match entry:
        case Used(call=call):
            yield Message("assistant", calls=(call,))
            yield Message("tool", _result(entry), call_id=call.id)
        case Entry("agent", text):
            yield Message("assistant", text)
        case Entry("caller", text):
            yield Message("user", text)
        case Entry("dtmf", text):
            yield Message("user", f"[The caller pressed the keys {text}.]")
        case Entry("event", text) if text:
            yield Message("user", f"[{text}]")


def _result(entry: Used) -> str:
    value = entry.value if isinstance(entry.value, str) else json.dumps(entry.value, default=str)
    return value if entry.ok else f"failed: {value}"


def _joined(messages: Iterable[Message]) -> list[Message]:
    """Lines of the same side as one message; calls made one after the other as made at once."""
    out: list[Message] = []
    for message in messages:
        before = next((m for m in reversed(out) if m.role != "tool"), None)
        if message.role == "assistant" and before is not None and before.role == "assistant":
            if message.calls and (before.calls or before is out[-1]):
                at = next(i for i, m in enumerate(out) if m is before)
                out[at] = replace(before, calls=before.calls + message.calls)
                continue
            if not before.calls:
                out[-1] = replace(before, text=f"{before.text} {message.text}")
                continue
        elif message.role == "user" and out and out[-1].role == "user":
            out[-1] = replace(out[-1], text=f"{out[-1].text}\n{message.text}")
            continue
        out.append(message)
    return out
