"""What the call was like for the caller: every figure of the demo, from the capture alone.

Words used here, all on the capture's clock (`tests.lab.capture`):

- **caller speech** of a turn: from its first to its last speech sample in the packets that the
  phone sent, in the turn's window (from the moment the script began it to the next turn's).
- **answer**: the agent's speech in the packets that the phone received, from the caller's last
  sample to the next turn's first.
- **voice to voice**: from the caller's last speech sample to the agent's first one. Counted for
  every spoken turn that was answered, interruptions included. Not counted where keys were pressed:
  there is no last speech sample, and how long to wait for another digit is the agent's choice.
  An agent that begins before the caller has finished counts as it is: negative.
- **barge-in stop**: from the caller's first speech sample to the end of what the agent was saying:
  all speech that began before the caller had finished, however late it ended.
- **goes on**: the caller said something that is no interruption ("uh-huh") in the middle of the
  agent's speech. Reversed is what the caller can hear as such: the agent fell silent for `HELD_S`
  or more soon after he began, and spoke on soon after he had finished.
- **takeover**: the worker that serves the call was killed, in the middle of what the agent said: it
  speaks both within `DEATH_S` before the death and after it. The *packet gap* is the longest time
  without a packet from the last one before the death to the next answer; the *answer gap* lasts
  from the death until the agent answers something that the caller did since.
- **transfer**: the two seconds of a tone pair with which the lab's human answers. It is no speech,
  and neither is the ringing tone before it, nor the soft sound with which the bridge bridges a long
  wait.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.demo.script import Script, Turn
from tests.demo.words import missing, said_twice
from tests.lab.capture import Digit, Pcm, Track
from tests.lab.speech import FRAME, Region, regions
from tests.lab.tones import (
    HUMAN_FRAMES,
    HUMAN_HZ,
    LOST_FRAMES,
    RING_FRAMES,
    RING_HZ,
    find_tones,
    find_waits,
    without_waits,
)

HELD_S = 0.25
BREATH_S = 0.4  # so long after the caller began, the agent's breath is held because of him
GOES_ON_S = 1.5  # so long after he has finished, the agent goes on
WORD_PAUSE_S = 0.5  # an agent silent for less is still in its sentence
DEATH_S = 0.3

Hear = Callable[[Pcm], Iterable[str]]


@dataclass(frozen=True)
class Mark:
    """The script began a turn at `at` (epoch seconds)."""

    turn: Turn
    at: float


@dataclass(frozen=True)
class Judged:
    """One turn. Times in epoch seconds, None where it did not happen."""

    turn: Turn
    caller: tuple[float, float] | None
    agent: tuple[float, float] | None
    heard: str
    missing: tuple[str, ...]
    voice_to_voice_ms: float | None
    barge_in_stop_ms: float | None
    transferred: float | None = None
    held_ms: float | None = None
    """How long the agent held its breath before it went on; None where it didn't."""

    @property
    def right(self) -> bool:
        """The caller was answered, and with what the script expects."""
        if self.turn.goes_on:
            return not self.missing
        reached = self.transferred is not None or not self.turn.expect_extension
        answered = self.agent is not None or self.transferred is not None
        stopped = not self.turn.interrupt_after_ms or self.barge_in_stop_ms is not None
        return not self.missing and reached and answered and stopped


@dataclass(frozen=True)
class Takeover:
    """What the caller noticed of the worker's death at `at` (epoch seconds)."""

    at: float
    in_mid_sentence: bool
    went_on_s: float
    """How much longer that sentence was heard."""
    packet_gap_ms: float
    answer_gap_ms: float | None
    reaction_ms: float | None
    """Of it, from the end of what the caller did."""
    answered: float | None
    """When the answer began, epoch seconds."""
    said_twice: str
    """Words of that sentence that were said again."""


