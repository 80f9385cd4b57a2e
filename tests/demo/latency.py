"""Where the time of each turn went, by the bridge's own record (the field `latency` of a call).

The record's stamps are of CLOCK_MONOTONIC, which all processes of a machine share: so a turn is
found by the moment at which the caller fell silent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.demo.judge import Verdict

STAGES = {
    "media_in": "media in",
    "silence": "silence, until the turn is over",
    "stt": "speech to text",
    "llm": "thinking",
    "tts": "text to speech",
    "media_out": "media out",
}
"""Of `bridge.dialog.latency`, in their order, as people call them."""

NEAR_S = 0.6
"""The bridge's last voice and the capture's are no further apart."""

WORK = {
    "stt": ("heard", "transcript"),
    "llm": ("transcript", "first_token"),
    "tts": ("first_token", "first_audio"),
}
"""Between which stamps a stage works."""


@dataclass(frozen=True)
class Stages:
    """Where one turn's time went, ms."""

    path: Mapping[str, float]
    """What each stage added to what the caller waited."""
    work: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """When each worked, from the caller's last voice on: mostly in the silence, beside the path."""


def stages(record: Mapping[str, str], verdict: Verdict, clock: float) -> dict[int, Stages]:
    """By number of the verdict's turn (from 0), for the turns that the record holds.

    `clock` is added to a time of CLOCK_MONOTONIC to have it since the epoch, seconds.
    """
    found: dict[int, Stages] = {}
    for stored in json.loads(record.get("latency") or "[]"):
        at_s = stored.get("at_s", {})
        last = at_s.get("last_voice")
        if last is None or not stored.get("path_ms"):
            continue
        for n, turn in enumerate(verdict.turns):
            if turn.caller and abs(turn.caller[1] - (last + clock)) < NEAR_S:
                found[n] = Stages(stored["path_ms"], _work(at_s, last))
    return found


def _work(at_s: Mapping[str, float], last: float) -> dict[str, tuple[float, float]]:
    return {
        stage: ((at_s[begin] - last) * 1000, (at_s[end] - last) * 1000)
        for stage, (begin, end) in WORK.items()
        if begin in at_s and end in at_s
    }
