"""The bench's real calls, round by round: how many at once, and what they show.

Some calls run side by side, as many as leave the machine mostly idle; questions are asked in one
call at a time, for voice to voice is a figure of an idle machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.bench.turns import agents, calls, measure
from tests.bench.turns.calls import Held, Line
from tests.bench.turns.corpus import Clip, clips
from tests.bench.turns.measure import Judged
from tests.bench.turns.phones import Phone
from tests.bench.verify import NotVerifiedError

AT_ONCE = 4
INTERRUPTIONS, FALSE_ONES, SENTENCES, QUESTIONS = 56, 56, 54, 52
"""Clips of each kind over real calls."""
KEYS = 12
LATE_MS = 5.0
"""Phones that send later than this (99 of 100 frames) are no phones."""
RENDER_S = 15.0
"""The talker's text is rendered meanwhile, so that it is there when it is needed."""


@dataclass
class Results:
    """By kind of clip, and what is known of the calls themselves."""

    judged: dict[str, list[Judged]] = field(default_factory=dict)
    calls: int = 0
    late_ms: list[float] = field(default_factory=list)
    more: dict[str, list[float]] = field(default_factory=dict)
    """What no key of the bench asks for, and the issue promises all the same."""

    def add(self, kind: str, judged: Iterable[Judged], held: Held) -> None:
        """What came of a call."""
        self.judged.setdefault(kind, []).extend(judged)
        self.calls += 1
        self.greeted(held)
        self.late_ms += held.phone.late_ms[50:]  # the first second is the calls' beginning

    def greeted(self, held: Held) -> None:
        """How soon the greeting came."""
        if (ms := measure.greeting(held)) is not None:
            self.more.setdefault("greeting_ms", []).append(ms)


def run(kinds: Collection[str], say: Callable[[str], None]) -> Results:
    """Hold all calls of some kinds of clips.

    Raises:
        NotVerifiedError: the machine was too busy for phones of ours.
    """
    results = Results()
    with calls.line(say) as line:
        time.sleep(RENDER_S)
        if {"interruption", "false"} & set(kinds):
            _talker(line, kinds, results, say)
        if "paused" in kinds:
            _sentences(line, results, say)
        if "question" in kinds:
            _questions(line, results, say)
    late = float(np.percentile(results.late_ms, 99))
    if late > LATE_MS:
        raise NotVerifiedError(f"the phones sent {late:.1f} ms late: the machine is busy")
    return results


def _talker(
    line: Line, kinds: Collection[str], results: Results, say: Callable[[str], None]
) -> None:
    jobs: list[tuple[str, list[Clip]]] = []
    if "interruption" in kinds:
        jobs += [("interruption", p) for p in _parts("interruption", INTERRUPTIONS, 6)]
    if "false" in kinds:
        jobs += [("false", p) for p in _parts("false", FALSE_ONES, 8)]
    # Each worker renders the text itself, never twice the same; they take calls by turns.
    workers = len(os.sched_getaffinity(0))
    undisturbed = [calls.phone(agents.TALKER, calls.listen(150.0)) for _ in range(workers)]
    pressing = calls.phone(agents.TALKER, calls.press(KEYS, 1))
    texts: dict[str, measure.Reference] = {}
    waiting: list[tuple[str, Held]] = []
    for n, some in enumerate(_rounds(jobs)):
        phones = [_talk_to(kind, chosen, n * AT_ONCE + k) for k, (kind, chosen) in enumerate(some)]
        first = [] if texts else [*undisturbed, pressing]
        say(f"calls {[kind for kind, _ in some]}")
        held = line.hold("talker", [*first, *phones])
        if not texts:
            for call in held[:workers]:
                texts[call.worker] = measure.reference(call)
                say(f"the talker talks for {len(texts[call.worker].pcm) / 8000:.0f} s")
            call = held[workers]
            results.more["key_to_silence_ms"] = measure.keys(call, _of(call, texts))
            del held[: workers + 1]
        waiting += zip((kind for kind, _ in some), held, strict=True)
    for kind, call in waiting:
        judge = measure.interruptions if kind == "interruption" else measure.false_ones
        results.add(kind, judge(call, _of(call, texts)), call)


def _of(call: Held, texts: Mapping[str, measure.Reference]) -> measure.Reference:
    """The text as the worker says it that had the call."""
    if call.worker not in texts:
        raise NotVerifiedError("a worker had no call in which nobody disturbed the agent")
    return texts[call.worker]


def _talk_to(kind: str, chosen: Sequence[Clip], seed: int) -> Phone:
    act = calls.interrupt if kind == "interruption" else calls.disturb
    return calls.phone(agents.TALKER, act(chosen, seed), chosen[0].bed)


def _sentences(line: Line, results: Results, say: Callable[[str], None]) -> None:
    jobs = [("paused", part) for part in _parts("paused", SENTENCES, 7)]
    for some in _rounds(jobs):
        say(f"calls {[kind for kind, _ in some]}")
        phones = [calls.phone(agents.DEMO, calls.ask(chosen)) for _, chosen in some]
        for call in line.hold("paused", phones):
            results.add("paused", measure.sentences(call), call)


def _questions(line: Line, results: Results, say: Callable[[str], None]) -> None:
    chosen = calls.choose("question", QUESTIONS)
    for part in (chosen[k : k + 13] for k in range(0, len(chosen), 13)):
        say(f"a call of {len(part)} questions, alone")
        for call in line.hold("question", [calls.phone(agents.DEMO, calls.ask(part))]):
            results.add("question", measure.questions(call), call)


def _parts(kind: str, count: int, size: int) -> list[list[Clip]]:
    return calls.parts(calls.choose(kind, count), size)  # type: ignore[arg-type]


def _rounds(jobs: Sequence[tuple[str, list[Clip]]]) -> list[list[tuple[str, list[Clip]]]]:
    """Calls that run at once; long ones with long ones."""
    order = sorted(jobs, key=lambda job: (job[0], -len(job[1])))
    return [list(order[k : k + AT_ONCE]) for k in range(0, len(order), AT_ONCE)]


def never_run(kind: str, judged: Sequence[Judged]) -> list[Clip]:
    """Clips of the held-out half that no call has told anything of."""
    told = {j.said.clip.id for j in judged if not j.void}
    return [clip for clip in clips("held_out", kind) if clip.id not in told]  # type: ignore[arg-type]
