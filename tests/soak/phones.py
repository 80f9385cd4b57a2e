"""The callers at work: they send and listen every 5 ms, and each call that ends is judged.

Whom a caller called says what he does: who called the echo speaks a recording, everybody from
another place of it, and has to hear that very speech at the end of his call; who called the agent
is silent, and has to hear its greeting. Whom no agent had room for has to hear the human that the
dialplan falls back to.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from tests.bench.corpus import load_audio
from tests.bench.generator import STRIDE
from tests.lab.capture import PCMU, TABLES, Pcm
from tests.soak.judge import FRAMES, Heard, Judge, alike, in_pieces, is_human
from tests.soak.placer import Event, Placer
from tests.soak.wire import FRAME, Wire
from tests.soak.witness import Late, Witness

_STEP_S, _PHASES = 0.005, 4
_SILENCE = np.full(FRAME, 0xFF, np.uint8)
ALIKE = 0.8
"""From here on two sounds are the same."""
_ECHO_S, _LATEST_ECHO_S = 3, 1
_GREETING_FRAMES = (10, 110)
"""Of what a caller heard: his first packets may be the last silence before the greeting."""
_BEFORE = np.zeros(FRAMES * FRAME // 2, np.int16)
_NEVER_UP_S = 15.0
_TOLD_NS = 500_000_000
"""So long after a gap, whoever may tell who was late has told."""
_LINGER_S = 10.0
"""A call that should have ended so long ago was lost: its caller never came to hang up."""


@dataclass
class Call:
    """One call, and what came of it."""

    caller: int
    echo: bool
    began: Event
    hold_s: float
    setup_ms: float | None = None
    up_ns: int = 0
    port: int = 0
    sent: int = 0
    ended_ns: int = 0
    lost: bool = False
    """It ended before its caller wanted."""
    heard: Heard = field(default_factory=Heard)
    said: Pcm = field(default_factory=lambda: np.zeros(0, np.int16))
    """What had to come back, where something else was heard."""
    alike: float | None = None
    """How well what was heard is what had to be heard; None: too short to tell."""
    shed: bool = False
    """He talked to the human whom the dialplan falls back to."""

    @property
    def wrong(self) -> bool:
        """He heard something else."""
        return not self.shed and self.alike is not None and self.alike < ALIKE

    @property
    def first_audio_ms(self) -> float | None:
        """From the answer to the first packet."""
        first = self.heard.first_ns
        return None if not first else (first - self.up_ns) / 1e6

    @property
    def unheard(self) -> bool:
        """A second and more without a packet."""
        return not self.heard.packets and self.ended_ns - self.up_ns > 1e9


class Phones:
    """A context manager.

    Args:
        callers: how many there may be, in turn.
        at_once: how many at a time at most.
        echoes: whether a caller has called the echo (else: an agent that greets).
        greetings: what agents' greetings sound like: a call that hears one of them is right.
        audio: PCMU, whole frames: what is spoken, in a loop.
        witness: tells who was late when a packet gap is found.
    """

    def __init__(
        self,
        callers: int,
        at_once: int,
        echoes: Callable[[int], bool],
        greetings: Sequence[Pcm] = (),
        audio: npt.NDArray[np.uint8] | None = None,
        witness: Witness | None = None,
    ) -> None:
        self._witness = witness
        self.late: dict[tuple[int, float], Late] = {}
        """Who was, by gap."""
        self._judge = Judge(callers, at_once)
        self._echoes = echoes
        # A caller may hear silence for a moment before what others heard at once.
        self.greetings = [np.concatenate([_BEFORE, one]) for one in greetings]
        self._audio = (load_audio() if audio is None else audio).reshape(-1, FRAME)
        self._sound = TABLES[PCMU][self._audio].reshape(-1)
        self.placers: list[Placer] = []
        self.trying: dict[int, Call] = {}
        self.up: dict[int, Call] = {}
        self._leaving: deque[Call] = deque()
        self.calls: list[Call] = []
        """Those that are over, in the order of their ends."""
        self._next = time.monotonic()
        self._step = 0
        self.held_up_ms = 0.0
        """The longest that nobody sent, by our own fault or the machine's."""

    def __enter__(self) -> Self:
        self._wire = Wire().__enter__()
        self.port = self._wire.port
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wire.__exit__(kind, error, trace)

    def dropped(self) -> int:
        """See `Wire.dropped`."""
        return self._wire.dropped()

    def gaps(self) -> int:
        """How many gaps there have been in the calls that are under way."""
        return self._judge.gaps()

    def pump(self, seconds: float) -> None:
        """Do all that is due for so long."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            if now - self._next > 0.1:
                self.held_up_ms = max(self.held_up_ms, (now - self._next) * 1000)
                self._next = now
            self._listen()
            if self._witness is not None:
                self._testify(self._witness)
            for placer in self.placers:
                for event in placer.events():
                    self._heed(event, placer)
            while self._next <= now:
                self._speak()
                self._next += _STEP_S
            if self._leaving:
                self._examine(self._leaving.popleft())
            time.sleep(max(0.0, self._next - time.monotonic()))

    def _testify(self, witness: Witness) -> None:
        now = time.time_ns()
        witness.look(now)
        while self._judge.news and self._judge.news[0][0] < now - _TOLD_NS:
            at_ns, ms = self._judge.news.popleft()
            self.late[at_ns, ms] = witness.blame(at_ns - int(ms * 1e6), at_ns)

    def finish(self, timeout_s: float) -> None:
        """Until all calls are over; who is still there then was lost."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until and not all(placer.done for placer in self.placers):
            self.pump(0.1)
        self.pump(2 * _TOLD_NS / 1e9)
        for call in [*self.up.values()]:
            call.lost = True
            self._leave(call, time.time_ns())
        self._fail(0.0)
        while self._leaving:
            self._examine(self._leaving.popleft())

    # Calls ----------------------------------------------------------------------------------------

    def _heed(self, event: Event, placer: Placer) -> None:
        caller = event.caller
        if event.step == "try":
            self.trying[caller] = Call(caller, self._echoes(caller), event, placer.longest_s)
        elif event.step == "up":
            call = self.trying.pop(caller)
            call.up_ns, call.port = event.at_ns, event.port
            call.setup_ms = event.at_ms - call.began.at_ms
            self._judge.begin(caller, keep_last=call.echo)
            self.up[caller] = call
        elif event.step == "bye":
            self._leave(self.up[caller], event.at_ns)

    def _leave(self, call: Call, at_ns: int) -> None:
        del self.up[call.caller]
        call.ended_ns = at_ns
        call.heard = self._judge.end(call.caller, at_ns)
        self._leaving.append(call)

    def look(self) -> None:
        """Find those whose calls failed or were lost: of them SIPp says nothing. Now and then."""
        now = time.time_ns()
        for call in [*self.up.values()]:
            if now - call.up_ns > (call.hold_s + _LINGER_S) * 1e9:
                call.lost = True
                self._leave(call, now)
        self._fail(_NEVER_UP_S)

    def _fail(self, after_s: float) -> None:
        now = time.time_ns()
        for caller, call in [*self.trying.items()]:
            if now - call.began.at_ns > after_s * 1e9:
                self.calls.append(self.trying.pop(caller))

    # What they hear and say -----------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            callers, at, _, payloads = self._wire.receive()
            if not len(callers):
                return
            self._judge.took(callers, at, payloads)

    def _speak(self) -> None:
        phase, self._step = self._step % _PHASES, self._step + 1
        calls = [call for caller, call in self.up.items() if caller % _PHASES == phase]
        if not calls:
            return
        frames = np.empty((len(calls), FRAME), np.uint8)
        for n, call in enumerate(calls):
            at = call.caller * STRIDE + call.sent
            frames[n] = self._audio[at % len(self._audio)] if call.echo else _SILENCE
        self._wire.send(
            np.array([call.caller for call in calls]),
            np.array([call.port for call in calls]),
            np.array([call.sent for call in calls]),
            frames,
        )
        for call in calls:
            call.sent += 1

    def _examine(self, call: Call) -> None:
        """Was it what he had to hear?"""
        sound = call.heard.sound
        if call.echo:
            last = (call.caller * STRIDE + call.sent) % len(self._audio)
            frames = np.arange(last - (_ECHO_S + _LATEST_ECHO_S) * FRAMES, last)
            said = self._sound.reshape(-1, FRAME)[frames % len(self._audio)].reshape(-1)
            if call.sent >= (_ECHO_S + _LATEST_ECHO_S) * FRAMES:
                call.alike = in_pieces(sound[-_ECHO_S * FRAMES * FRAME :], said)
                call.said = said if call.wrong else said[:0]
        else:
            first, last = (n * FRAME for n in _GREETING_FRAMES)
            found = [alike(sound[first:last], known) for known in self.greetings]
            call.alike = max((one for one in found if one is not None), default=None)
        if call.alike is None or call.alike < ALIKE:
            call.shed = is_human(sound)
        if self.greetings and not call.wrong:  # of all others a soak would keep half a gigabyte
            call.heard.sound = sound[:0]
        self.calls.append(call)


def be_first() -> None:
    """Run this thread ahead of others, where that is allowed: a phone has a clock of its own.

    Nothing of its process is collected from here on: a collection would hold all phones up.
    """
    gc.disable()
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
