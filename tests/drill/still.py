"""Whether the machine itself ran: a virtual one is stopped by its host now and then, for up to tens
of milliseconds, and then nobody sends a packet.

`python -m tests.drill.still CPU` looks at the clock every 5 ms, with real-time priority above the
media process', on one CPU, and tells when it was held up. What holds the witnesses of all CPUs up
at the same time is no process: the machine stood still. Where real-time priority isn't allowed
there is no witness, and nothing is known.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

_LOOK_S, _LATE_S = 0.005, 0.005

Span = tuple[float, float]
"""From, until: epoch seconds."""


def common(spans: Sequence[Sequence[Span]]) -> list[Span]:
    """What several lists of spans, each in order, have in common; nothing if there is none."""
    if not spans:
        return []
    found = list(spans[0])
    for others in spans[1:]:
        pairs = [(max(a, c), min(b, d)) for a, b in found for c, d in others]
        found = sorted((a, b) for a, b in pairs if a < b)
    return found


class Still:
    """When the machine stood still; a context manager."""

    def __enter__(self) -> Self:
        self._seen: dict[int, list[Span]] = {cpu: [] for cpu in sorted(os.sched_getaffinity(0))}
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.drill.still", str(cpu)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
            )
            for cpu in self._seen
        ]
        self._readers = [
            threading.Thread(target=self._read, args=(cpu, process), daemon=True)
            for cpu, process in zip(self._seen, self._processes, strict=True)
        ]
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for reader in self._readers:
            reader.join()

    def spans(self) -> list[list[Span]]:
        """When each processor stood still, so far."""
        return [list(spans) for spans in self._seen.values()]

    def _read(self, cpu: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        with process.stdout as told:
            for line in told:
                since, until = map(float, line.split())
                self._seen[cpu].append((since, until))


def _watch(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
        due = time.time()
        while True:
            due += _LOOK_S
            time.sleep(max(0.0, due - time.time()))
            now = time.time()
            if now - due > _LATE_S:
                print(due, now, flush=True)
                due = now


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        _watch(int(sys.argv[1]))
