"""Calls through the real Asterisk: what the media process costs beside it, and the way's delay.

The calls are SIPp's, their audio our generator's (callers.py). The bridge runs as a user runs it,
with an engine of the bench's (engine.py).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from tests.bench.callers import callers, wait
from tests.bench.corpus import load_audio
from tests.bench.generator import Generator, Heard
from tests.bench.latency import up_delays_ms
from tests.bench.load import checked
from tests.bench.machine import Cpu, children, percentiles
from tests.bench.report import Report
from tests.bench.verify import verify
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import Bridge
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY

CALLS = 150
SECONDS = 14.0
_WARM_S, _MEASURED_S = 4.0, 8.0


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
    ratios, one_way, behind = [], [], []
    for run in range(1, report.runs + 1):
        report.say(f"run {run} of {report.runs}: {CALLS} calls through Asterisk")
        cpu, delays = report.attempt(partial(_run, run))
        asterisk, *media_s = (used * 1000 / (CALLS * cpu.wall_s) for used in cpu.each)
        media = sum(media_s)
        ratios.append(media / asterisk)
        one_way.append(percentiles(delays))
        behind.append({"media": round(media, 3), "asterisk": round(asterisk, 3)})
        report.say(f"run {run}: media {media:.2f}, Asterisk {asterisk:.2f} ms a call-second")
    report.median("ratio_asterisk", ratios, calls=CALLS, cpu_ms_per_call_second=behind)
    report.medians("one_way_ms", one_way, calls=CALLS)


def _run(seed: int) -> tuple[Cpu, np.ndarray]:
    with tempfile.TemporaryDirectory(prefix="ari-bench-") as folder, contextlib.ExitStack() as up:
        notes = Path(folder)
        redis = up.enter_context(Redis())
        pbx = up.enter_context(Asterisk(rtp_ports=4 * CALLS + 200))
        bridge = up.enter_context(_BenchBridge(pbx, redis, notes))
        generator = up.enter_context(Generator(CALLS, SECONDS, load_audio(), seed=seed))
        with callers(pbx, generator.port, notes, ["701"] * CALLS, SECONDS) as ports:
            wait(lambda: len(list(notes.glob("*.started"))) == CALLS, "calls to reach the engine")
            generator.go([(pbx.bind, port) for port in ports])
            time.sleep(_WARM_S)
            with Cpu([pbx.pid, *bridge.media_pids()]) as cpu:
                time.sleep(_MEASURED_S)
            heard = checked(generator.wait())
        verify(heard, from_s=2.5, most_delay_s=2.5, most_missing=CALLS, one_source=False)
        pbx.cli("channel request hangup all")
        pbx.wait_idle(10.0)
        wait(lambda: len(list(notes.glob("*.npz"))) == CALLS, "what the engine noted")
        return cpu, _delays(heard, notes)


def _delays(heard: Heard, folder: Path) -> np.ndarray:
    """Of every packet of every call, from the caller to the engine."""
    delays = []
    # Asterisk numbers its channels in the order in which calls come, and that is the streams'. (A
    # mistake would show: neighbouring callers say the same three seconds apart.)
    notes = sorted(folder.glob("*.npz"), key=lambda path: int(path.stem.rpartition(".")[2]))
    for stream, path in enumerate(notes):
        with np.load(path) as arrays:
            delays.append(up_delays_ms(heard, stream, arrays["at"], arrays["pcm"], 2.5))
    return np.concatenate(delays)
