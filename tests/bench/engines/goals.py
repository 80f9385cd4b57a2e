"""The keys of the bench of engines, and their goals (issue E)."""

from __future__ import annotations

from tests.bench.goals import Goal

GOALS: dict[str, Goal | None] = {
    "websocket.cpu_ms_per_call_second": Goal(2.0),
    "websocket.added_ms": Goal({"p99": 45}),
    "twilio.cpu_ms_per_call_second": Goal(3.5),
    "twilio.added_ms": Goal({"p99": 45}),
    "pipecat.cpu_ms_per_call_second": None,
    "ratio_pipecat": Goal(0.2),
    "speculation.first_audio_saved_ms": Goal({"p50": 150}, at_least=True),
}
"""None: there is no goal, the figure stands beside another."""
