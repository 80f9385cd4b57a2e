"""What the pure layers' calls show, clip by clip and summed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.bench.turns.pure import CLIP_AT_MS, Case

LATE_MS = 1500
"""An interruption that isn't taken this long after its end has been missed."""
EARLY_MS = 60
"""So much before the voice, a decision can't be about it."""


@dataclass(frozen=True)
class Verdict:
    """One clip. Times in ms; None where it did not happen."""

    case: Case
    wrong: str = ""
    """What was wrong; empty if nothing was."""
    paused_ms: float | None = None
    gone_ms: float | None = None
    """After onset, over the agent's `min_speech_while_speaking_ms`."""
    resumed: bool | None = None
    """Of a false one that paused the agent."""
    end_ms: float | None = None
    """From the last voice to the end of the turn."""


def judge(case: Case) -> Verdict:
    """What came of a clip."""
    return {
        "interruption": _interruption,
        "false": _false,
        "question": _question,
        "paused": _sentence,
    }[case.clip.kind](case)


def _interruption(case: Case) -> Verdict:
    paused = case.first("AgentPaused", after_ms=case.onset_ms - EARLY_MS)
    gone = case.first("BargeIn")
    paused_ms = paused[0] - case.onset_ms if paused else None
    if gone is None or gone[0] > case.end_ms + LATE_MS:
        return Verdict(case, "missed", paused_ms)
    over = gone[0] - case.onset_ms
    if over < -EARLY_MS:
        return Verdict(case, "cut before it", paused_ms)
    if paused is None or paused[0] > gone[0]:
        paused_ms = over
    least = case.agent.turns.min_speech_while_speaking_ms
    return Verdict(case, "", paused_ms, over - least)


def _false(case: Case) -> Verdict:
    gone = case.first("BargeIn")
    paused = case.first("AgentPaused")
    if gone:
        return Verdict(case, f"cut {gone[0] - CLIP_AT_MS} ms in")
    if not paused:
        return Verdict(case)
    return Verdict(case, paused_ms=paused[0] - case.onset_ms, resumed=not case.paused)


def _question(case: Case) -> Verdict:
    ended = case.first("TurnCommitted", after_ms=case.end_ms - EARLY_MS)
    if ended is None:
        return Verdict(case, "never ended")
    return Verdict(case, end_ms=ended[0] - case.end_ms)


def _sentence(case: Case) -> Verdict:
    ended = case.first("TurnCommitted")
    if ended is None:
        return Verdict(case, "never ended")
    last = CLIP_AT_MS + case.clip.speech[-1][0]
    if ended[0] <= last:
        return Verdict(case, "ended inside")
    return Verdict(case, end_ms=ended[0] - case.end_ms)


def summary(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """The figures of the issue that the pure layers can tell, with their counts."""
    of = {kind: [v for v in verdicts if v.case.clip.kind == kind] for kind in _KINDS}
    paused = [v for v in of["false"] if v.resumed is not None]
    return {
        "paused_ms": percentiles(v.paused_ms for v in of["interruption"]),
        "gone_over_min_speech_ms": percentiles(v.gone_ms for v in of["interruption"]),
        "missed_interruptions_pct": _percent(of["interruption"]),
        "false_cuts_pct": _percent(of["false"]),
        "false_pauses_pct": round(100 * len(paused) / max(len(of["false"]), 1), 2),
        "resumed_pct": round(100 * sum(bool(v.resumed) for v in paused) / len(paused), 2)
        if paused
        else None,
        "false_ends_pct": _percent(of["paused"]),
        "question_end_ms": percentiles(v.end_ms for v in of["question"]),
        "paused_end_ms": percentiles(v.end_ms for v in of["paused"]),
        "counts": {kind: len(some) for kind, some in of.items()},
    }


def wrongs(verdicts: Iterable[Verdict]) -> str:
    """By sort, how many of how many were wrong, for people."""
    verdicts = list(verdicts)
    of = Counter((v.case.clip.kind, v.case.clip.sort) for v in verdicts)
    bad = Counter((v.case.clip.kind, v.case.clip.sort) for v in verdicts if v.wrong)
    stopped = Counter((v.case.clip.kind, v.case.clip.sort) for v in verdicts if v.resumed)
    lines = [f"{'':28}{'clips':>6}{'wrong':>7}{'paused, resumed':>17}"]
    for key, count in sorted(of.items()):
        name = f"{key[0]}, {key[1]}"
        lines.append(f"{name:28}{count:6}{bad[key]:7}{stopped[key] or '':>17}")
    return "\n".join(lines)


def details(verdicts: Iterable[Verdict]) -> str:
    """Every clip that went wrong, a line each."""
    lines = []
    for v in verdicts:
        if v.wrong or v.resumed is False:
            c = v.case.clip
            what = v.wrong or "not resumed"
            heard = [text for _, text in v.case.log if isinstance(text, str)]
            noisy = f"over {c.bed}" if c.bed else "clean"
            lines.append(
                f"{c.kind:12} {c.sort:11} {what:16} {c.voice:22} {c.dbfs:4.0f} dB {noisy:11} "
                f"{c.text!r} {f'heard {heard[-1]!r}' if heard else ''}"
            )
    return "\n".join(lines)


_KINDS = ("interruption", "false", "question", "paused")


def percentiles(values: Iterable[float | None]) -> dict[str, float] | None:
    """p50 and p95 of what there is; None if there is nothing."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {f"p{q}": round(float(np.percentile(known, q)), 1) for q in (50, 95)}


def _percent(verdicts: Sequence[Verdict]) -> float | None:
    if not verdicts:
        return None
    return round(100 * sum(bool(v.wrong) for v in verdicts) / len(verdicts), 2)
