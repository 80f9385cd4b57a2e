"""What all rounds of a drill came to, as it stands in summary.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.drill.still import Span, common

LEFTOVERS = ("channels", "mixing_bridges", "sessions", "slots", "ports", "tasks", "processes")
ZEROS = (
    *("lost", "unanswered", "unheard", "transcript_lost", "words_lost", "words_twice"),
    *("greeted_twice", "tools_twice", "two_voices"),
)
"""Counts that are 0 in every drill."""
STILL_MS = 15.0
"""The machine may stand still for so long in a round that counts."""
MOST_VOID = 3
# Of more calls than these, a note a call helps nobody.
_MOST_NOTES = 40


@dataclass
class Tally:
    """Counts, and gaps in ms.

    lost: calls that ended before their callers wanted, or were never answered
    unanswered, unheard: keys, spoken words that the agent never reacted to
    words_lost, words_twice: sentences of which the caller heard too little, or too much
    transcript_lost: calls whose transcript is not what was heard, or lacks a key
    tools_twice: effects of the tool `count` that nobody had asked for (again); there were `tools`
    """

    rounds: int = 0
    calls: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ZEROS, 0))
    extra: dict[str, object] = field(default_factory=dict)
    """What only this drill tells."""
    packet_gaps: list[float] = field(default_factory=list)
    """As the captures show them, of all rounds that aren't void."""
    still: Callable[[], Sequence[Sequence[Span]]] = tuple
    """When each of the machine's processors stood still."""
    may_be_void: int = 0
    """Rounds whose gaps don't count, because the machine stood still: they are held again."""
    void_rounds: int = 0
    answer_gaps: list[float] = field(default_factory=list)
    noted: list[float] = field(default_factory=list)
    """How old what the record says of a sentence that is being said was, at moments of a death."""
    fillers: list[float] = field(default_factory=list)
    """Silences before anything was heard, where that is measured."""
    tools: int = 0
    takeovers: int = 0
    """Of calls, by another worker."""
    leftovers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEFTOVERS, 0))
    say: Callable[[str], None] = lambda line: None
    notes: int = 0

    def void(self, since: float, until: float) -> bool:
        """Whether a round's gaps don't count: the machine stood still in it, and not too often."""
        if self.void_rounds >= self.may_be_void:
            return False
        if _longest_ms(common(self.still()), since, until) <= STILL_MS:
            return False
        self.void_rounds += 1
        return True

    def one_still_ms(self, since: float = 0.0, until: float = float("inf")) -> float:
        """For how long any one processor stood still between two moments."""
        return max((_longest_ms(spans, since, until) for spans in self.still()), default=0.0)

    def note(self, line: str) -> None:
        """Say what was wrong, and where."""
        self.notes += 1
        if self.notes <= _MOST_NOTES:
            self.say(line)

    def miss(self, what: str, line: str) -> None:
        """Count something that must not be."""
        self.counts[what] += 1
        self.note(f"{what}: {line}")

    def summary(self) -> dict[str, object]:
        """As it stands in summary.json."""
        return {
            "rounds": self.rounds,
            "calls": self.calls,
            **self.counts,
            "tools": self.tools,
            "takeovers": self.takeovers,
            **self.extra,
            "packet_gap_ms": {
                **_percentiles(self.packet_gaps, (50, 99)),
                **_most(self.packet_gaps),
            },
            "answer_gap_ms": _percentiles(self.answer_gaps, (50, 99)),
            "machine_still_ms": {
                "max": round(_longest_ms(common(self.still())), 1),
                "one_processor_max": round(self.one_still_ms(), 1),
            },
            "void_rounds": self.void_rounds,
            **({"noted_age_ms": _ages(self.noted)} if self.noted else {}),
            **({"filler_ms": _percentiles(self.fillers, (50, 99))} if self.fillers else {}),
            "leftovers": self.leftovers,
        }


def _longest_ms(spans: Sequence[Span], since: float = 0.0, until: float = float("inf")) -> float:
    """Of those spans that reach into that time."""
    return max((b - a for a, b in spans if a < until and b > since), default=0.0) * 1000


def _percentiles(values: list[float], wanted: tuple[int, ...]) -> dict[str, float | None]:
    """None where nothing was measured."""
    return {f"p{p}": round(float(np.percentile(values, p)), 1) if values else None for p in wanted}


def _ages(values: list[float]) -> dict[str, object]:
    return {"n": len(values), **_percentiles(values, (50, 99)), **_most(values)}


def _most(values: list[float]) -> dict[str, float | None]:
    return {"max": round(max(values), 1) if values else None}


def missed(found: Mapping[str, object], goals: Mapping[str, float]) -> list[str]:
    """What of a drill's goals was missed.

    Args:
        found: a `Tally.summary`.
        goals: limits by name: `packet_gap_ms` and `answer_gap_ms` for their p99, else the value
            itself; what was not measured has missed.
    """
    lines = [f"{key} is {found[key]}, not 0" for key in ZEROS if found[key]]
    lines += [
        f"leftovers: {count} {kind}"
        for kind, count in found["leftovers"].items()  # type: ignore[attr-defined]
        if count
    ]
    for key, limit in goals.items():
        value = found.get(key)
        if isinstance(value, Mapping):
            key, value = f"{key}.p99", value["p99"]
        if value is None:
            lines.append(f"{key} was not measured")
        elif float(value) > limit:  # type: ignore[arg-type]
            lines.append(f"{key} is {value}, above {limit:g}")
    return lines