@dataclass(frozen=True)
class Verdict:
    """The whole call."""

    greeting: str
    greeting_missing: tuple[str, ...]
    greeting_ms: float | None
    turns: tuple[Judged, ...]
    sent_speech: tuple[Region, ...]
    received_speech: tuple[Region, ...]
    tones: tuple[Region, ...]
    ringing: tuple[Region, ...]
    """Ringing tone, and the soft sound of a long wait: nobody speaks."""
    packet_gap_ms: float
    takeover: Takeover | None = None
    greetings: int = 0
    """How often what the script expects of the greeting was heard."""

    @property
    def reversed(self) -> int:
        """How often the agent held its breath for the caller, and went on."""
        return sum(turn.held_ms is not None and turn.right for turn in self.turns)

    @property
    def understood(self) -> int:
        """Number of turns whose answer was right."""
        return sum(judged.right for judged in self.turns)

    def voice_to_voice(self) -> dict[str, float] | None:
        """p50 and p95 in ms over the turns that count, or None."""
        values = [t.voice_to_voice_ms for t in self.turns if t.voice_to_voice_ms is not None]
        if not values:
            return None
        return {f"p{q}": round(float(np.percentile(values, q)), 1) for q in (50, 95)}

    def barge_in_stop(self) -> float | None:
        """The slowest stop in ms, or None where nobody interrupted."""
        values = [t.barge_in_stop_ms for t in self.turns if t.barge_in_stop_ms is not None]
        return max(values, default=None)


def judge(
    script: Script,
    marks: Sequence[Mark],
    sent: Track,
    received: Track,
    digits: Sequence[Digit],
    hear: Hear,
    killed_at: float | None = None,
) -> Verdict:
    """Judge a call from both directions of its capture.

    `hear` turns samples into text, and may offer several transcriptions of the same samples: what
    one of them has was said. `killed_at`: when the worker was killed, if it was.
    """
    tones = find_tones(received.pcm, HUMAN_HZ, HUMAN_FRAMES, LOST_FRAMES)
    ringing = find_tones(received.pcm, RING_HZ, RING_FRAMES)
    voice = without_waits(received.pcm)
    for tone in (*tones, *ringing):  # and a little more: frames at their edges are half tone
        voice[max(tone.start - 4 * FRAME, 0) : tone.end + 4 * FRAME] = 0
    agent = regions(voice)
    caller = regions(sent.pcm)
    scene = _Scene(sent, received, voice, caller, agent, tones, hear)
    spans = [
        scene.caller_span(mark, marks[n + 1].at if n + 1 < len(marks) else None, digits)
        for n, mark in enumerate(marks)
    ]
    judged = []
    for n, (mark, span) in enumerate(zip(marks, spans, strict=True)):
        later = [s[0] for s in spans[n + 1 :] if s]
        judged.append(scene.judge(mark.turn, span, later[0] if later else None))
    skipped = [
        Judged(turn, None, None, "", turn.expect, None, None) for turn in script.turns[len(marks) :]
    ]
    first = next((s[0] for s in spans if s), None)
    sound, span = scene.answer(-float("inf"), first)
    greeting, greeting_missing = scene.listen(sound, script.greeting)
    began = float(received.at.min()) if len(received.at) else None
    said = [greeting, *(one.heard for one in judged)]
    return Verdict(
        greeting,
        greeting_missing,
        (span[0] - began) * 1000 if span and began is not None else None,
        (*judged, *skipped),
        tuple(caller),
        tuple(agent),
        tuple(tones),
        (*ringing, *find_waits(received.pcm)),
        received.packet_gap() * 1000,
        takeover=None if killed_at is None else scene.takeover(killed_at, judged),
        greetings=sum(not missing(script.greeting, text) for text in said if script.greeting),
    )


