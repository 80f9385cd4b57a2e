"""The keys of the turns' bench and their goals (issue C)."""

from __future__ import annotations

from tests.bench.goals import Goal

GOALS: dict[str, Goal] = {
    "paused_ms": Goal({"p95": 120}),
    "gone_over_min_speech_ms": Goal({"p95": 60}),
    "missed_interruptions_pct": Goal(1),
    "false_cuts_pct": Goal(2),
    "resumed_pct": Goal(95, at_least=True),
    "heard_error_ms": Goal({"p95": 20}),
    "voice_to_voice_ms": Goal({"p50": 400, "p95": 700}),
    "false_ends_pct": Goal(3),
}
MORE: dict[str, Goal] = {
    "key_to_silence_ms": Goal({"p95": 30}),
    "greeting_ms": Goal({"p95": 40}),
}
"""What the issue promises beside its keys, and the same calls show: a key's event to silence, and
the media path's first packet to the greeting's."""
KIND_OF = {
    "paused_ms": "interruption",
    "gone_over_min_speech_ms": "interruption",
    "missed_interruptions_pct": "interruption",
    "heard_error_ms": "interruption",
    "false_cuts_pct": "false",
    "resumed_pct": "false",
    "voice_to_voice_ms": "question",
    "false_ends_pct": "paused",
}
"""Which clips a key is measured on."""
