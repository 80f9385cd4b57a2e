"""How often one caller may call: what an agent's minutes cost, nobody is to spend for its owner.

Counted where callers come in, by the number that the PBX shows of them. Memory is bounded: of more
numbers than `MOST` within a minute the oldest are forgotten.
"""

from __future__ import annotations

from collections import OrderedDict, deque

PERIOD_S = 60.0
MOST = 10_000


class CallRate:
    """New calls in the last minute, by caller."""

    def __init__(self, most: int) -> None:
        """Allow a caller `most` calls in a minute; 0: as many as come."""
        self._most = most
        self._begun: OrderedDict[str, deque[float]] = OrderedDict()

    def allows(self, number: str, now: float) -> bool:
        """Whether a call of that number that comes `now` (in seconds) may be taken; it counts then.

        Anonymous callers can't be told apart, and all may.
        """
        if not (self._most and number):
            return True
        begun = self._begun.setdefault(number, deque())
        self._begun.move_to_end(number)
        while begun and begun[0] <= now - PERIOD_S:
            begun.popleft()
        if len(begun) >= self._most:
            return False
        begun.append(now)
        if len(self._begun) > MOST:
            self._begun.popitem(last=False)
        return True
