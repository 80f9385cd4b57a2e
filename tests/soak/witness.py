"""Who was late, when a caller missed packets: media, the whole machine, or Asterisk between them.

Whoever looks every 5 ms, ahead of all other processes, writes down how many packets media had sent
in each call. If media paused for as long as the caller, it was media; if we weren't let look for
that long ourselves, it was the machine, and nobody's fault of these; else Asterisk had the packets.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import numpy as np

from bridge.media.slots import OPEN
from tests.soak.wire import Ints

By = Literal["machine", "media", "asterisk"]
_KEPT = 600
_PAUSE_MS = 50.0
"""Media sends each call a packet every 20 ms, and is seen to by steps of 5."""
_BLIND_MS = 30.0


class Witness:
    """Args:
    states: of media's slots, as they are now.
    sent: packets sent in each.
    """

    def __init__(self, states: Ints, sent: Ints) -> None:
        self._states, self._sent = states, sent
        self._seen: deque[tuple[int, Ints, Ints]] = deque(maxlen=_KEPT)

    def look(self, now_ns: int) -> None:
        """Write down how things stand; every 5 ms."""
        self._seen.append((now_ns, self._states == OPEN, self._sent.copy()))

    def blame(self, begin_ns: int, end_ns: int) -> By:
        """Who was late between two packets of a caller."""
        slack = 20_000_000  # a packet is on its way for less than that
        rows = [row for row in self._seen if begin_ns - slack <= row[0] <= end_ns + slack]
        if len(rows) < 2:
            return "machine"
        at = np.array([row[0] for row in rows]) / 1e6
        if np.diff(at).max() >= _BLIND_MS:
            return "machine"
        always = np.logical_and.reduce([row[1] for row in rows])
        sent = np.array([row[2] for row in rows])[:, always]
        last = np.full(sent.shape[1], at[0])
        longest = 0.0
        for n in range(1, len(rows)):
            moved = sent[n] != sent[n - 1]
            longest = max(longest, float((at[n] - last).max(initial=0.0)))
            last[moved] = at[n]
        return "media" if longest >= _PAUSE_MS else "asterisk"
