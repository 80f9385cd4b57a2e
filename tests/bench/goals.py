"""The keys of the media bench, their goals (issue B) and whether a value meets its goal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Value = float | Mapping[str, float] | None


@dataclass(frozen=True)
class Goal:
    """One key: a bound, or a bound for each of its parts."""

    bound: float | Mapping[str, float]
    at_least: bool = False

    def met(self, value: Value) -> bool | None:
        """Whether a value is good enough; None where there is no value."""
        if value is None:
            return None
        if isinstance(self.bound, Mapping):
            assert isinstance(value, Mapping)
            return all(self._good(value[part], bound) for part, bound in self.bound.items())
        assert not isinstance(value, Mapping)
        return self._good(value, self.bound)

    def _good(self, value: float, bound: float) -> bool:
        return value >= bound if self.at_least else value <= bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        if isinstance(self.bound, Mapping):
            return ", ".join(f"{part} {sign} {bound:g}" for part, bound in self.bound.items())
        return f"{sign} {self.bound:g}"


GOALS: dict[str, Goal | None] = {
    "bridge_cpu_ms_per_call_second": Goal(0.6),
    "ratio_c_echo": Goal(2.5),
    "c_echo_cpu_ms_per_call_second": None,
    "ratio_asterisk": Goal(0.15),
    "ratio_rtpengine": Goal(1.0),
    "calls_per_core": Goal(1500, at_least=True),
    "up_ms_1_call": Goal({"p50": 3, "p99": 8}),
    "up_ms_500_calls": Goal({"p50": 10, "p99": 25}),
    "down_ms": Goal({"p99": 22}),
    "one_way_ms": Goal({"p99": 45}),
    "cost_1000_over_100": Goal(1.0),
    "stalled_neighbour_late_ms": Goal({"p99": 2}),
    "kib_per_call": Goal(64),
    "pesq": Goal({"random_3": 3.79, "random_10": 3.06, "burst_5": 3.09}, at_least=True),
    "pesq_by_loss": None,
    "conceal_us_per_lost_frame": Goal(15),
    "stt_points_lost_at_3_pct_loss": Goal(2),
}
"""None: there is no goal, the figure stands beside another."""
ON_REQUEST = {"pesq_by_loss"}
"""Not part of the whole bench, whose time is short."""
