"""How busy the plane is, and how late its ticks are: counted in the loop, told over the control
socket (`bridge.web.metrics` asks). A tick costs two additions and a search in ten numbers."""

from __future__ import annotations

from bisect import bisect_left

LATE_MS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 100.0, 200.0)
"""Upper edges of the classes of lateness."""


class Load:
    """One media process', since it began to serve."""

    def __init__(self) -> None:
        self.ticks = 0
        self.busy_ms = self.late_ms = 0.0
        """Spent in ticks; by how much ticks with calls were late, all together."""
        self.late = [0] * (len(LATE_MS) + 1)
        """Ticks by lateness, each class for itself."""

    def tick(self, due_ms: float, begun_ms: float, ended_ms: float) -> None:
        """A tick that was due then was carried out; one before its time (a packet woke us) is
        never late."""
        self.ticks += 1
        self.busy_ms += ended_ms - begun_ms
        late_ms = begun_ms - due_ms
        if late_ms >= 0.0:
            self.late_ms += late_ms
            self.late[bisect_left(LATE_MS, late_ms)] += 1

    def told(self) -> dict[str, object]:
        """For the control socket."""
        return {
            "ticks": self.ticks,
            "busy_ms": round(self.busy_ms, 3),
            "late_ms": round(self.late_ms, 3),
            "late": self.late,
        }
