"""The port to an engine: one `Engine` a call, fed with audio and events, answering by `emit`.

The call tells its engine everything that happens on the line (`hear`, `notify`), and the engine
tells the call everything that it wants to happen (`emit`). Both are plain synchronous calls on the
event loop, because a thousand frames a second pass here; what takes time an engine does in tasks of
its own task group (`Context.tasks`), which end with the call.

Who decides when a turn is over is `Engine.turns`: `bridge` (the dialog layer sends `TurnCommitted`)
or `engine` (a speech-to-speech service does its own endpointing and emits `Interrupt`).

A turn: `SpeechStarted` → (`TurnPausing`* → `TurnEager` → maybe `TurnWithdrawn`)* →
`TurnCommitted` → the engine emits `CallerText`, then `Text` and `Audio` of one or more items, each
closed by `ItemDone`, then `ReplyDone` (always, also when there is nothing to say: until then the
agent counts as thinking). A committed turn may still be withdrawn, as long as nothing of its answer
was played; it is committed again then.

`BargeIn`: stop, say no `ReplyDone` for it, and use new items from here on; what was given for
older ones is dropped, and a `Heard` with `cut` follows for each that wasn't over. `Heard` of the
others comes as each one ends.

A tool call runs when the audio emitted before it has been heard; a barge-in before that cancels
it, and the engine is told so by `ToolResult(ok=False, value="interrupted")`. Nothing that has an
effect in the world may happen before `TurnCommitted`.

A worker makes one `Provider` for each agent that it serves, which holds what its calls share.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bridge.agent import Agent
from bridge.dialog.completeness import Expected as Expected
from bridge.dialog.flow import Flow
from bridge.dialog.playout import Heard as Heard
from bridge.dialog.turns import AgentPaused as AgentPaused
from bridge.dialog.turns import AgentResumed as AgentResumed
from bridge.dialog.turns import BargeIn as BargeIn
from bridge.dialog.turns import NoInput as NoInput
from bridge.dialog.turns import SpeechStarted as SpeechStarted
from bridge.dialog.turns import TurnCommitted as TurnCommitted
from bridge.dialog.turns import TurnEager as TurnEager
from bridge.dialog.turns import TurnPausing as TurnPausing
from bridge.dialog.turns import TurnWithdrawn as TurnWithdrawn

Pcm = NDArray[np.int16]
HearMany = Callable[[Sequence[Any], Sequence[int], Pcm], Sequence[int]]
"""Engines (k), the time of each one's frames, ms, and the frames, (k, n): what `hear` would do, as
long as that is no more than passing them on. Returns the places of those that were not passed on;
their `hear` is called."""
Marks = tuple[tuple[int, int], ...]
"""(characters, ms), rising: a text up to there is over after so much of its audio."""


# What the engine is told -------------------------------------------------------------------------
# Beside these: what the dialog layer decides (`SpeechStarted`, ...) and finds out (`Heard`).


@dataclass(frozen=True, slots=True)
class Digit:
    """The caller pressed a key."""

    digit: str


@dataclass(frozen=True, slots=True)
class Marked:
    """All audio before a `Mark` was played; or, not `heard`, some of it was dropped."""

    name: str
    heard: bool


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What became of a `ToolCall`."""

    id: str
    ok: bool
    value: Any


TALK_NOTE = "on the line"
"""The note (`Context.notes`) that is there while the agent talks to whom it has rung, and not
to the caller."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that the engine did not ask for, and has to speak about: one line for a model."""

    text: str


@dataclass(frozen=True, slots=True)
class Speak:
    """Somebody who looks after the call wants just this said now; what was being said is dropped.
    Only told to an engine that `speaks`."""

    text: str


CallEvent = (
    Speak
    | SpeechStarted
    | TurnPausing
    | TurnEager
    | TurnWithdrawn
    | TurnCommitted
    | AgentPaused
    | AgentResumed
    | BargeIn
    | Digit
    | Heard
    | Marked
    | ToolResult
    | NoInput
    | Told
)


# What the engine gives back -----------------------------------------------------------------------


