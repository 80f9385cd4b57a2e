"""CPU a call: the whole way of the audio, beside a C echo and rtpengine under the same load."""

from __future__ import annotations

import contextlib
import mmap
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bridge.media.plane import PERIOD_MS
from tests.bench.corpus import load_audio
from tests.bench.generator import Destination, Generator, Heard
from tests.bench.machine import Cpu, compiled, cores, on_core, percentiles
from tests.bench.plane import Media, Worker
from tests.bench.report import Report
from tests.bench.rtpengine import Rtpengine
from tests.bench.verify import NotVerifiedError, Verdict, lateness_ms, verify
from tests.bench.worker import Task

CALLS, FEW_CALLS = 1000, 100
RELAYED_CALLS = 300
LOSS = 0.01
WARM_S = 2.5
MEASURED_S = 5.0
SECONDS = WARM_S + MEASURED_S + 0.5
LATEST_MS, LATEST_FOR_COST_MS = 3.0, 15.0
"""A generator that is later than this (p99) has measured the machine's other work; CPU time is less
easily spoilt than delays."""
_PIECE_DELAY_S = 2.0


@dataclass
class Run:
    """One run of the bridge under load."""

    calls: int
    cpu: Cpu
    verdict: Verdict
    late: dict[str, float]
    lost: int
    kib: float
    queue_kib: float
    generator_late_ms: float

    @property
    def cost(self) -> float:
        """CPU ms a call-second, all processes of ours."""
        return self.cpu.ms_per_call_second(self.calls)

    def told(self) -> dict[str, object]:
        """For the report."""
        media, worker = (used * 1000 / (self.calls * self.cpu.wall_s) for used in self.cpu.each)
        return {
            "media": round(media, 4),
            "worker": round(worker, 4),
            "send_late_ms": self.late,
            "generator_late_ms_p99": round(self.generator_late_ms, 2),
            "audio": self.verdict.told(),
        }


def bridge(calls: int, seed: int, *, loss: float = LOSS, measured_s: float = MEASURED_S) -> Run:
    """The demo's media process and one worker, `calls` callers, each hearing himself again.

    Raises:
        NotVerifiedError: they did not.
    """
    seconds = WARM_S + measured_s + 0.5
    with (
        Media(calls) as media,
        Generator(calls, seconds, load_audio(), loss=loss, seed=seed) as generator,
    ):
        empty = _resident_kib(media.pid)
        with Worker(media, Task("", calls, generator.port)) as worker:
            generator.go(media.address)
            time.sleep(WARM_S)
            with Cpu([media.pid, worker.pid]) as cpu:
                time.sleep(measured_s)
            kib = (_resident_kib(media.pid) - _played_kib(media) - empty) / calls
            heard = checked(generator.wait(), LATEST_FOR_COST_MS)
    # Never sent, or sent and not answered: what the generator left out is no loss of ours.
    verdict = verify(heard, most_delay_s=_PIECE_DELAY_S)
    late = lateness_ms(heard, WARM_S, seconds - 0.2)
    queue = 2 * 2 * media.layout["play_samples"] / 1024
    return Run(calls, cpu, verdict, percentiles(late), verdict.missing, kib, queue, heard.late_ms())


def checked(heard: Heard, latest_ms: float = LATEST_MS) -> Heard:
    """The same, if the generator itself was on time."""
    if (late := heard.late_ms()) > latest_ms:
        raise NotVerifiedError(
            f"the generator was {late:.1f} ms late (p99): the machine does other work; stop it"
        )
    return heard


