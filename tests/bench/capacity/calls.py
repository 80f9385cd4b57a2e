"""What real calls cost a host, by how many there are and who answers them; and what a takeover
does.

Calls are SIPp's through Asterisk, with the soak's callers: those of the echo speak all the time,
those of the offline agent hear its greeting and are then silent (what it understands and says
besides costs what `bridge/check/capacity.py` adds for it).
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.machine import Cpu
from tests.bench.verify import NotVerifiedError
from tests.lab.root import LabError
from tests.soak.phones import Phones, be_first
from tests.soak.placer import Placer
from tests.soak.stand import ECHO, GREETING, Stand

ENGINES = {"echo": ECHO, "offline": GREETING}
_LONG_MS = 600_000
_SET_UP_S, _SETTLE_S, _MEASURED_S = 40.0, 4.0, 8.0
_TAKEN_S = 4.0
_START_S, _IDLE = 120, 0.1


@dataclass(frozen=True)
class Point:
    """CPU in ms a call-second, and what the callers noticed."""

    engine: str
    calls: int
    media: float
    workers: float
    helpers: float
    asterisk: float
    gaps: int
    """Packet gaps over 60 ms, of all callers, in `_MEASURED_S`."""

    @property
    def bridge(self) -> float:
        """All of ours."""
        return self.media + self.workers + self.helpers

    def told(self) -> dict[str, object]:
        """For the report."""
        return {**asdict(self), "bridge": round(self.bridge, 3)}


class Calls:
    """A context manager: so many calls of an engine, up.

    Raises:
        NotVerifiedError: they didn't come up.
    """

    def __init__(self, stand: Stand, engine: str, count: int) -> None:
        self._stand, self._count = stand, count
        # Every other bench pins its generator; here Asterisk, Redis and SIPp need room as well.
        self._phones = Phones(count, count, lambda _: engine == "echo")
        self._numbers = [ENGINES[engine]]

    def __enter__(self) -> Phones:
        phones = self._phones.__enter__()
        self._placer = Placer(
            *(self._stand.pbx, phones.port, range(self._count), self._numbers),
            at_once=self._count,
            rate=20,
            hold_ms=(_LONG_MS, _LONG_MS + 1),
            count=self._count,
        ).__enter__()
        phones.placers.append(self._placer)
        until = time.monotonic() + _SET_UP_S
        while len(phones.up) < self._count:
            phones.pump(0.2)
            if time.monotonic() > until:
                self.__exit__(None, None, None)
                raise NotVerifiedError(f"{len(phones.up)} of {self._count} calls came up")
        phones.pump(_SETTLE_S)
        return phones

    def __exit__(self, *about: object) -> None:
        self._placer.__exit__(None, None, None)
        self._phones.__exit__(None, None, None)
        self._stand.pbx.cli("channel request hangup all")
        if left := self._stand.pbx.wait_idle(20.0):
            raise LabError(f"{len(left)} channels and mixing bridges stay")


def point(stand: Stand, engine: str, count: int) -> Point:
    """One point of the curve."""
    processes = {**stand.processes, "asterisk": stand.pbx.pid}
    with Calls(stand, engine, count) as phones:
        before = phones.gaps()
        with Cpu(processes.values()) as used:
            phones.pump(_MEASURED_S)
        gaps = phones.gaps() - before
        if len(phones.up) < count:
            raise NotVerifiedError(f"{count - len(phones.up)} calls ended by themselves")
    costs = dict.fromkeys(("media", "worker", "helper", "asterisk", "launcher"), 0.0)
    for name, seconds in zip(processes, used.each, strict=True):
        costs[name.split()[0]] += seconds * 1000 / (count * used.wall_s)
    rounded = {name: round(ms, 3) for name, ms in costs.items()}
    return Point(
        *(engine, count, rounded["media"], rounded["worker"]),
        *(rounded["helper"] + rounded["launcher"], rounded["asterisk"], gaps),
    )


def takeover(stand: Stand, count: int) -> dict[str, float]:
    """What it takes the survivor to go on with a killed worker's calls: CPU ms a call."""
    workers = [pid for name, pid in stand.processes.items() if name.startswith("worker")]
    if len(workers) != 2:
        raise LabError("a takeover takes two workers: this machine has another number of cores")
    others = [stand.pbx.pid, stand.redis.pid]
    with Calls(stand, "echo", count) as phones:
        with Cpu([*workers, *others]) as rest:
            phones.pump(_TAKEN_S)
        # Whether the other one has calls as well or waits for a death: then it has them all.
        owner = int(rest.each[1] > rest.each[0])
        os.kill(workers[owner], signal.SIGKILL)
        with Cpu([workers[1 - owner], *others]) as busy:
            phones.pump(_TAKEN_S)
        if len(phones.up) < count:
            raise NotVerifiedError("not all calls were taken over")
    both = sum(rest.each[:2])
    before, taken = [both, *rest.each[2:]], count * rest.each[owner] / both
    return {
        f"{name}_ms": round(max(0.0, more - less * busy.wall_s / rest.wall_s) * 1000 / taken, 2)
        for name, more, less in zip(("worker", "asterisk", "redis"), busy.each, before, strict=True)
    }


def _wait_idle(stand: Stand) -> None:
    """Until nothing is prepared any more: what agents always say is rendered when the bridge
    starts, and for a while after that."""
    for _ in range(_START_S):
        with Cpu(stand.processes.values()) as used:
            time.sleep(1.0)
        if sum(used.each) < _IDLE * used.wall_s:
            return
    raise NotVerifiedError(f"the bridge is still busy {_START_S} s after its start")


def curve(counts: list[int], out: Path) -> tuple[list[Point], dict[str, float]]:
    """All points, and a takeover's cost."""
    with Stand(max(counts) + 10, out) as stand:
        _wait_idle(stand)
        be_first()
        points = [point(stand, engine, n) for engine in ENGINES for n in counts]
        return points, takeover(stand, min(40, max(counts)))
