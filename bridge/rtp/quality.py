"""How good a call's incoming audio is: loss, lateness, and what a listener would say of it.

The estimate is the E-model: R = Ro - Id - Ie_eff. Id grows with delay, by the usual simplification
of G.107 for a line without echo. Ie_eff is what the codec takes away, and what losses do as far as
concealment doesn't hide them: Ie + (95 - Ie) * loss / (loss + Bpl), losses taken for random. Ie and
Bpl stand in each codec's row. Narrow-band codecs are judged by ITU-T G.107 (Ro = 93.2), the others
by its wide-band sister G.107.1 (Ro = 129, R / 1.29 into the same opinions): both scales end near
4.5, and a mark of one doesn't compare with a mark of the other. Only what we see counts: the way
from Asterisk to us. The caller's own leg is Asterisk's to tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio.codecs import CODECS, Codec
from bridge.audio.columns import Column

LATE_MS = np.array([1.0, 2, 5, 10, 20, 30, 40, 60, 80, 100, 150, 200, 400])
"""Upper bounds of the lateness histogram's buckets; the last one is open."""
SPEC = {"q_late": Column("u4", 0, (len(LATE_MS) + 1,))}

_NARROW_R0, _WIDE_R0 = 93.2, 129.0
_WIDE_SCALE = 1.29  # G.107.1 Annex A
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
    """1 (bad) to 4.4 (as good as the telephone gets; 4.5 wide-band), estimated."""


def judge(
    received: float, lost: float, concealed_ms: float, late: NDArray[np.uint32], codec: Codec
) -> Quality:
    """From a call's counters and its lateness histogram, (len(LATE_MS) + 1,)."""
    percent = loss_percent(received, lost)
    p50, p95, p99 = (_percentile(late, share) for share in (0.5, 0.95, 0.99))
    opinion = round(mos(percent, p95, codec), 2)
    return Quality(round(percent, 3), (p50, p95, p99), concealed_ms, opinion)


def loss_percent(received: float, lost: float) -> float:
    """Of the packets that were to come, how many never came; 0 where none were to come."""
    return 100 * lost / (received + lost) if received + lost > 0 else 0.0


def mos(loss_percent: float, delay_ms: float, codec: Codec = CODECS["PCMU"]) -> float:
    """Estimated opinion (G.107 Annex B) of a codec at this random loss and extra one-way delay."""
    delay = delay_ms + _MOUTH_TO_EAR_MS
    by_delay = 0.024 * delay + max(0.0, 0.11 * (delay - 177.3))
    itself, robust = codec.impairment, codec.robustness
    by_codec = itself + (95 - itself) * loss_percent / (loss_percent + robust)
    wide = codec.sample_rate > 8000
    r = (_WIDE_R0 if wide else _NARROW_R0) - by_delay - by_codec
    r = min(max(r / _WIDE_SCALE if wide else r, 0.0), 100.0)
    return 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6


def _percentile(late: NDArray[np.uint32], share: float) -> float:
    total = int(late.sum())
    if not total:
        return 0.0
    bucket = int(np.searchsorted(np.cumsum(late), share * total))
    return float(LATE_MS[min(bucket, len(LATE_MS) - 1)])