@dataclass(slots=True, eq=False)  # not frozen, which triples what making one costs
class Audio:
    """Agent speech: int16 (n,) at the engine's rate, any n > 0, as fast as the engine likes."""

    item: int
    pcm: Pcm
    silence: bool = False
    """A pause that belongs to no text: played, but never counted as heard."""


@dataclass(frozen=True, slots=True, eq=False)
class Filler:
    """A clip that the call may play while it waits for this engine; best given in `start`."""

    pcm: Pcm
    tool: str = ""
    """While this tool runs; "": whatever is waited for."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Tell me (`Marked`) when all audio emitted before this was played."""

    name: str


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
    """What the caller said: partials as often as the engine has any, then `final`.

    A turn that was withdrawn after its final text and committed again has another final text,
    which replaces the first: `turn` tells. It is 0 where the engine ends turns itself. An empty
    final text means that nothing was said (a noise).
    """

    text: str
    final: bool
    turn: int = 0
    until_ms: int = 0
    """Of a partial: up to where in the caller's audio it holds what was said."""
    understood: float | None = None
    """How well the engine could answer just this, 0 to 1; None: it doesn't say."""
    hum: bool = False
    """Of a partial: it sounds like "uh-huh", whatever words were made of it."""


@dataclass(frozen=True, slots=True)
class Expect:
    """What the reply under way asks the caller for; holds until he has answered."""

    kind: Expected


@dataclass(frozen=True, slots=True)
class Words:
    """When each word of an item is over, in its audio; comes before that audio."""

    item: int
    marks: Marks


@dataclass(frozen=True, slots=True)
class Timing:
    """How the answer to a committed turn came about: seconds of the monotonic clock; None: not
    (yet), or unknown. Comes once its turn is committed, and again when more is known."""

    turn: int
    heard: float | None = None
    """Transcription began."""
    transcript: float | None = None
    first_token: float | None = None
    first_audio: float | None = None


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
    """The engine can't go on with this call; `reason` is one line for the log, `kind` one of
    `bridge.engines.faults`."""

    reason: str
    kind: str = "failed"


@dataclass(frozen=True, slots=True)
class State:
    """What the engine wants back as `Resume.state`, by any process: session ids, handles.

    Small, and made of what JSON knows. It replaces what was given before.
    """

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wants:
    """What the caller wants, in the operator's word for it: the dialplan is told."""

    name: str


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the transcript, of what happened to the engine."""

    text: str
    restarted: bool = False
    """Another engine goes on with the reply, and calls its tools again."""


EngineEvent = (
    Audio
    | Filler
    | Mark
    | Text
    | Words
    | ItemDone
    | ReplyDone
    | Expect
    | CallerText
    | Timing
    | Interrupt
    | ToolCall
    | Failed
    | State
    | Wants
    | Note
)


# The port -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the conversation so far, as heard."""

    role: Literal["caller", "agent", "dtmf", "event"]
    text: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a conversation stands that another process, or another engine, has begun."""

    given: tuple[str, ...] = ()
    """Of the reply under way: the text of each item that was begun, the last one's as far as its
    audio goes."""
    replying: bool = False
    """That reply isn't complete: say the rest. Without a reply under way: answer the caller's last
    line, if the history ends with it."""
    rest: str = ""
    """What is missing of the last item given."""
    digits: str = ""
    """Keys that the caller has pressed since the agent last spoke."""
    owed: bool = True
    """False: nothing is to be said now, whatever the history ends with."""
    tools: tuple[tuple[ToolCall, ToolResult | None], ...] = ()
    """Tools that were called since the caller last spoke, with their results; None: that will be
    told. One whose call comes again (same name and arguments) isn't run twice."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """What the engine gave last as `State`."""


def filled(text: str, values: Mapping[str, str]) -> str:
    """An operator's text with the value of each `{name}` that there is one for."""
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), text)


