"""What follows from who speaks: carried out by the call, and told to the engine as it is.

`bridge.dialog.turns` gives them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller began to speak at `at_ms`. It may come to nothing (a cough, "uh-huh")."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class TurnPausing:
    """The caller has just stopped, perhaps only between two words: a hint to an engine to look at
    what he has said, so that the words are known when a decision is due.

    His speech lies between `start_ms` and `end_ms`; `turn` is 0 if it may come to nothing (spoken
    against the agent).
    """

    turn: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class TurnEager:
    """The caller may be done: start thinking, without effects in the world.

    The turn's speech lies between `start_ms` and `end_ms`.
    """

    turn: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class TurnWithdrawn:
    """The caller went on after all: forget what `TurnEager` or `TurnCommitted` of it started.

    Nothing of the answer has been played; the call drops what waits. The same turn is committed (or
    made eager) again, with a later end.
    """

    turn: int


@dataclass(frozen=True, slots=True)
class TurnCommitted:
    """The caller's turn is over: answer."""

    turn: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class AgentPaused:
    """The caller made himself heard: the agent stops in mid-word, and may go on (`AgentResumed`) or
    not (`BargeIn`). An engine need not do anything.
    """

    at_ms: int


@dataclass(frozen=True, slots=True)
class AgentResumed:
    """He didn't mean to interrupt: the agent goes on where it stopped."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class BargeIn:
    """The caller interrupts: the call drops what isn't played yet, the engine says no more of it.

    Decided at `at_ms`, for speech that began at `start_ms` (the same for a digit).
    """

    start_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class NoInput:
    """The caller has been silent for `no_input_ms`, for the `count`-th time in a row.

    `last`: he was asked `no_input_prompts` times; take leave of him.
    """

    count: int
    last: bool = False


Action = (
    SpeechStarted
    | TurnPausing
    | TurnEager
    | TurnWithdrawn
    | TurnCommitted
    | AgentPaused
    | AgentResumed
    | BargeIn
    | NoInput
)
