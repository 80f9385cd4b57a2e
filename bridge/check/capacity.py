"""About how many calls a machine carries: what a call was measured to cost, times how fast this
machine does the same small piece of work as the machine that was measured on.

It is a guess to plan with, good to a half: what is measured on a machine, with its own Asterisk and
its own callers, is worth more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from bridge.agent import Agent

WORK_MS = 0.37
"""Of `sum(range(20_000))` where the figures below were measured (docs/measurements.md)."""
AUDIO_MS = 5.3
"""CPU of media process and worker, ms a call-second, 200 calls with engines elsewhere."""
ASTERISK_MS = 5.0
"""The same of an Asterisk on this machine, without transcoding."""
SPEECH = 0.4
"""Part of a call in which one side speaks."""
PARTS_MS: dict[tuple[str, str], float] = {
    ("stt", "moonshine"): 50.0 * SPEECH,  # real-time factor 0.05
    ("tts", "piper"): 190.0 * SPEECH,  # 0.19; what is said again and again costs nothing
}
"""What runs here, ms a call-second; every other part runs elsewhere."""
FULL = 0.7
"""Of its cores, so that a takeover finds room and packets are on time."""


def work_ms(times: int = 40) -> float:
    """How long that piece of work takes here; the middle one of so many."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        sum(range(20_000))
        took.append((time.perf_counter() - begun) * 1000)
    return sorted(took)[times // 2]


def calls(agent: Agent, *, asterisk_here: bool, work_ms: float, cores: int) -> int:
    """About so many at the same time."""
    cost_ms = AUDIO_MS + ASTERISK_MS * asterisk_here
    cost_ms += sum(PARTS_MS.get(part, 0.0) for part in _parts(agent))
    return max(1, int(FULL * cores * 1000 / (cost_ms * work_ms / WORK_MS)))


def cores() -> int:
    """That we may use."""
    return len(os.sched_getaffinity(0))


def _parts(agent: Agent) -> list[tuple[str, str]]:
    if agent.engine == "offline":
        return [("stt", "moonshine"), ("tts", "piper")]
    if agent.engine == "cascade":
        tables: dict[str, Mapping[str, Any]] = {
            name: agent.options.get(name, {}) for name in ("stt", "llm", "tts")
        }
        return [(name, str(table.get("provider", ""))) for name, table in tables.items()]
    return []
