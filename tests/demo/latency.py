"""Where the time of each turn went, by the bridge's own record (the field `latency` of a call).

The record's stamps are of CLOCK_MONOTONIC, which all processes of a machine share: so a turn is
found by the moment at which the caller fell silent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

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

Path = Mapping[str, float]
"""ms that each stage added to what the caller waited."""


def paths(record: Mapping[str, str], verdict: Verdict, clock: float) -> dict[int, Path]:
    """By number of the verdict's turn (from 0), for the turns that the record holds.

    `clock` is added to a time of CLOCK_MONOTONIC to have it since the epoch, seconds.
    """
    found: dict[int, Path] = {}
    for stored in json.loads(record.get("latency") or "[]"):
        last = stored.get("at_s", {}).get("last_voice")
        if last is None or not stored.get("path_ms"):
            continue
        for n, turn in enumerate(verdict.turns):
            if turn.caller and abs(turn.caller[1] - (last + clock)) < NEAR_S:
                found[n] = stored["path_ms"]
    return found
