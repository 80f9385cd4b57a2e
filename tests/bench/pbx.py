"""Calls through the real Asterisk: what the media process costs beside it, and the way's delay.

The calls are SIPp's, their audio our generator's (callers.py). The bridge runs as a user runs it,
with an engine of the bench's (engine.py).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridge.media import control
from tests.bench.callers import callers, wait
from tests.bench.corpus import load_audio
from tests.bench.generator import Generator, Heard
from tests.bench.latency import up_times
from tests.bench.load import checked
from tests.bench.machine import Cpu, children, percentiles
from tests.bench.report import Report
from tests.bench.verify import verify
from tests.bench.witness import Seen, Witness
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import Bridge
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY

CALLS = 150
SECONDS = 14.0
_WARM_S, _MEASURED_S = 4.0, 8.0
_FROM_S = 2.5
"""What was said before isn't looked at: calls have just begun."""


class _BenchBridge(Bridge):
    """The bridge, with the bench's engine among those that it finds installed."""

    def __init__(self, pbx: Asterisk, redis: Redis, notes: Path) -> None:
        self._notes = notes
        super().__init__(pbx, redis, settings={"agents": {"folder": str(notes / "agents")}})

    def start(self) -> None:
        """Give it the engine by an entry point on its path."""
        agents, package = self._notes / "agents", self._notes / "bench-1.dist-info"
        for folder in (agents, package):
            folder.mkdir(exist_ok=True)
        (agents / "echo.toml").write_text(
            f'engine = "bench"\n[turns]\nbarge_in = "off"\n[bench]\nfolder = "{self._notes}"\n'
        )
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: bench\nVersion: 1\n")
        (package / "entry_points.txt").write_text(
            "[ari_bridge.engines]\nbench = tests.bench.engine:provider\n"
        )
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{REPOSITORY}{os.pathsep}{self._notes}"
        try:
            super().start()
        finally:
            del os.environ["PYTHONPATH"]
            if before is not None:
                os.environ["PYTHONPATH"] = before

    def media_pids(self) -> list[int]:
        """Its media process, and the spare that waits beside it."""
        return [pid for pid, words in children(self.pid) if "media" in words]


def calls(report: Report) -> None:
    """`ratio_asterisk`, `one_way_ms`."""
    ratios, one_way, behind, where = [], [], [], []
    for run in range(1, report.runs + 1):
        report.say(f"run {run} of {report.runs}: {CALLS} calls through Asterisk")
        cpu, way = report.attempt(partial(_run, run))
        asterisk, *media_s = (used * 1000 / (CALLS * cpu.wall_s) for used in cpu.each)
        media = sum(media_s)
        ratios.append(media / asterisk)
        one_way.append(percentiles(way.to_ring_ms + way.to_engine_ms))
        behind.append({"media": round(media, 3), "asterisk": round(asterisk, 3)})
        where.append(way.told())
        report.say(f"run {run}: media {media:.2f}, Asterisk {asterisk:.2f} ms a call-second")
        report.say(f"run {run}: one way {one_way[-1]}; of it {where[-1]}")
    report.median("ratio_asterisk", ratios, calls=CALLS, cpu_ms_per_call_second=behind)
    report.medians("one_way_ms", one_way, calls=CALLS, where=where)


@dataclass(frozen=True)
class Way:
    """Where the time went, of every packet of every call."""

    to_ring_ms: npt.NDArray[np.float64]
    """From the caller's sending, through Asterisk, to media's ring (to a millisecond)."""
    to_engine_ms: npt.NDArray[np.float64]
    """From there into the worker's engine."""
    machine_ms: float
    """The longest that nobody, not even the witness, was let run."""
    media_ms: float
    """The longest that media handed up nothing of any call."""
    worker_ms: float
    """The longest that the worker handed on nothing of any call."""
    worker_cpu_ms: float
    """How much of that it computed; in the rest it waited, for a core or for frames."""

    def told(self) -> dict[str, object]:
        """For the report."""
        whole = self.to_ring_ms + self.to_engine_ms
        long = whole >= np.percentile(whole, 99)
        which = (50, 99, 100)
        return {
            "to_ring": percentiles(self.to_ring_ms, which),
            "to_engine": percentiles(self.to_engine_ms, which),
            "of the longest hundredth to_ring": percentiles(self.to_ring_ms[long]),
            "longest pause": {
                "machine": round(self.machine_ms, 1),
                "media": round(self.media_ms, 1),
                "worker": round(self.worker_ms, 1),
                "of it computing": round(self.worker_cpu_ms, 1),
            },
        }


def _run(seed: int) -> tuple[Cpu, Way]:
    with tempfile.TemporaryDirectory(prefix="ari-bench-") as folder, contextlib.ExitStack() as up:
        notes = Path(folder)
        redis = up.enter_context(Redis())
        pbx = up.enter_context(Asterisk(rtp_ports=4 * CALLS + 200))
        bridge = up.enter_context(_BenchBridge(pbx, redis, notes))
        generator = up.enter_context(Generator(CALLS, SECONDS, load_audio(), seed=seed))
        with callers(pbx, generator.port, notes, ["701"] * CALLS, SECONDS) as ports:
            wait(lambda: len(list(notes.glob("*.started"))) == CALLS, "calls to reach the engine")
            with Witness(bridge.runtime_dir / control.SLOTS, notes) as witness:
                generator.go([(pbx.bind, port) for port in ports])
                time.sleep(_WARM_S)
                with Cpu([pbx.pid, *bridge.media_pids()]) as cpu:
                    time.sleep(_MEASURED_S)
                heard = checked(generator.wait())
        verify(heard, from_s=_FROM_S, most_delay_s=2.5, most_missing=CALLS, one_source=False)
        pbx.cli("channel request hangup all")
        pbx.wait_idle(10.0)
        wait(lambda: len(list(notes.glob("*.npz"))) == CALLS + 1, "what the engine noted")
        return cpu, _way(heard, notes, witness.seen())


def _way(heard: Heard, folder: Path, seen: Seen) -> Way:
    to_ring, to_engine, handed = [], [], []
    # Asterisk numbers its channels in the order in which calls come, and that is the streams'. (A
    # mistake would show: neighbouring callers say the same three seconds apart.)
    notes = [path for path in folder.glob("*.npz") if path.stem in seen.slot]
    notes.sort(key=lambda path: int(path.stem.rpartition(".")[2]))
    for stream, path in enumerate(notes):
        with np.load(path) as arrays:
            at = arrays["at"]
            sent_ns, frame, end = up_times(heard, stream, at, arrays["pcm"], _FROM_S)
        up_ns = seen.up_ns(path.stem, end)
        to_ring.append((up_ns - sent_ns) / 1e6)
        to_engine.append((at[frame, 0] - up_ns) / 1e6)
        handed.append(at[:, (0, 3)])
    first = heard.start_ns + int(_FROM_S * 1e9)
    last = int(heard.sent_ns.max())
    hand = np.concatenate(handed)
    hand = hand[(hand[:, 0] > first) & (hand[:, 0] < last)]
    pauses = np.diff(hand[np.argsort(hand[:, 0])], axis=0) / 1e6
    longest = pauses[pauses[:, 0].argmax()]
    seen = seen.between(first, last)
    return Way(
        np.concatenate(to_ring), np.concatenate(to_engine), float(seen.own_gaps_ms().max()),
        float(seen.media_gaps_ms().max()), float(longest[0]), float(longest[1]),
    )  # fmt: skip
