"""Who has the floor: turns of the caller, speech of the agent, and barge-in.

Theory of operation. One `Turns` a call is fed with everything that bears on who speaks: a decision
a frame of the caller's audio, and what became of the agent's audio. Each input returns the actions
that follow from it, in order; the call carries them out and passes every one of them on to the
engine.

    LISTENING    the floor is the caller's, whether he speaks or not
    THINKING     a turn is committed (or a reply begun), and no agent audio waits or plays
    SPEAKING     agent audio waits or plays
    INTERRUPTED  the caller cut the agent short, and his turn isn't over

    input            LISTENING       THINKING              SPEAKING              INTERRUPTED
    ---------------  --------------  --------------------  --------------------  ---------------
    caller begins    SpeechStarted   SpeechStarted, and    SpeechStarted         (is speaking)
                                     a) TurnWithdrawn
                                        > LISTENING
                                     b) BargeIn
                                        > INTERRUPTED
    ... has spoken   -               -                     BargeIn               -
    long enough                                            > INTERRUPTED
    eager silence    TurnEager       -                     -                     TurnEager
    ... speaks on    TurnWithdrawn   -                     -                     TurnWithdrawn
    final silence    TurnCommitted   -                     forgotten             TurnCommitted
                     > THINKING                                                  > THINKING
    agent audio      > SPEAKING      > SPEAKING            -                     > SPEAKING
    agent finished   -               -                     > LISTENING if the    -
                                                           reply is done,
                                                           else > THINKING
    reply done       -               > LISTENING           noted                 noted
    digit            -               -                     BargeIn > LISTENING   -
    silence, long    NoInput         -                     -                     -

a) Nothing of the answer has been played: the caller merely paused, and what he says now joins the
   same turn, which is withdrawn (although it was committed) and committed again under its own
   number.
b) Some of it has: that is an interruption, in a gap of the agent's speech.

"The caller begins" after `min_speech_ms` of speech; "long enough" is
`min_speech_while_speaking_ms` spoken against the agent. Speech against the agent that ends before
that is forgotten; if it is the agent that ends first, the caller has a turn like any other. With
`barge_in` other than "auto" a caller never interrupts by speaking; an engine may (`interrupted`).

What a reversible barge-in needs has its place here: pause where SPEAKING says SpeechStarted, resume
where it says "forgotten", drop at BargeIn.

Time is milliseconds of the caller's audio, which flows always (silence included), so that no clock
is needed and a test never sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from bridge.agent import TurnSettings
from bridge.dialog.endpointing import FRAME_MS, Edge, Endpointer, Phase


class State(Enum):
    """Who has the floor; see the table above."""

    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"
    INTERRUPTED = "interrupted"


# Actions: carried out by the call, and told to the engine as they are -----------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller began to speak at `at_ms`. It may come to nothing (a cough, "uh-huh")."""

    at_ms: int


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
class BargeIn:
    """The caller interrupts: the call drops what isn't played yet, the engine says no more of it.

    Decided at `at_ms`, for speech that began at `start_ms` (the same for a digit).
    """

    start_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class NoInput:
    """The caller has been silent for `no_input_ms`, for the `count`-th time in a row."""

    count: int


Action = SpeechStarted | TurnEager | TurnWithdrawn | TurnCommitted | BargeIn | NoInput