@dataclass(frozen=True)
class _Scene:
    sent: Track
    received: Track
    voice: Pcm
    caller: list[Region]
    agent: list[Region]
    tones: list[Region]
    hear: Hear

    def caller_span(
        self, mark: Mark, until: float | None, digits: Sequence[Digit]
    ) -> tuple[float, float] | None:
        """First and last moment of what the caller did in a turn."""
        end = until if until is not None else float("inf")
        if mark.turn.dtmf:
            own = [d for d in digits if mark.at <= d.start < end]
            return (own[0].start, own[-1].end) if own else None
        times = [(self.sent.time(r.start), self.sent.time(r.end - 1)) for r in self.caller]
        # A packet's samples were spoken before it left: 20 ms and more before the source began.
        own_speech = [t for t in times if mark.at - 0.1 <= t[0] < end - 0.1]
        return (own_speech[0][0], own_speech[-1][1]) if own_speech else None

    def agent_times(self) -> list[tuple[float, float]]:
        """First and last moment of each stretch of the agent's speech, as it could be heard."""
        heard = self.received.time
        return [(heard(r.start), heard(r.end - 1)) for r in self.agent]

    def answer(self, after: float, until: float | None) -> tuple[str, tuple[float, float] | None]:
        """What the agent began to say between two moments: text, first and last moment."""
        end = until if until is not None else float("inf")
        times = self.agent_times()
        first = bisect.bisect_left(times, after, key=lambda t: t[0])
        own = [(r, t) for r, t in zip(self.agent[first:], times[first:], strict=True) if t[0] < end]
        if not own:
            return self.voice[:0], None
        sound = self.voice[own[0][0].start : own[-1][0].end]
        return sound, (own[0][1][0], own[-1][1][1])

    def listen(self, sound: Pcm, expected: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        """Transcribe, again where something lacks: the first text, and what none of them has."""
        texts: list[str] = []
        lacks = list(expected)
        for text in self.hear(sound):
            texts.append(text)
            lacks = missing(lacks, text)
            if not lacks:
                break
        return next(iter(texts), ""), tuple(lacks)

    def judge(self, turn: Turn, span: tuple[float, float] | None, until: float | None) -> Judged:
        if span is None:
            return Judged(turn, None, None, "", turn.expect, None, None)
        begin, end = span
        if turn.goes_on:
            return self._goes_on(turn, begin, end, until)
        stop = self._stop(begin, end) if turn.interrupt_after_ms else None
        limit = until if until is not None else float("inf")
        moments = [self.received.time(tone.start) for tone in self.tones]
        transfer = next((m for m in moments if end <= m < limit), None)
        # Without an interruption whatever begins while the caller speaks is an answer too early.
        after = end if turn.interrupt_after_ms or turn.dtmf else begin
        sound, agent = self.answer(after, transfer or until)
        text, wrong = self.listen(sound, turn.expect)
        delay = (agent[0] - end) * 1000 if agent and not turn.dtmf else None
        return Judged(turn, span, agent, text, wrong, delay, stop, transfer)

    def _goes_on(self, turn: Turn, begin: float, end: float, until: float | None) -> Judged:
        """What the agent said behind something that is no interruption."""
        last = until if until is not None else end + 10.0
        spans = [
            (self.received.time(r.start), self.received.time(r.end - 1))
            for r in regions(self.voice, bridge_ms=round(HELD_S * 1000) - 10)
        ]
        pairs = itertools.pairwise(spans)
        held = next(
            (
                (b[0] - a[1]) * 1000
                for a, b in pairs
                if begin - HELD_S < a[1] < begin + BREATH_S and begin < b[0] < end + GOES_ON_S
            ),
            None,
        )
        index = self.received.index
        sound = self.voice[index(begin) : index(last)]
        text, wrong = self.listen(sound, turn.expect)
        return Judged(turn, (begin, end), None, text, wrong, None, None, held_ms=held)

    def takeover(self, at: float, turns: Sequence[Judged]) -> Takeover:
        """What was heard of the worker's death."""
        times = self.agent_times()
        before = any(begin < at and end > at - DEATH_S for begin, end in times)
        behind = [(b, e) for b, e in times if b < at + DEATH_S and e > at]
        later = [
            (t.caller[1], t.agent[0])
            for t in turns
            if t.caller and t.agent and t.caller[0] > at and not t.turn.goes_on
        ]
        asked, answered = later[0] if later else (None, None)
        arrivals = np.sort(self.received.at)
        first = max(int(np.searchsorted(arrivals, at)) - 1, 0)
        last = len(arrivals) if answered is None else int(np.searchsorted(arrivals, answered)) + 1
        gaps = np.diff(arrivals[first:last])
        return Takeover(
            at,
            before and bool(behind),
            max((end for _, end in behind), default=at) - at,
            float(gaps.max()) * 1000 if len(gaps) else float("inf"),
            None if answered is None else (answered - at) * 1000,
            None if answered is None or asked is None else (answered - asked) * 1000,
            answered,
            next((said_twice(t.heard) for t in turns if t.turn.kill_worker_after_ms), ""),
        )

    def _stop(self, begin: float, end: float) -> float | None:
        """From the caller's first sample to the end of what the agent said meanwhile, in ms.

        Zero where the agent fell silent in the pause before a next word; None where it was not in
        the middle of anything: then nothing was interrupted.
        """
        meanwhile = [t for t in self.agent_times() if t[0] < end and t[1] > begin - WORD_PAUSE_S]
        if not meanwhile or meanwhile[0][0] >= begin:
            return None
        return max(0.0, (meanwhile[-1][1] - begin) * 1000)
