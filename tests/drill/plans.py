"""Every drill by name: how it is held, how often, and what it must show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.drill import away, chaos, deaths, hosts, loss, once, rolling
from tests.drill.stage import Options
from tests.drill.tally import Tally


@dataclass(frozen=True)
class Plan:
    """One drill. Goals are limits: of a p99 in ms where it has one, else of the value itself."""

    hold: Callable[[Options], Tally]
    goals: Mapping[str, float] = field(default_factory=dict)
    rounds: int = 5


PLANS = {
    "kill_worker": Plan(
        deaths.kill_worker,
        {"packet_gap_ms": 60, "answer_gap_ms": 1000, "noted_age_ms": 250},
        rounds=20,
    ),
    "kill_only_worker": Plan(
        deaths.kill_only_worker, {"packet_gap_ms": 60, "answer_gap_ms": 2000}, rounds=10
    ),
    "kill_media": Plan(deaths.kill_media, {"packet_gap_ms": 200}, rounds=20),
    "kill_launcher": Plan(deaths.kill_launcher, {"packet_gap_ms": 60}),
    "kill_host": Plan(hosts.kill_host, {"packet_gap_ms": 2500}),
    "tool_once": Plan(once.tool_once, rounds=10),
    "zombie": Plan(deaths.zombie, {"packet_gap_ms": 60}),
    "rolling": Plan(rolling.rolling, {"packet_gap_ms": 150, "refused": 0}, rounds=3),
    "redis_kill": Plan(away.redis_kill, {"owner_changes": 0}, rounds=2),
    "redis_freeze": Plan(away.redis_freeze, {"owner_changes": 0}, rounds=2),
    "ari_cut": Plan(away.ari_cut, {"packet_gap_ms": 60}, rounds=1),
    "asterisk_restart": Plan(away.asterisk_restart, {"new_call_answered_ms": 3000}, rounds=3),
    "engine_loss": Plan(loss.engine_loss, {"filler_ms": 1000}, rounds=8),
    "chaos": Plan(chaos.chaos, {"rss_growth_mib": 10}),
}
