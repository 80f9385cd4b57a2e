"""Who was late, when a caller missed packets: the machine, media, the callers, or Asterisk.

Every 5 ms, ahead of most processes, it is written down how many packets media had sent in each
call. If nothing ran on a processor then, not even what has the highest priority (`tests.drill.
still`), it was the machine; if media paused for as long as the caller, it was media; if the callers
were held up themselves, nobody knows; else Asterisk had the packets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bridge.media.slots import OPEN
from tests.drill.still import Span, common
from tests.soak.wire import Ints

By = Literal["machine", "processor", "media", "callers", "asterisk"]


class Late(NamedTuple):
    """Who was late, and for how long at most each of them did nothing then, ms."""

    by: By
    ms: Mapping[str, float]


_KEPT = 600
_PAUSE_MS = 50.0
"""Media sends each call a packet every 20 ms, and is seen to by steps of 5."""
_BLIND_MS = 30.0
_STILL_MS = 15.0
"""Of the 40 ms that packets are late if a gap is over 60."""


class Witness:
    """Args:
    states: of media's slots, as they are now.
    sent: packets sent in each.
    still: when each of the machine's processors stood still.
    """

    def __init__(
        self, states: Ints, sent: Ints, still: Callable[[], Sequence[Sequence[Span]]] = tuple
    ) -> None:
        self._states, self._sent, self._still = states, sent, still
        self._seen: deque[tuple[int, Ints, Ints]] = deque(maxlen=_KEPT)

    def look(self, now_ns: int) -> None:
        """Write down how things stand; every 5 ms."""
        self._seen.append((now_ns, self._states == OPEN, self._sent.copy()))

    def blame(self, begin_ns: int, end_ns: int) -> Late:
        """Who was late between two packets of a caller; a moment later, when all is known."""
        slack = 20_000_000  # a packet is on its way for less than that
        during = [((begin_ns - slack) / 1e9, (end_ns + slack) / 1e9)]
        still = self._still()
        machine = _longest_ms(common([during, *still])) if still else 0.0
        processor = max((_longest_ms(common([during, one])) for one in still), default=0.0)
        rows = [row for row in self._seen if begin_ns - slack <= row[0] <= end_ns + slack]
        at = np.array([row[0] for row in rows]) / 1e6
        blind = float(np.diff(at).max()) if len(rows) > 1 else (end_ns - begin_ns) / 1e6
        media = _paused_ms(at, rows)
        found: list[tuple[By, float, float]] = [
            ("machine", machine, _STILL_MS),
            ("processor", processor, _STILL_MS),
            ("callers", blind, _BLIND_MS),
            ("media", media, _PAUSE_MS),
        ]
        by: By = next((name for name, ms, most in found if ms >= most), "asterisk")
        return Late(by, {name: round(ms, 1) for name, ms, _ in found})


def _paused_ms(at: npt.NDArray[np.float64], rows: Sequence[tuple[int, Ints, Ints]]) -> float:
    """For how long at most media sent nothing in one of the calls that were there all the time."""
    if not rows:
        return 0.0
    always = np.logical_and.reduce([row[1] for row in rows])
    sent = np.array([row[2] for row in rows])[:, always]
    last = np.full(sent.shape[1], at[0])
    longest = 0.0
    for n in range(1, len(rows)):
        moved = sent[n] != sent[n - 1]
        longest = max(longest, float((at[n] - last).max(initial=0.0)))
        last[moved] = at[n]
    return longest


def _longest_ms(spans: Sequence[Span]) -> float:
    return max((b - a for a, b in spans), default=0.0) * 1000
