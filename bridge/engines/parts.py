"""The parts of a cascade, and what passes between them.

    caller audio ─▶ Stt ─ text ─▶ Brain or Model ─ steps ─▶ Tts ─ audio ─▶ caller

Parts are chosen by name in the agent file; what they share between calls (a model, a process) they
share by themselves. What answers has no state of its own, so that it may think about a turn that
the caller then takes back:

    Brain  rules: the same said again gives the same answer. What it has to remember of a call it
           gives back as `Remember`, which the cascade keeps once the turn is committed and hands in
           again at the next one.
    Model  a language model, which reads the conversation as it was heard. What a tool gave is a
           line of that, and it goes on then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from bridge.engines.base import Context, Entry, Expect, Marks, Pcm, Wants
from bridge.engines.hearing import Hearing
from bridge.engines.stt_queue import Rank


@dataclass(frozen=True, slots=True)
class Said:
    """What a brain is to answer.

    words    the caller's turn, transcribed in `text`
    digits   keys that the caller pressed, in `text`, without the terminator
    silence  the caller said nothing, for the `count`-th time in a row; `last`: take leave of him
    failed   the tool named `text` could not be carried out
    done     it was, and this is what it gave (`value`); only for a brain that waits for it
    declined the caller doesn't want to hear the rest of a long answer
    answered whom the tool `transfer` has rung hears this, and not the caller: `text` names him,
             `said` is what he said, if he did
    """

    kind: Literal["words", "digits", "silence", "failed", "answered", "declined", "done"]
    text: str = ""
    count: int = 0
    last: bool = False
    said: str = ""
    value: Any = None


@dataclass(frozen=True, slots=True)
class Say:
    """Speak this: one or more whole sentences."""

    text: str


@dataclass(frozen=True, slots=True)
class Do:
    """Call a tool, once all that was said before it has been heard."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    """Why it can't be called: a model is told so instead."""


@dataclass(frozen=True, slots=True)
class Remember:
    """The brain's memory from here on, if the turn stands."""

    memory: Any


@dataclass(frozen=True, slots=True)
class Began:
    """The answer's first piece has come; no sentence of it is whole yet."""


Step = Say | Do | Remember | Expect | Wants | Began


class Stt(Protocol):
    """Speech to text, a whole utterance at a time."""

    rate: int
    """Sample rate that it wants, Hz."""

    async def transcribe(self, pcm: Pcm) -> str:
        """The words of int16 (n,); "" if there are none. Raises `EngineError`."""

    async def glimpse(self, cut: Callable[[], Pcm | None], rank: Rank) -> str | None:
        """The words of somebody who may not be done, when their turn has come: see `SttQueue`."""


@runtime_checkable
class StreamingStt(Protocol):
    """Speech to text that hears a call as it goes on, and says itself what it makes of it."""

    rate: int
    """Sample rate that it wants, Hz."""

    async def listen(
        self,
        hearing: Hearing,
        tasks: asyncio.TaskGroup,
        told: Callable[[Any], None],
        clock: Callable[[], float],
    ) -> Any:
        """A call's `Listener` (`bridge.engines.listening`). Raises `EngineError`."""


class Brain(Protocol):
    """What to answer."""

    def think(self, said: Said, memory: Any, history: Sequence[Entry]) -> AsyncIterator[Step]:
        """The steps of an answer. `memory` is what it gave last, None at first.

        `history` ends before what was said now. Raises `EngineError`.
        """

    def fixed(self) -> Sequence[str]:
        """Texts that it is sure to say again and again, the most urgent first."""

    def understands(self, text: str, memory: Any) -> float | None:
        """How well it could answer just this, 0 to 1, at once; None if it can't say."""


@runtime_checkable
class Personal(Protocol):
    """A brain that says something else in each call."""

    facts: Mapping[str, str]
    """What it says unless the dialplan passes other values, by name."""

    def of(self, variables: Mapping[str, str]) -> Brain:
        """The one for a call for which these were passed."""

    def waits_for(self, tool: str, memory: Any) -> bool:
        """Whether it wants to be told what that tool gave."""


@runtime_checkable
class Model(Protocol):
    """What to answer, where a language model decides it."""

    def answer(self, context: Context, history: Sequence[Entry]) -> AsyncIterator[Step]:
        """The steps of an answer to the conversation's last line.

        `Remember` is not for models. Closed before its end, it gives up. Raises `EngineError`.
        """


class Tts(Protocol):
    """Text to speech, a sentence at a time."""

    rate: int
    """Sample rate of its audio, Hz."""

    def say(self, text: str, first: bool) -> AsyncIterator[Pcm]:
        """Audio of one sentence, int16 (n,) pieces. `first`: a caller waits in silence for it.

        Raises `EngineError`.
        """

    def words(self, text: str) -> Marks:
        """When the words of a sentence are over that `say` has begun to give; () if unknown."""

    async def prepare(self, texts: Sequence[str]) -> None:
        """Have these ready, so that `say` gives them at once; returns when the first one is."""
