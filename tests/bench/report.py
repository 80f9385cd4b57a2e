"""What a bench found: values, what stands behind them, why a value is missing."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.bench.goals import GOALS, Goal, Value
from tests.bench.verify import NotVerifiedError

T = TypeVar("T")


@dataclass
class Report:
    """Filled by the parts of a bench."""

    say: Callable[[str], None]
    """Told in a line what goes on."""
    runs: int = 3
    goals: Mapping[str, Goal | None] = field(default_factory=lambda: GOALS)
    values: dict[str, Value] = field(default_factory=dict)
    behind: dict[str, Any] = field(default_factory=dict)
    """By key: single runs, and what must be known to read the value."""
    missing: dict[str, str] = field(default_factory=dict)
    """By key: why there is no value."""
    machine: dict[str, Any] = field(default_factory=dict)
    again: int = 0
    """Measurements that had to be taken again."""

    def attempt(self, measure: Callable[[], T]) -> T:
        """Measure; once more, twice at most, where it couldn't be verified.

        Raises:
            NotVerifiedError: the third time.
        """
        for _ in range(2):
            try:
                return measure()
            except NotVerifiedError as error:
                self.say(f"again, because {error}")
                self.again += 1
        return measure()

    def median(self, key: str, runs: Sequence[float], **behind: Any) -> float:
        """Put the median of some runs down."""
        value = round(statistics.median(runs), 4)
        self.values[key] = value
        self.behind[key] = {"runs": [round(run, 4) for run in runs], **behind}
        return value

    def medians(self, key: str, runs: Sequence[Mapping[str, float]], **behind: Any) -> None:
        """The same, part by part."""
        self.values[key] = {
            part: round(statistics.median(run[part] for run in runs), 3) for part in runs[0]
        }
        self.behind[key] = {"runs": list(runs), **behind}

    def table(self) -> str:
        """For people."""
        lines = [f"{'':34}{'measured':>32}  {'goal':40}met"]
        for key, goal in self.goals.items():
            if key not in self.values and key not in self.missing:
                continue
            value = self.values.get(key)
            met = goal.met(value) if goal else None
            said = {True: "yes", False: "NO", None: "-"}[met]
            lines.append(f"{key:34}{_text(value):>32}  {goal or ''!s:<40}{said}")
            if key in self.missing:
                lines.append(f"    no figure: {self.missing[key]}")
        return "\n".join(lines)

    def save(self, path: Path, keys: Sequence[str]) -> None:
        """As JSON: every key with value, goal, met and what stands behind it."""
        found = {
            key: {
                "value": self.values.get(key),
                "goal": str(self.goals[key]) if self.goals[key] else None,
                "met": goal.met(self.values.get(key)) if (goal := self.goals[key]) else None,
                **({"missing": self.missing[key]} if key in self.missing else {}),
                "behind": self.behind.get(key, {}),
            }
            for key in keys
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(
                {"machine": {**self.machine, "again": self.again}, "results": found}, indent=1
            )
            + "\n"
        )


def _text(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{part} {number:g}" for part, number in value.items())
    return f"{value:g}"
