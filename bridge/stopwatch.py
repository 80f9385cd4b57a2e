"""Stamps a call's turns and interruptions, for its record and the log; see `dialog.latency`."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import fields

from bridge.dialog.latency import AudioClock, TurnLatency
from bridge.dialog.turns import (
    Action,
    AgentPaused,
    AgentResumed,
    BargeIn,
    SpeechStarted,
    TurnCommitted,
    TurnEager,
    TurnWithdrawn,
)
from bridge.engines.base import Timing

log = logging.getLogger(__name__)

KEPT = 100
"""Turns whose figures a record holds."""


class Stopwatch:
    """One call's."""

    def __init__(
        self,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        count: Callable[[TurnLatency], None] = lambda one: None,
    ) -> None:
        """`write` takes all turns so far, as JSON, whenever one more is known; `count` that one."""
        self._write, self._clock, self._count = write, clock, count
        self._audio = AudioClock()
        self._done: deque[dict[str, object]] = deque(maxlen=KEPT)
        self._turn: TurnLatency | None = None  # until its answer's first packet
        self._against: TurnLatency | None = None  # the agent is paused, or was just cut
        self._onset_ms = 0

    def take_up(self, written: str) -> None:
        """Go on with what another process wrote of the call's turns."""
        self._done.extend(json.loads(written or "[]"))

    @property
    def rows(self) -> list[dict[str, object]]:
        """All turns so far, as they are written."""
        return list(self._done)

    def arrived(self, end_ms: int) -> None:
        """The caller's audio up to there has come."""
        self._audio.arrived(end_ms, self._clock())

    def acted(self, action: Action, turn: int) -> None:
        """The dialog layer has decided something, in the caller's turn of that number."""
        now = self._clock()
        match action:
            case SpeechStarted(at_ms):
                self._onset_ms = at_ms
                if self._against is not None and self._against.dropped is None:
                    self._against.onset = self._audio.at(at_ms)
            case AgentPaused(at_ms):
                self._end(self._against)
                self._against = TurnLatency(0, paused=now, onset=self._audio.at(at_ms))
            case AgentResumed() if self._against is not None:
                self._against.resumed = now
                self._end(self._against)
                self._against = None
            case BargeIn(start_ms):
                self._against = self._against or TurnLatency(0, paused=now)
                self._against.turn, self._against.dropped = turn, now
                self._against.onset = self._audio.at(start_ms)
            case TurnEager(number, _, end_ms):
                self._of(number, end_ms).eager = now
            case TurnCommitted(number, _, end_ms):
                self._of(number, end_ms).decided = now
            case TurnWithdrawn() if (
                self._turn is not None
            ):  # an interruption it may be all the same
                self._turn.eager = self._turn.decided = None

    def timed(self, timing: Timing) -> None:
        """How the engine got on with a turn."""
        if self._turn is not None and self._turn.turn == timing.turn:
            for name in (f.name for f in fields(timing)):
                if name != "turn" and (at := getattr(timing, name)) is not None:
                    setattr(self._turn, name, at)

    def sent(self, ms: float) -> None:
        """So much of an item of the agent's has gone out, 20 ms at a time."""
        turn = self._turn
        if turn is not None and turn.decided is not None and turn.first_packet is None:
            turn.first_packet = self._clock() - max(0.0, ms - 20) / 1000
            self._end(turn)
            self._turn = None

    def close(self) -> None:
        """The call is over."""
        for open_one in (self._against, self._turn):
            self._end(open_one)
        self._against = self._turn = None
        self._audio = AudioClock()  # of the last seconds, half of what a call leaves as garbage

    def _of(self, number: int, end_ms: int) -> TurnLatency:
        if self._turn is None or self._turn.turn != number:
            self._end(self._turn)
            cut, self._against = self._against, None
            mine = cut is not None and cut.turn == number
            if not mine:
                self._end(cut)
            self._turn = cut if cut is not None and mine else TurnLatency(number)
        self._turn.last_voice = self._audio.at(end_ms)
        self._turn.received = self._audio.came(end_ms)
        return self._turn

    def _end(self, one: TurnLatency | None) -> None:
        if one is None:
            return
        if line := one.line():
            log.info("%s", line)
        self._count(one)
        # For who reads it elsewhere: seconds from this clock's zero to the epoch's.
        since = round(time.time() - time.monotonic(), 3)
        self._done.append({**one.record(), "clock_s": since})
        self._write(json.dumps(list(self._done), separators=(",", ":")))
