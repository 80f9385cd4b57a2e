"""Where the time of a call's audio goes: the slots' map, looked at every millisecond from outside.

A program of its own, ahead of the machine's other processes where that is allowed, which changes
nothing in what is measured:

    python -m tests.bench.witness SLOTS_FILE OUT.npz

It notes `t_head` of every slot (samples that media has handed up) until its standard input ends,
and how late it was itself: nobody but the machine can hold it up.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from tests.bench.plane import slots_layout
from tests.lab.root import REPOSITORY

_EVERY_S = 0.001


@dataclass(frozen=True)
class Seen:
    """What the witness saw."""

    ns: npt.NDArray[np.int64]
    """When it looked, (n,)."""
    head: npt.NDArray[np.int64]
    """Samples that had gone up by then, (n, slots)."""
    slot: dict[str, int]
    """Of each call id."""

    def up_ns(self, call: str, end: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """When a call's audio had gone up as far as each of `end` (samples), to a millisecond."""
        at = np.searchsorted(self.head[:, self.slot[call]], end)
        return self.ns[np.minimum(at, len(self.ns) - 1)]

    def between(self, first_ns: int, last_ns: int) -> Seen:
        """What it saw in that time."""
        some = (self.ns > first_ns) & (self.ns < last_ns)
        return Seen(self.ns[some], self.head[some], self.slot)

    def media_gaps_ms(self) -> npt.NDArray[np.float64]:
        """Between looks at which media had handed anything up."""
        moved = np.flatnonzero((np.diff(self.head, axis=0) != 0).any(axis=1)) + 1
        gaps: npt.NDArray[np.float64] = np.diff(self.ns[moved]) / 1e6
        return gaps

    def own_gaps_ms(self) -> npt.NDArray[np.float64]:
        """Between its own looks: far more than one is the machine's doing."""
        gaps: npt.NDArray[np.float64] = np.diff(self.ns) / 1e6
        return gaps


class Witness:
    """`with Witness(slots_file, folder) as witness: ...`, then `witness.seen()`."""

    def __init__(self, slots_file: Path, folder: Path) -> None:
        self._out = folder / "witness.npz"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.witness", str(slots_file), str(self._out)],
            stdin=subprocess.PIPE,
            cwd=REPOSITORY,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)

    def seen(self) -> Seen:
        """After its end: what it saw."""
        with np.load(self._out) as arrays:
            slot = {name.decode(): i for i, name in enumerate(arrays["call_id"])}
            return Seen(arrays["ns"], arrays["head"], slot)


def main(slots_file: Path, out: Path) -> None:
    """Look until standard input ends."""
    with slots_file.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    places = slots_layout(slots_file)["columns"]
    head, call_id = (
        np.ndarray(p["shape"], p["dtype"], memory, p["offset"])
        for p in (places["t_head"], places["call_id"])
    )
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    taken = np.flatnonzero(call_id != b"")
    names, last = call_id[taken], int(taken.max()) + 1
    ns: list[int] = []
    heads: list[npt.NDArray[np.int64]] = []
    due = time.monotonic()
    while len(ns) % 100 or not select.select([sys.stdin], [], [], 0)[0]:
        due += _EVERY_S
        time.sleep(max(0.0, due - time.monotonic()))
        ns.append(time.monotonic_ns())
        heads.append(head[:last].copy())
    np.savez(out, ns=np.array(ns), head=np.array(heads)[:, taken], call_id=names)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
