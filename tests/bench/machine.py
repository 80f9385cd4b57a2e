"""The machine that is measured on: its cores, its clocks, its noise, and our C programs for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import numpy as np

from tests.lab.root import REPOSITORY, LabError

HERE = Path(__file__).parent
BUILD = REPOSITORY / "out" / "bench" / "build"


def cores() -> tuple[int, int]:
    """The core for what is measured, and the one for what feeds it."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise LabError("the bench needs two cores: the generator must not share the bridge's")
    return usable[0], usable[1]


def on_core(core: int, *, first: bool = False) -> Callable[[], None]:
    """For `Popen(preexec_fn=...)`: the process and all that it starts stay on that core.

    Args:
        core: its number.
        first: ahead of the machine's other processes where that is allowed, for what measures.
    """

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        if first:
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

    return prepare


def cpu_s(pid: int) -> float:
    """User and system time of a process, all its threads, to the nanosecond."""
    # Linux, include/linux/posix-timers.h: a process' CPU clock is ~pid << 3 | CPUCLOCK_SCHED.
    return time.clock_gettime(~pid << 3 | 2)


class Cpu:
    """CPU seconds of some processes between two moments: `with Cpu(pids) as used: ...`."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self.each: list[float] = []
        self.wall_s = 0.0

    def __enter__(self) -> Self:
        self._before = [cpu_s(pid) for pid in self._pids]
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.monotonic() - self._began
        pairs = zip(self._pids, self._before, strict=True)
        self.each = [cpu_s(pid) - before for pid, before in pairs]

    def ms_per_call_second(self, calls: int) -> float:
        """Of all of them together."""
        return sum(self.each) * 1000 / (calls * self.wall_s)


def children(pid: int) -> list[tuple[int, list[str]]]:
    """Processes that `pid` started: (pid, command line)."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit():
                continue
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                words = (entry / "cmdline").read_text().split("\0")
                found.append((int(entry.name), words))
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return found


def compiled(name: str) -> Path:
    """`name`.c of this folder, compiled; once, until it changes."""
    source, program = HERE / f"{name}.c", BUILD / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise LabError("the bench needs a C compiler: apt-get install gcc libc6-dev, or set CC")
    BUILD.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise LabError(f"{source.name} doesn't compile: {made.stderr.strip().splitlines()[0]}")
    return program


def noise(seconds: float = 3.0) -> dict[str, object]:
    """What the machine does to whoever wants to be on time, with nothing of ours running.

    Returns:
        `wake_late_ms`: of a 5 ms absolute sleep on the measured core; `loop_ms`: a fixed piece of
        work, again and again; `steal_percent`, `others_percent`: of one core, by the hypervisor and
        by all processes but this one.
    """
    core, _ = cores()
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        before, own, began = ticks(), time.process_time(), time.monotonic()
        late, loops = [], []
        start = time.monotonic()
        for n in range(1, int(seconds * 200)):
            due = start + n * 0.005
            time.sleep(max(0.0, due - time.monotonic()))
            woke = time.monotonic()
            late.append((woke - due) * 1000)
            if n % 10 == 0:
                sum(range(20_000))
                loops.append((time.monotonic() - woke) * 1000)
        wall = time.monotonic() - began
        own = time.process_time() - own
        busy, steal = (b - a for a, b in zip(before, ticks(), strict=True))
    finally:
        os.sched_setaffinity(0, allowed)
    return {
        "wake_late_ms": percentiles(late, (50, 99, 100)),
        "loop_ms": percentiles(loops, (1, 50, 99)),
        "steal_percent": round(100 * steal / wall, 1),
        "others_percent": round(max(0.0, 100 * (busy - own) / wall), 1),
    }


def ticks() -> tuple[float, float]:
    """Seconds that all cores were busy, and were stolen by the hypervisor, since some moment.

    By their idle clock: what they are busy with is only sampled by the kernel's tick, and too often
    seen if it begins with the tick, as everything does that keeps time.
    """
    wall = time.monotonic() * (os.cpu_count() or 1)
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    values = [int(v) / os.sysconf("SC_CLK_TCK") for v in first]
    _user, _nice, _system, idle, wait, _irq, _softirq, steal = values[:8]
    return wall - idle - wait - steal, steal


def percentiles(values: Iterable[float], which: tuple[int, ...] = (50, 99)) -> dict[str, float]:
    """`{"p50": ..., "p99": ...}`; 100 is called max."""
    array = np.fromiter(values, float)
    found = np.percentile(array, which)
    return {
        "max" if q == 100 else f"p{q}": round(float(v), 3)
        for q, v in zip(which, found, strict=True)
    }
