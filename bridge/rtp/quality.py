"""How good a call's incoming audio is: loss, lateness, and what a listener would say of it.

The estimate is the E-model (ITU-T G.107): R = 93.2 - Id - Ie_eff, where Ie_eff grows with loss as
far as concealment doesn't hide it (G.113 Appendix I gives G.711 with Appendix I's concealment a
robustness of 25.1) and Id with delay. Only what we see counts: the way from Asterisk to us. The
caller's own leg is Asterisk's to tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio.columns import Column

LATE_MS = np.array([1.0, 2, 5, 10, 20, 30, 40, 60, 80, 100, 150, 200, 400])
"""Upper bounds of the lateness histogram's buckets; the last one is open."""
SPEC = {"q_late": Column("u4", 0, (len(LATE_MS) + 1,))}

_R0 = 93.2
_ROBUSTNESS = 25.1  # G.113 table I.4: G.711 with PLC, random loss
_MOUTH_TO_EAR_MS = 20.0  # a packet's own time


@dataclass(frozen=True, slots=True)
class Quality:
    """A call's incoming audio so far."""

    loss_percent: float
    """Of the packets that were to come: those that never came, or too late."""
    late_ms: tuple[float, float, float]
    """Lateness behind the quickest packets: p50, p95, p99; the bound of a bucket."""
    concealed_ms: float
    mos: float
    """1 (bad) to 4.4 (as good as the telephone gets), estimated."""


def judge(received: float, lost: float, concealed_ms: float, late: NDArray[np.uint32]) -> Quality:
    """From a call's counters and its lateness histogram, (len(LATE_MS) + 1,)."""
    expected = received + lost
    percent = 100 * lost / expected if expected > 0 else 0.0
    p50, p95, p99 = (_percentile(late, share) for share in (0.5, 0.95, 0.99))
    return Quality(round(percent, 3), (p50, p95, p99), concealed_ms, round(mos(percent, p95), 2))


def mos(loss_percent: float, delay_ms: float) -> float:
    """Estimated opinion (G.107 Annex B) of G.711 at this random loss and extra one-way delay."""
    delay = delay_ms + _MOUTH_TO_EAR_MS
    by_delay = 0.024 * delay + max(0.0, 0.11 * (delay - 177.3))
    by_loss = 95 * loss_percent / (loss_percent + _ROBUSTNESS)
    r = min(max(_R0 - by_delay - by_loss, 0.0), 100.0)
    return 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6


def _percentile(late: NDArray[np.uint32], share: float) -> float:
    total = int(late.sum())
    if not total:
        return 0.0
    bucket = int(np.searchsorted(np.cumsum(late), share * total))
    return float(LATE_MS[min(bucket, len(LATE_MS) - 1)])
