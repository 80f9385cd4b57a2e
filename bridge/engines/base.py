"""The port to an engine: one `Engine` a call, fed with audio and events, answering by `emit`.

The call tells its engine everything that happens on the line (`hear`, `notify`), and the engine
tells the call everything that it wants to happen (`emit`). Both are plain synchronous calls on the
event loop, because a thousand frames a second pass here; what takes time an engine does in tasks of
its own task group (`Context.tasks`), which end with the call.

Who decides when a turn is over is `Engine.turns`: `bridge` (the dialog layer sends `TurnCommitted`)
or `engine` (a speech-to-speech service does its own endpointing and emits `Interrupt`).

A turn: `SpeechStarted` → (`TurnEager` → maybe `TurnWithdrawn`)* → `TurnCommitted` → the engine emits
`CallerText`, then `Text` and `Audio` of one or more items, each closed by `ItemDone`, then `ReplyDone`.
A tool call runs when the audio emitted before it has been heard. Nothing that has an effect in the world
may happen before `TurnCommitted`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.agent import Agent

Pcm = NDArray[np.int16]


# What the engine is told -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller began to speak at `at_ms` of the caller's audio."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class TurnEager:
    """The caller may be done: start thinking, without effects in the world.

    The turn's speech lies between `start_ms` and `end_ms` of the caller's audio.
    """

    turn: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class TurnWithdrawn:
    """The caller went on after all: forget what `TurnEager` of this turn started."""

    turn: int


@dataclass(frozen=True, slots=True)
class TurnCommitted:
    """The caller's turn is over: answer."""

    turn: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Digit:
    """The caller pressed a key."""

    digit: str


@dataclass(frozen=True, slots=True)
class Heard:
    """An item's playout ended: what the caller heard of it.

    `text` is the item's text as far as it was heard; `cut` is True if the caller interrupted it.
    """

    item: int
    heard_ms: int
    text: str
    cut: bool


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What became of a `ToolCall`."""

    id: str
    ok: bool
    value: Any


@dataclass(frozen=True, slots=True)
class NoInput:
    """The caller has been silent for a long time, for the `count`-th time in a row."""

    count: int


CallEvent = (
    SpeechStarted
    | TurnEager
    | TurnWithdrawn
    | TurnCommitted
    | Digit
    | Heard
    | ToolResult
    | NoInput
)


# What the engine gives back -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Agent speech: int16 (n,) at the engine's rate, any n > 0, as fast as the engine likes."""

    item: int
    pcm: Pcm


@dataclass(frozen=True, slots=True)
class Text:
    """More of what an item says; comes before or with its audio."""

    item: int
    text: str


@dataclass(frozen=True, slots=True)
class ItemDone:
    """The item's audio is complete."""

    item: int


@dataclass(frozen=True, slots=True)
class ReplyDone:
    """The engine has said all that it has to say in answer."""


@dataclass(frozen=True, slots=True)
class CallerText:
    """What the caller said; `final` once for each turn, partials as often as the engine has any."""

    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The engine itself heard the caller barge in: drop what is not played yet."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The engine wants something done; it runs once all audio emitted before it was heard."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine can't go on with this call; `reason` is one line for the log."""

    reason: str


EngineEvent = Audio | Text | ItemDone | ReplyDone | CallerText | Interrupt | ToolCall | Failed


# The port -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the conversation so far, as heard."""

    role: Literal["caller", "agent", "dtmf", "event"]
    text: str


@dataclass(frozen=True, slots=True)
class Context:
    """What an engine gets for a call."""

    call_id: str
    agent: Agent
    caller_number: str
    emit: Callable[[EngineEvent], None]
    room: Callable[[], "asyncio.Future[None]"]
    """Awaitable: done when little enough audio waits to be played (bounded backpressure)."""
    tasks: asyncio.TaskGroup
    """The call's own: a task made here ends with the call, and its exception ends the call."""
    history: Sequence[Entry] = ()
    """Not empty on resume: then no greeting."""
    new_item: Callable[[], int] = lambda: 0
    """A fresh item id."""


class Engine(Protocol):
    """One call's mind."""

    rate: int
    """Sample rate of frames both ways, Hz: 8000, 16000, 24000 or 48000."""
    turns: Literal["bridge", "engine"]

    async def start(self, context: Context) -> None:
        """Get ready and begin (greet, unless `history` says that we did). Raises `EngineError`."""

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """Caller audio: int16 (n,), whole 20 ms frames, the first beginning at `at_ms`."""

    def notify(self, event: CallEvent) -> None:
        """Something happened on the line."""

    async def close(self) -> None:
        """Let go of everything; idempotent."""
