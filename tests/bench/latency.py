"""How long audio takes: up to the worker, down to the wire, and beside a neighbour that stalls."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridge.audio.resample import DELAY_MS
from tests.bench.corpus import load_audio
from tests.bench.generator import FRAME, FRAME_MS, Generator, Heard
from tests.bench.load import checked
from tests.bench.machine import percentiles
from tests.bench.plane import Media, Worker
from tests.bench.report import Report
from tests.bench.verify import RATE, NotVerifiedError, find, lateness_ms, verify
from tests.bench.worker import Task
from tests.lab.capture import Pcm
from tests.lab.speech import resample

ENGINE_RATE = 16_000
FEW, MANY = 1, 500
STALLED_CALLS, STALL_MS = 100, 50
_EDGE = 6
"""Samples by which a frame's end may be misjudged (the resampler's filter is 32 long)."""


def up_delays_ms(
    heard: Heard, stream: int, at: npt.NDArray[np.int64], pcm: Pcm, from_s: float
) -> npt.NDArray[np.float64]:
    """See `up_times`: from its sending to its handing over, ms."""
    sent_ns, frame, _ = up_times(heard, stream, at, pcm, from_s)
    delays: npt.NDArray[np.float64] = (at[frame, 0] - sent_ns) / 1e6
    return delays


def up_times(
    heard: Heard, stream: int, at: npt.NDArray[np.int64], pcm: Pcm, from_s: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Each packet's sending, and the handing over of the frame in which its audio ends.

    What was handed up is found again in what was said, so that nothing depends on how the bridge
    counts. The resampler's constant delay is taken off: a packet's end is looked for `DELAY_MS`
    earlier in its audio.

    Args:
        heard: the run.
        stream: whose frames these are.
        at: (n, 3) ns of monotonic time, audio time in ms, frames; in order.
        pcm: all frames, at the engine's rate.
        from_s: what was said before isn't looked at.

    Returns:
        Of each packet when it was sent, ns; its row of `at`; where its audio ends in the call's, in
        samples of the line.

    Raises:
        NotVerifiedError: the frames don't hold what was said.
    """
    if (np.diff(at[:, 1]) != at[:-1, 2] * FRAME_MS).any():
        raise NotVerifiedError("frames were handed up out of order, or twice, or not at all")
    line = resample(pcm, ENGINE_RATE, RATE)
    said = heard.said(stream)
    begin = int(from_s * RATE)
    place, alike = find(said[begin : begin + 2 * RATE], line)
    if alike < 0.95:
        raise NotVerifiedError(f"the frames don't hold what was said (correlation {alike:.2f})")
    lag = place - begin - int(DELAY_MS * RATE / 1000)  # of the packets, less the filter
    ends = np.cumsum(at[:, 2]) * FRAME  # in samples of the line
    first = begin // FRAME
    last = min(len(heard.sent_ns), (len(line) - max(lag, 0)) // FRAME) - 2
    number = np.arange(first, last)
    end = (number + 1) * FRAME + lag - _EDGE
    frame = np.searchsorted(ends, end)
    sent_ns = heard.sent_ns[number, stream].astype(np.int64)
    if (at[frame, 0] < sent_ns - 1_000_000).any():
        raise NotVerifiedError("frames came before their packets: the bench is wrong")
    return sent_ns, frame, end + int(at[0, 1]) * RATE // 1000


def _up(calls: int, seconds: float, record: int, seed: int) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory(prefix="ari-bench-") as folder,
        Media(calls) as media,
        Generator(calls, seconds, load_audio(), seed=seed) as generator,
    ):
        out = Path(folder) / "frames.npz"
        task = Task("", calls, generator.port, record=record, out=str(out))
        with Worker(media, task) as worker:
            generator.go(media.address)
            heard = checked(generator.wait())
            worker.end()
        verify(heard, most_delay_s=2.0)
        with np.load(out) as arrays:
            streams = [int(name[3:]) for name in arrays.files if name.startswith("at_")]
            delays = [
                up_delays_ms(heard, one, arrays[f"at_{one}"], arrays[f"pcm_{one}"], 2.0)
                for one in streams
            ]
    return percentiles(np.concatenate(delays))


def up(report: Report) -> None:
    """`up_ms_1_call`, `up_ms_500_calls`."""
    for key, calls, record in (("up_ms_1_call", FEW, 1), ("up_ms_500_calls", MANY, 50)):
        runs = []
        for run in range(1, report.runs + 1):
            report.say(f"{key}: run {run} of {report.runs}")
            runs.append(report.attempt(partial(_up, calls, 7.0, record, run)))
        report.medians(
            key, runs, recorded_calls=record, engine_rate=ENGINE_RATE,
            without=f"the resampler's constant {DELAY_MS:g} ms",
        )  # fmt: skip


def down(report: Report) -> None:
    """`down_ms`: a single frame from the engine, its queue empty, to the wire."""
    runs = []
    for run in range(1, report.runs + 1):
        report.say(f"down_ms: run {run} of {report.runs}")
        runs.append(report.attempt(partial(_down, run, frames=30)))
    report.medians("down_ms", runs, frames=30)


def _down(seed: int, frames: int) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory(prefix="ari-bench-") as folder,
        Media(1) as media,
        Generator(1, frames * 0.16 + 2, load_audio(), seed=seed) as generator,
    ):
        out = Path(folder) / "spoken.npz"
        task = Task("", 1, generator.port, echo=False, out=str(out))
        with Worker(media, task) as worker:
            generator.go(media.address)
            time.sleep(1.0)
            worker.speak(frames)
            heard = checked(generator.wait())
            worker.end()
        with np.load(out) as arrays:
            spoken = arrays["spoken"]
    # A tone of 8000 among silence: a packet that holds any of it.
    rows = heard.records[np.argsort(heard.records["ns"], kind="stable")]
    loud = ((rows["payload"] & 0x7F) < 0x60).sum(axis=1) > 20
    at = rows["ns"][loud].astype(np.int64)
    first = at[np.r_[True, np.diff(at) > 60_000_000]]  # each frame and its filter's tail
    if len(first) != frames:
        raise NotVerifiedError(f"{frames} frames were played, {len(first)} came out")
    return percentiles((first - spoken) / 1e6, (50, 99, 100))


def stalled(report: Report) -> None:
    """`stalled_neighbour_late_ms`: packets beside a worker that holds its interpreter lock."""
    runs, without = [], []
    for run in range(1, report.runs + 1):
        for ms, found in ((0, without), (STALL_MS, runs))[run > 1 :]:  # without it, once
            report.say(f"stalled neighbour: run {run} of {report.runs}, {ms} ms of Python")
            found.append(report.attempt(partial(_stalled, ms, run)))
    report.medians(
        "stalled_neighbour_late_ms", runs, without_stall=without, calls=STALLED_CALLS,
        stall=f"{STALL_MS} ms of pure Python every 200 ms, on the same core",
    )  # fmt: skip


def _stalled(stall_ms: int, seed: int) -> dict[str, float]:
    seconds = 7.0
    with (
        Media(STALLED_CALLS) as media,
        Generator(STALLED_CALLS, seconds, load_audio(), seed=seed) as generator,
    ):
        task = Task("", STALLED_CALLS, generator.port, stall_ms=stall_ms)
        with Worker(media, task):
            generator.go(media.address)
            heard = checked(generator.wait())
    verify(heard, most_delay_s=2.0)
    return percentiles(lateness_ms(heard, 2.0, seconds - 0.2), (50, 99, 100))
