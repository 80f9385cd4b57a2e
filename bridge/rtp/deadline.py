"""How long a gap is worth waiting for: each call's deadline, learnt from its own gaps.

The only evidence that matters is what became of earlier gaps: the missing packet came after so many
ms, or never. A histogram of that (forgetting: 0.95 a gap) and the gaps' rate give NetEq's cost of
each possible deadline: its delay, plus 20 ms for every per cent of packets that would come after
it. The cheapest wins, from 20 to 120 ms; it moves only on a clear gain, after at least five gaps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.audio.columns import Column, Columns

CHOICES_MS = np.array([20.0, 40.0, 60.0, 80.0, 100.0, 120.0])
START_MS = 60.0
FORGET = 0.95
COST_MS_PER_PERCENT = 20.0
GAIN_MS = 10.0
MIN_GAPS = 5
_REMEMBER_MS = 500.0
_NEVER = len(CHOICES_MS)

DEADLINE_SPEC = {
    "d_wait_ms": Column("f8", START_MS),
    "d_history": Column("f4", 0, (_NEVER + 1,)),
    "d_gaps": Column("i4"),
    "d_spacing": Column("f4"),
    "d_last": Column("i8"),
    "d_given_up_ms": Column("f8", -np.inf),
}


class Deadlines:
    """The deadlines of all calls."""

    def __init__(self, columns: Columns) -> None:
        """Keep what was learnt in `columns` (see `DEADLINE_SPEC`; reads `n_received`)."""
        self.wait_ms, self._history = columns["d_wait_ms"], columns["d_history"]
        self._gaps, self._spacing = columns["d_gaps"], columns["d_spacing"]
        self._last, self._given_up_ms = columns["d_last"], columns["d_given_up_ms"]
        self._received = columns["n_received"]

    def closed(self, now: float, calls: NDArray[np.intp], since: NDArray[np.float64]) -> None:
        """The missing packet of gaps that began at `since` has come."""
        self._learn(calls, np.searchsorted(CHOICES_MS, now - since))

    def give_up(self, calls: NDArray[np.intp], since: NDArray[np.float64]) -> None:
        """The deadline of gaps that began at `since` has passed."""
        self._given_up_ms[calls] = since
        self._learn(calls, np.full(len(calls), _NEVER))

    def came_late(self, now: float, calls: NDArray[np.intp]) -> None:
        """A packet came after its gap was given up: not never, just late."""
        waited = now - self._given_up_ms[calls]
        known = waited < _REMEMBER_MS
        calls, bucket = calls[known], np.searchsorted(CHOICES_MS, waited[known])
        moved = np.minimum(self._history[calls, _NEVER], 1)
        self._history[calls, _NEVER] -= moved
        self._history[calls, bucket] += moved
        self._choose(calls)

    def _learn(self, calls: NDArray[np.intp], bucket: NDArray[np.intp]) -> None:
        if not len(calls):
            return
        self._history[calls] *= FORGET
        self._history[calls, bucket] += 1
        spacing = np.maximum(self._received[calls] - self._last[calls], 1)
        first = self._gaps[calls] == 0
        self._spacing[calls] = np.where(
            first, spacing, FORGET * self._spacing[calls] + (1 - FORGET) * spacing
        )
        self._last[calls] = self._received[calls]
        self._gaps[calls] += 1
        self._choose(calls)

    def _choose(self, calls: NDArray[np.intp]) -> None:
        calls = calls[self._gaps[calls] >= MIN_GAPS]
        if not len(calls):
            return
        history = self._history[calls]
        total = history.sum(axis=1, keepdims=True)
        # Of all packets, those whose gap closes only after each choice; the rest is lost anyway.
        closing = np.cumsum(history[:, :_NEVER], axis=1)
        after = (closing[:, -1:] - closing) / np.maximum(total, 1e-6)
        percent = 100 * after / self._spacing[calls, None]
        cost = CHOICES_MS + COST_MS_PER_PERCENT * percent
        best = cost.argmin(axis=1)
        rows = np.arange(len(calls))
        current = np.searchsorted(CHOICES_MS, self.wait_ms[calls])
        better = cost[rows, current] - cost[rows, best] >= GAIN_MS
        self.wait_ms[calls[better]] = CHOICES_MS[best[better]]