class Turns:
    """One call's floor."""

    def __init__(
        self, settings: TurnSettings, owner: Literal["bridge", "engine"] = "bridge"
    ) -> None:
        """Start in LISTENING.

        Args:
            settings: the agent's.
            owner: who ends turns. With "engine" there is no TurnEager, -Withdrawn or -Committed.
        """
        self.state = State.LISTENING
        self.turn = 0
        """Number of the caller's present or last turn; the first is 1."""
        self.settings = settings
        self.endpoint = Endpointer(
            settings.min_speech_ms, settings.end_silence_ms, settings.eager_silence_ms
        )
        self._bridge_owns = owner == "bridge"
        self._start_ms = 0  # of the present turn
        self._counts = False  # the present segment of speech is (part of) a turn
        self._eager = False  # TurnEager was given and neither withdrawn nor committed
        self._reply_open = False  # the engine has begun and not yet said ReplyDone
        self._audible = False  # some of the present reply has been queued for playout
        self._against_ms = 0  # the segment's speech before the agent began
        self._quiet_ms: int | None = None  # since when nothing has happened
        self._no_input = 0
        self._held = False

    @property
    def caller_speaks(self) -> bool:
        """Whether the caller is in a segment of speech."""
        return self.endpoint.phase is Phase.SPEECH

    def belong_to(self, owner: Literal["bridge", "engine"]) -> None:
        """From now on, this one ends turns."""
        self._bridge_owns = owner == "bridge"

    # Inputs ---------------------------------------------------------------------------------------

    def frame(self, at_ms: int, speech: bool) -> list[Action]:
        """Take the decision on the caller's frame that begins at `at_ms`."""
        if self._held:
            self._quiet_ms = None
            return []
        if self._quiet_ms is None:
            self._quiet_ms = at_ms
        edge = self.endpoint.frame(at_ms, speech)
        if edge is Edge.ONSET:
            return self._onset(at_ms)
        if edge is Edge.END:
            return self._end(at_ms)
        if edge is Edge.EAGER:
            return self._eager_end()
        if edge is Edge.RESUMED:
            return self._withdraw()
        if speech and self.state is State.SPEAKING:
            return self._against(at_ms)
        return self._silence(at_ms)

    def agent_started(self) -> None:
        """Agent audio was queued for playout, where none waited or played."""
        self.state = State.SPEAKING
        self._reply_open = self._audible = True
        self._against_ms = self.endpoint.voiced_ms

    def agent_finished(self, at_ms: int) -> None:
        """All agent audio that was queued has been played."""
        self._quiet_ms = at_ms
        if self.state is not State.SPEAKING:
            return
        self.state = State.THINKING if self._reply_open else State.LISTENING
        if self.caller_speaks and not self._counts:
            self._begin_turn()
            self.state = State.LISTENING

    def reply_done(self, at_ms: int) -> None:
        """The engine has said all that it has to say."""
        self._reply_open = False
        if self.state is State.THINKING:
            self.state = State.LISTENING
            self._quiet_ms = at_ms

    def interrupted(self) -> None:
        """The engine itself heard an interruption; the call drops what isn't played yet."""
        if self.state in (State.SPEAKING, State.THINKING):
            self._take_floor()

    def digit(self, at_ms: int) -> list[Action]:
        """The caller pressed a key; told before the engine gets the digit itself."""
        self._quiet_ms = at_ms
        self._no_input = 0
        if self.state is not State.SPEAKING or self.settings.barge_in == "off":
            return []
        self._take_floor()
        return [BargeIn(at_ms, at_ms)]

    def hold(self, on: bool) -> list[Action]:
        """The caller's phone holds the call, or takes it back: nothing counts meanwhile."""
        self._held = on
        self._quiet_ms = None
        self.endpoint.reset()
        if self.state is State.INTERRUPTED:
            self.state = State.LISTENING
        return self._withdraw()

    # What the edges of speech mean ----------------------------------------------------------------

    def _onset(self, at_ms: int) -> list[Action]:
        start_ms = self.endpoint.start_ms
        actions: list[Action] = [SpeechStarted(start_ms)]
        self._counts = False
        if self.state is State.SPEAKING:
            self._against_ms = 0
            return actions + self._against(at_ms)
        if self.state is State.THINKING and self._audible and self.settings.barge_in == "auto":
            self._take_floor()
            return [*actions, BargeIn(start_ms, at_ms + FRAME_MS)]
        if self.state is State.THINKING and not self._audible and self._bridge_owns:
            # Joins the turn that was committed: same number, same start.
            self.state = State.LISTENING
            self._counts = True
            self._reply_open = False
            return [*actions, TurnWithdrawn(self.turn)]
        self._begin_turn()
        return actions

    def _against(self, at_ms: int) -> list[Action]:
        enough = self.endpoint.voiced_ms - self._against_ms
        if (
            not self.caller_speaks
            or self.settings.barge_in != "auto"
            or enough < self.settings.min_speech_while_speaking_ms
        ):
            return []
        self._take_floor()
        return [BargeIn(self.endpoint.start_ms, at_ms + FRAME_MS)]

    def _eager_end(self) -> list[Action]:
        if not (self._counts and self._bridge_owns) or self.state is State.SPEAKING:
            return []
        self._eager = True
        return [TurnEager(self.turn, self._start_ms, self.endpoint.end_ms)]

    def _end(self, at_ms: int) -> list[Action]:
        self._quiet_ms = at_ms
        counted, self._counts = self._counts, False
        if not counted:
            return []
        if self.state is State.SPEAKING:
            # The agent began while the caller was speaking, and he stopped soon after.
            return self._withdraw()
        self._no_input = 0
        if not self._bridge_owns:
            self.state = State.LISTENING
            return []
        self.state = State.THINKING
        self._eager = self._audible = False
        self._reply_open = True
        return [TurnCommitted(self.turn, self._start_ms, self.endpoint.end_ms)]

    def _withdraw(self) -> list[Action]:
        if not self._eager:
            return []
        self._eager = False
        return [TurnWithdrawn(self.turn)]

    def _begin_turn(self) -> None:
        self._counts = True
        self._start_ms = self.endpoint.start_ms
        self.turn += 1

    def _take_floor(self) -> None:
        self._reply_open = False
        if self.caller_speaks:
            self.state = State.INTERRUPTED
            if not self._counts:
                self._begin_turn()
        else:
            self.state = State.LISTENING

    def _silence(self, at_ms: int) -> list[Action]:
        if self.state is not State.LISTENING or self.endpoint.phase is not Phase.SILENT:
            return []
        assert self._quiet_ms is not None
        if at_ms + FRAME_MS - self._quiet_ms < self.settings.no_input_ms:
            return []
        self._quiet_ms = at_ms + FRAME_MS
        self._no_input += 1
        return [NoInput(self._no_input)]
