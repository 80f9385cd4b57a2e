"""What a check has found, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line."""

    check: str
    """What was looked at, in a word or two: stays the same, for programs."""
    state: State
    """`warn`: calls work, but not as well or not as safely as they could; `fail`: calls, or those
    of an agent, don't; `skip`: it could not be looked at."""
    said: str
    cure: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What was measured, by names with units."""

    @property
    def line(self) -> str:
        """For people."""
        text = f"{self.state.upper() if self.state == 'fail' else self.state:5} {self.check:12}"
        return f"{text} {self.said}" + (f": {self.cure}" if self.cure else "")


def as_json(findings: Iterable[Finding]) -> str:
    """For programs: a list of objects."""
    return json.dumps(
        [
            {
                "check": one.check,
                "state": one.state,
                "said": one.said,
                "cure": one.cure,
                "figures": dict(one.figures),
            }
            for one in findings
        ],
        indent=2,
        ensure_ascii=False,
    )


def status(findings: Iterable[Finding]) -> int:
    """The exit status: 0, or 1 if any has failed."""
    return int(any(one.state == "fail" for one in findings))