@dataclass(frozen=True, slots=True)
class Context:
    """What an engine gets for a call."""

    call_id: str
    agent: Agent
    caller_number: str
    rate: int
    """Sample rate of this call's frames, Hz."""
    emit: Callable[[EngineEvent], None]
    new_item: Callable[[], int]
    """A fresh item id, higher than all before."""
    room: Callable[[], Awaitable[None]]
    """Returns when little enough audio waits to be played (bounded backpressure)."""
    tasks: asyncio.TaskGroup
    """The call's own: a task made here ends with the call, and its exception ends the call."""
    flow: Flow = field(default_factory=Flow)
    """What `emit` does with `Audio`, for many calls at once, while it is open: for more of the item
    that audio was given of last, if nothing else has happened since."""
    now_ms: Callable[[], int] = lambda: 0
    """Up to where the caller's audio was passed on by `hear_many`."""
    turns_by: Callable[[Literal["bridge", "engine"]], None] = lambda owner: None
    """Tell the call that turns are decided otherwise than `Engine.turns` said at first."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What the dialplan passed for this call: `Stasis(ari-bridge,AGENT,name=value,...)`."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What the agent has noted of this call with the tool `remember`; grows while it goes on."""
    history: Sequence[Entry] = ()
    """What was said and heard, on resume."""
    resume: Resume | None = None
    """Not None on resume: then no greeting from the start."""
    rejoin: str = ""
    """The caller is back after a conversation that was cut off, which is the `history`: greet him
    with this, and go on with that conversation if he wants to."""

    @property
    def greeting(self) -> str:
        """The agent's, for this call; "": it doesn't greet."""
        return filled(self.agent.greeting, self.variables)


class Engine(Protocol):
    """One call's mind.

    It may have, beside what stands here,

        autonomous       True: nobody knows what it owes. It greets if it likes, is silent as long
                         as it likes, and is not told of `NoInput`. Else (False) an engine that has
                         something to say and doesn't is taken for lost.
        speaks           True: it says what it is told to (`Speak`); else nobody tells it.
        uplink_chunk_ms  how much of the caller's audio each `hear` brings, 20 to 200 ms, where its
                         vendor prefers more than a frame (20).
        told_of_speech   False: it has no use for `SpeechStarted` (else True).
        hear_many        what `hear` does, for many calls at once (`HearMany`); of an engine that
                         also is `autonomous`.
    """

    rate: int
    """Sample rate of frames both ways, Hz: 8000, 16000, 24000 or 48000; 0: the line's own, which
    `Context.rate` tells."""
    turns: Literal["bridge", "engine"]

    async def start(self, context: Context) -> None:
        """Get ready and begin (greet, unless `history` says that we did). Raises `EngineError`."""

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """Caller audio: int16 (n,), whole 20 ms frames, the first beginning at `at_ms`."""

    def notify(self, event: CallEvent) -> None:
        """Something happened on the line. The audio that it speaks of was told by `hear` before."""

    async def close(self) -> None:
        """Let go of everything; idempotent."""


# What calls share ---------------------------------------------------------------------------------


class Provider(Protocol):
    """Makes the engines of one agent, and holds what they share. One a worker and agent."""

    async def prepare(self) -> None:
        """Load and check everything, so that a call begins at once. Raises `EngineError`."""

    def create(self) -> Engine:
        """An engine for one call."""

    async def close(self) -> None:
        """Let go of everything, when no call is left; idempotent."""


T = TypeVar("T")


class Shared:
    """What the providers of one worker share: a model in memory, a helper process.

    Whoever needs such a part asks for it by a key; the first one makes it, `close` ends all.
    """

    def __init__(self) -> None:
        self._parts: dict[Hashable, Any] = {}
        self._exit = contextlib.AsyncExitStack()
        self._locks: dict[Hashable, asyncio.Lock] = {}

    async def get(
        self, key: Hashable, make: Callable[[], contextlib.AbstractAsyncContextManager[T]]
    ) -> T:
        """The part of that key; `make` gives a context manager that makes and ends it."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self._parts:
                self._parts[key] = await self._exit.enter_async_context(make())
            part: T = self._parts[key]
            return part

    async def close(self) -> None:
        """End every part, the last made first."""
        self._parts.clear()
        await self._exit.aclose()


Entrance = Callable[[Agent, Shared], Provider]
"""What a name in the registry (or an entry point `ari_bridge.engines`) stands for."""


class PerCall:
    """A provider of engines that share nothing."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make

    async def prepare(self) -> None:
        """Nothing to do."""

    def create(self) -> Engine:
        """An engine for one call."""
        return self._make()

    async def close(self) -> None:
        """Nothing to do."""
