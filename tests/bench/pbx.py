"""Calls through the real Asterisk: what the media process costs beside it, and the way's delay.

SIPp makes the calls. Its SDP sends Asterisk's RTP to our generator, one loopback address a call,
and it notes the port that Asterisk answers with: so the callers' audio is ours, and every packet's
time is known. The bridge runs as a user runs it, with an engine of the bench's (engine.py).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tests.bench.corpus import load_audio
from tests.bench.generator import Generator, Heard, address
from tests.bench.latency import up_delays_ms
from tests.bench.load import checked
from tests.bench.machine import Cpu, children, percentiles
from tests.bench.report import Report
from tests.bench.verify import NotVerifiedError, verify
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import Bridge
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY, LabError, free_port, program
from tests.lab.sipp import request

CALLS = 150
SECONDS = 14.0
_WARM_S, _MEASURED_S = 4.0, 8.0
_SET_UP_S = 20.0


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
        with _sipp(pbx, generator.port, notes) as ports:
            _wait(lambda: len(list(notes.glob("*.started"))) == CALLS, "calls to reach the engine")
            generator.go([(pbx.bind, port) for port in ports])
            time.sleep(_WARM_S)
            with Cpu([pbx.pid, *bridge.media_pids()]) as cpu:
                time.sleep(_MEASURED_S)
            heard = checked(generator.wait())
        verify(heard, from_s=2.5, most_delay_s=2.5, most_missing=CALLS, one_source=False)
        pbx.cli("channel request hangup all")
        pbx.wait_idle(10.0)
        _wait(lambda: len(list(notes.glob("*.npz"))) == CALLS, "what the engine noted")
        return cpu, _delays(heard, notes)


def _wait(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _SET_UP_S
    while not done():
        if time.monotonic() > deadline:
            raise NotVerifiedError(f"waited {_SET_UP_S:.0f} s for {what}")
        time.sleep(0.1)


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


@contextlib.contextmanager
def _sipp(pbx: Asterisk, rtp_port: int, folder: Path) -> Iterator[list[int]]:
    """All calls up; the RTP ports that Asterisk gave them, in order."""
    (folder / "calls.xml").write_text(_scenario())
    lines = "\n".join(f"{stream};{address(stream)};" for stream in range(CALLS))
    (folder / "calls.csv").write_text(f"SEQUENTIAL\n{lines}\n")
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [
                *(str(program("sipp")), f"{pbx.bind}:{pbx.sip_port}", "-sf", "calls.xml"),
                *("-inf", "calls.csv"),
                *("-s", "701", "-m", str(CALLS), "-l", str(CALLS), "-r", "25", "-nostdin"),
                *("-key", "rtp_port", str(rtp_port), "-i", "127.0.0.1"),
                *("-p", str(free_port(socket.SOCK_DGRAM))),
                *("-mi", "127.0.0.1", "-mp", str(free_port(socket.SOCK_DGRAM))),
                *("-trace_logs", "-log_file", "ports.log"),
            ],
            cwd=folder,
            env={**os.environ, "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        deadline = time.monotonic() + _SET_UP_S
        ports: dict[int, int] = {}
        log = folder / "ports.log"
        while len(ports) < CALLS:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"SIPp brought {len(ports)} of {CALLS} calls up")
            time.sleep(0.2)
            text = log.read_text() if log.exists() else ""
            ports = {int(a): int(b) for a, b in re.findall(r"stream (\d+) port (\d+)\n", text)}
        yield [ports[stream] for stream in range(CALLS)]
    finally:
        process.kill()
        process.wait()


def _scenario() -> str:
    sdp = "".join(
        f"      {line}\n"
        for line in (
            *("v=0", "o=sipp 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 [field1]"),
            *("t=0 0", "m=audio [rtp_port] RTP/AVP 0", "a=rtpmap:0 PCMU/8000"),
        )
    )
    optional = "".join(
        f'  <recv response="{code}" optional="true"/>\n' for code in (100, 180, 181, 182, 183)
    )
    note = (
        '<action><ereg regexp="m=audio ([0-9]+) " search_in="body" check_it="true"'
        ' assign_to="line,port"/><log message="stream [field0] port [$port]"/></action>'
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="calls">\n'
        + request("INVITE", 1, "", sdp)
        + optional
        + f'  <recv response="200">{note}</recv>\n'
        + request("ACK", 1, "[peer_tag_param]")
        + f'  <pause milliseconds="{round((SECONDS + _SET_UP_S) * 1000)}"/>\n'
        + request("BYE", 2, "[peer_tag_param]")
        + '  <recv response="200"/>\n  <Reference variables="line"/>\n</scenario>\n'
    )