@contextlib.contextmanager
def echo() -> Iterator[tuple[int, Destination]]:
    """The echo in C: its process, its address."""
    process = subprocess.Popen(
        [str(compiled("udpecho")), str(int(PERIOD_MS))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=on_core(cores()[0]),
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.pid, ("127.0.0.1", int(process.stdout.readline().split()[1]))
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def c_echo(calls: int, seed: int) -> float:
    """CPU ms a call-second of the echo in C, under the same load."""
    with echo() as (pid, address), Generator(calls, 5.0, load_audio(), seed=seed) as generator:
        generator.go(address)
        time.sleep(1.0)
        with Cpu([pid]) as cpu:
            time.sleep(3.5)
        verify(checked(generator.wait(), LATEST_FOR_COST_MS), from_s=1.0)
    return cpu.ms_per_call_second(calls)


def relay(calls: int, seed: int) -> float:
    """CPU ms a call-second of rtpengine, which carries each call's two streams."""
    streams = 2 * calls
    with Generator(streams, 6.0, load_audio(), seed=seed) as generator, Rtpengine() as rtpengine:
        generator.go(
            [place for call in range(calls) for place in rtpengine.call(2 * call, generator.port)]
        )
        time.sleep(2.0)
        with Cpu([rtpengine.pid]) as cpu:
            time.sleep(3.5)
        heard = checked(generator.wait(), LATEST_FOR_COST_MS)
        verify(heard, speaker={i: i ^ 1 for i in range(streams)}, from_s=1.0)
    return cpu.ms_per_call_second(calls)


def cost(report: Report) -> None:
    """`bridge_cpu_...`, `ratio_c_echo`, `ratio_rtpengine`, `cost_1000_over_100`, `kib_per_call`."""
    many, few, echoes, relays = [], [], [], []
    for run in range(1, report.runs + 1):
        report.say(f"run {run} of {report.runs}: {CALLS} calls through the bridge")
        many.append(report.attempt(partial(bridge, CALLS, run)))
        report.say(f"run {run}: {many[-1].cost:.3f} ms a call-second; an echo in C")
        echoes.append(report.attempt(partial(c_echo, CALLS, run)))
        report.say(f"run {run}: {echoes[-1]:.3f} ms; {FEW_CALLS} calls through the bridge")
        few.append(report.attempt(partial(bridge, FEW_CALLS, run)))
        report.say(f"run {run}: {few[-1].cost:.3f} ms; {RELAYED_CALLS} calls through rtpengine")
        relays.append(report.attempt(partial(relay, RELAYED_CALLS, run)))
        report.say(f"run {run}: {relays[-1]:.3f} ms")
    report.median(
        "bridge_cpu_ms_per_call_second",
        [run.cost for run in many],
        calls=CALLS,
        loss=LOSS,
        parts=[run.told() for run in many],
    )
    report.median("c_echo_cpu_ms_per_call_second", echoes, calls=CALLS)
    report.median("ratio_c_echo", [run.cost / one for run, one in zip(many, echoes, strict=True)])
    report.median(
        "ratio_rtpengine",
        [run.cost / one for run, one in zip(many, relays, strict=True)],
        rtpengine_cpu_ms_per_call_second=[round(one, 4) for one in relays],
        rtpengine_calls=RELAYED_CALLS,
        per_call="two streams in, two out: the caller's and the agent's",
        ratio_to_one_stream=[
            round(2 * run.cost / one, 3) for run, one in zip(many, relays, strict=True)
        ],
    )
    report.median(
        "cost_1000_over_100",
        [a.cost / b.cost for a, b in zip(many, few, strict=True)],
        at_100=[run.told() | {"all": round(run.cost, 4)} for run in few],
    )
    report.median("kib_per_call", [run.kib for run in many], playout_queue_kib=many[0].queue_kib)


def capacity(report: Report) -> None:
    """`calls_per_core`: the most calls that one core carries, media and worker on it together."""
    found = []
    tried: list[dict[str, object]] = []
    calls = 2000
    for run in range(1, report.runs + 1):
        best, step = 0, 250 if run == 1 else 125
        floor, goes_up = max(250, calls), True
        while 0 < floor <= 4000:
            report.say(f"run {run} of {report.runs}: {floor} calls on one core")
            good, why = _carries(floor, run)
            tried.append({"calls": floor, "carried": good, "why": why})
            if good:
                best = floor
                if not goes_up:
                    break
                floor += step
            else:
                if best:
                    break
                goes_up = False
                floor -= step
        found.append(float(best))
        calls = best or calls
    report.median("calls_per_core", found, tried=tried)


def _carries(calls: int, seed: int) -> tuple[bool, str]:
    try:
        run = bridge(calls, seed, loss=0.0, measured_s=3.0)
    except NotVerifiedError as error:
        return False, str(error)
    if run.late["p99"] > 5:
        return False, f"sent {run.late['p99']} ms late (p99)"
    return True, f"sent {run.late['p99']} ms late (p99), {run.cost:.3f} ms a call-second"


def _resident_kib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return float(line.split()[1])
    raise AssertionError("no Rss")


def _played_kib(media: Media) -> float:
    """How much of the playout queues is resident in the media process."""
    path = media.slots_file
    place = media.layout["columns"]["play"]
    size = int(np.prod(place["shape"])) * 2
    for line in Path(f"/proc/{media.pid}/maps").read_text().splitlines():
        if line.endswith(str(path)):
            start, _, end = line.split()[0].partition("-")
            first = int(start, 16) + place["offset"]
            assert first + size <= int(end, 16)
            page = mmap.PAGESIZE
            with Path(f"/proc/{media.pid}/pagemap").open("rb") as pages:
                pages.seek(first // page * 8)
                bits = np.frombuffer(pages.read(-(-size // page) * 8), "u8")
            return float((bits >> np.uint64(63)).sum()) * page / 1024
    raise AssertionError("the slots aren't mapped")
