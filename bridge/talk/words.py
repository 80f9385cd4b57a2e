"""What the caller has said of late: where it is in his audio, and what it says.

Theory of operation. The turns tell when he began to speak and when his turn was over, the engine
tells what he said: first what it makes of it so far, which decides how long a silence ends his turn
(`bridge.dialog.completeness`), then what it was. Until then his speech *hasn't come to words*:
whoever takes the call up has to hear it once more. Times are ms of his audio.
"""

from __future__ import annotations

from bridge.agent import Agent
from bridge.dialog.completeness import Expected, end_silence_ms
from bridge.dialog.endpointing import Phase
from bridge.dialog.playout import Playout
from bridge.dialog.turns import Action, Turns
from bridge.engines.base import CallerText
from bridge.transcript import Transcript

LATE_MS = 10_000
"""Words that come so long after a turn are another's."""


class CallerWords:
    """One call's."""

    def __init__(
        self, agent: Agent, turns: Turns, transcript: Transcript, playout: Playout
    ) -> None:
        """Tell `turns` how complete they are, and write them into `transcript`.

        `playout` knows whether the agent is done with its question.
        """
        self._settings, self._language = agent.turns, agent.language
        self._turns, self._transcript, self._playout = turns, transcript, playout
        self.expected: Expected = ""
        """What the agent asks for."""
        self.answered_ms = -1
        """So far all that he said makes turns that are over; -1: none is."""
        self._turn = (0, 0)  # begin and end of the last one
        self._speech_ms = self._turn_ms = -1  # begin of what hasn't come to words: speech, a turn

    # Where it is ----------------------------------------------------------------------------------

    def onset(self, at_ms: int) -> None:
        """He begins to speak there."""
        self._speech_ms = at_ms

    def turn(self, start_ms: int, end_ms: int, now_ms: int) -> None:
        """His turn is over, and is to be answered."""
        self._turn, self._turn_ms, self.answered_ms = (start_ms, end_ms), start_ms, now_ms

    def settled(self) -> None:
        """Nobody waits for the words of his turn any more."""
        self._turn_ms = -1

    @property
    def passed(self) -> bool:
        """Whether his speech is over that hasn't come to words; `forget` does so."""
        return self._speech_ms >= 0 and self._turns.endpoint.phase is Phase.SILENT

    def forget(self) -> None:
        """Speech that is over was a turn, or nothing."""
        if self.passed:
            self._speech_ms = -1

    @property
    def since_ms(self) -> int:
        """Begin of what hasn't come to words; -1: everything has."""
        return self._turn_ms if self.unanswered else self._speech_ms

    @property
    def unanswered(self) -> bool:
        """Whether that is a whole turn."""
        return self._turn_ms >= 0

    # What it says ---------------------------------------------------------------------------------

    def so_far(self, said: CallerText) -> list[Action]:
        """What it makes so far decides how long a silence ends his turn."""
        silence_ms = end_silence_ms(
            self._settings, said.text, self.expected, said.understood, self._language
        )
        asked = self.expected == "yes-no" and self._playout.in_last_item
        return self._turns.words(
            said.text, said.until_ms, silence_ms, asked, said.understood, said.hum
        )

    def final(self, text: str, now_ms: int) -> None:
        """That is what he said."""
        self.settled()
        begin, end = (now_ms - at_ms for at_ms in self._turn)
        known = self._turn[1] and end < LATE_MS
        self._transcript.caller(text, *((begin, end) if known else (0, 0)))
