"""Who has the floor at this moment, and how long nothing of that can change by itself.

This half of `bridge.dialog.turns` (whose theory of operation holds for both) only looks: what is
known of the call, what follows from it for whoever asks, and how many frames of audio nobody need
look at. Nothing here gives an action.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

from bridge.agent import TurnSettings
from bridge.dialog.endpointing import Endpointer, Phase
from bridge.dialog.interruption import Interruption

PAUSE_MS = 80
"""Silence that makes a pause: a plosive's closure is mostly shorter, a decision comes later."""

FOREVER_MS = 1 << 60


class State(Enum):
    """Who has the floor; see the table in `bridge.dialog.turns`."""

    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"


class Floor:
    """What is known of one call's floor."""

    def __init__(
        self,
        settings: TurnSettings,
        owner: Literal["bridge", "engine"] = "bridge",
        language: str = "en",
    ) -> None:
        """Start in LISTENING.

        Args:
            settings: the agent's.
            owner: who ends turns. With "engine" there is no TurnEager, -Withdrawn or -Committed.
            language: whose backchannels don't interrupt.
        """
        self.state = State.LISTENING
        self.turn = 0
        """Number of the caller's present or last turn; the first is 1."""
        self.guard_until_ms: int | None = None
        """Till when the greeting can't be interrupted; None: it hasn't begun."""
        self.settings = settings
        self.endpoint = Endpointer(
            settings.min_speech_ms,
            settings.end_silence_ms,
            settings.eager_silence_ms,
            min(PAUSE_MS, settings.eager_silence_ms) or PAUSE_MS,
        )
        self._bridge_owns = owner == "bridge"
        self._language = language
        self._now_ms = 0  # end of the last frame
        self._start_ms = 0  # of the present turn
        self._counts = False  # the present segment of speech is (part of) a turn
        self._eager = False  # TurnEager was given and neither withdrawn nor committed
        self._waiting = False  # agent audio waits or plays
        self._reply_open = False  # the engine has begun and not yet said ReplyDone
        self._audible = False  # some of the present reply has been queued for playout
        self._paused_ms = 0
        self._against = Interruption(settings)
        self._looked_again_ms, self._looks = -1, 0  # behind the speech that ended there, how often
        self._kept: tuple[int, int] | None = None  # a turn that waits until the agent is done
        self._heeded = False  # words were made out of a segment that may not interrupt
        self._doubt: tuple[int, int] | None = None  # speech after which the agent went on
        self._quiet_ms: int | None = None  # since when nothing has happened
        self._no_input = 0
        self._held = False
        self._speech = False  # of the last frame
        self._stirred = True  # there was other input since the last frame

    @property
    def now_ms(self) -> int:
        """End of the last frame that was told of, or passed over."""
        return self._now_ms

    @property
    def caller_speaks(self) -> bool:
        """Whether the caller is in a segment of speech."""
        return self.endpoint.phase is Phase.SPEECH

    @property
    def caller_was_heard(self) -> bool:
        """Whether he is silent, and what he said last was no mere noise against the agent."""
        return not (self.caller_speaks or self._agent_speaks)

    @property
    def armed(self) -> bool:
        """Whether media may pause the agent by itself when the caller makes himself heard."""
        return (
            self._interruptible and not self._held and self._now_ms >= self._against.rest_until_ms
        )

    def belong_to(self, owner: Literal["bridge", "engine"]) -> None:
        """From now on, this one ends turns."""
        self._stirred = True
        self._bridge_owns = owner == "bridge"

    # Whether he may interrupt ---------------------------------------------------------------------

    @property
    def _guarded(self) -> bool:
        return self.guard_until_ms is not None and self._now_ms <= self.guard_until_ms

    @property
    def _unheeds_always(self) -> bool:
        return self.settings.barge_in != "auto"

    @property
    def _unheeding(self) -> bool:
        """Whether speech may not interrupt the agent, were it speaking."""
        return self._unheeds_always or self._guarded

    @property
    def _agent_speaks(self) -> bool:
        """Whether the agent is saying something, or would be if it weren't paused."""
        says = self.state in (State.SPEAKING, State.PAUSED)
        return says or (self.state is State.THINKING and self._audible)

    @property
    def _interruptible(self) -> bool:
        """Whether the agent is saying something in which the caller may interrupt it by speech."""
        return self._agent_speaks and self.state is not State.PAUSED and not self._unheeding

    # How long that lasts --------------------------------------------------------------------------

    def rests_until(self, near: bool | None) -> int:
        """Frames like the last one (whose `near` it was) change nothing as far as there (ms of
        audio): nobody need tell of them, if `pass_over` makes up for it before any other input.

        0: the next one may change something.
        """
        if self._held:
            return 0 if self._stirred else FOREVER_MS
        against = self._against
        if self._stirred or self.state is State.PAUSED or (near and not against.certain):
            return 0
        if self._speech:
            background = near is False and self._agent_speaks
            if background or self._interruptible or not (self.endpoint.steady and against.began):
                return 0
        elif self.endpoint.phase is Phase.MAYBE:
            return 0
        edge_ms = FOREVER_MS
        if self.endpoint.phase is Phase.SPEECH and not self._speech:
            edge_ms = self.endpoint.edge_ms - 1
        if self._agent_speaks:
            if self.guard_until_ms is None:
                return 0
            turning_ms = (self.guard_until_ms, against.rest_until_ms - 1)
            return min(edge_ms, *(ms for ms in turning_ms if ms >= self._now_ms), FOREVER_MS)
        if self._speech or self.state is not State.LISTENING or edge_ms < FOREVER_MS:
            return edge_ms
        if self._kept or self._quiet_ms is None:
            return 0
        return self._quiet_ms + self.settings.no_input_ms - 1

    def indifferent_until(self) -> int:
        """Frames of whatever kind bring about nothing that anybody waits for as far as there (ms of
        audio): it is enough to tell of them, one by one, before any other input. 0: of the next one
        somebody may.

        While the caller speaks to an engine that ends turns itself, and can't interrupt it, what
        comes next that matters is that he begins again, and before that he has to end.
        """
        if self._bridge_owns or self._held or self._stirred or self._interruptible:
            return 0
        if self.state is State.PAUSED or self.endpoint.phase is not Phase.SPEECH:
            return 0
        edge_ms = self.endpoint.least_end_ms - 1
        if self._agent_speaks and not self._unheeds_always:
            if self.guard_until_ms is None:
                return 0
            edge_ms = min(edge_ms, self.guard_until_ms)
        return edge_ms

    def pass_over(self, until_ms: int) -> None:
        """All frames up to there were like the last; not beyond `rests_until`."""
        passed_ms = until_ms - self._now_ms
        if passed_ms <= 0:
            return
        self._now_ms = until_ms
        if self._speech and not self._held:
            self.endpoint.speech_goes_on(until_ms, passed_ms)
            self._against.speech_goes_on(until_ms, passed_ms)
