"""`python -m tests.bench engines [--only KEY ...] [--quick]`: measure, print, write the JSON.

--only KEY ...   only what these figures need
--quick          one run of each, for development
--calls N        another number of calls, for development
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.bench import machine
from tests.bench.engines import calls
from tests.bench.engines.goals import GOALS
from tests.bench.machine import percentiles
from tests.bench.report import Report
from tests.bench.speculation import speculation
from tests.bench.verify import NotVerifiedError
from tests.lab.root import REPOSITORY, LabError

CALLS, PIPED = 200, 16
"""Of all calls, and of those whose bot is Pipecat's: as many as it can take beside the others."""


def websocket(report: Report, count: int) -> None:
    """`websocket.*`."""
    _cost(report, "websocket", count, 0)


def twilio(report: Report, count: int) -> None:
    """`twilio.*`, `pipecat.*`, `ratio_pipecat`: in the same runs."""
    runs = _cost(report, "twilio", count, max(1, count * PIPED // CALLS))
    report.median(
        "pipecat.cpu_ms_per_call_second", [run.pipecat for run in runs], calls=runs[0].piped
    )
    report.median("ratio_pipecat", [run.bridge / run.pipecat for run in runs])


def _cost(report: Report, engine: str, count: int, piped: int) -> list[calls.Run]:
    runs = []
    for n in range(1, report.runs + 1):
        report.say(f"run {n} of {report.runs}: {count} calls to bots by {engine}")
        runs.append(report.attempt(partial(calls.run, engine, count, piped, n)))
        delays = percentiles(runs[-1].back.delays_ms, (50, 99, 100))
        report.say(f"run {n}: {runs[-1].bridge:.3f} ms a call-second; added {delays}")
    report.median(
        f"{engine}.cpu_ms_per_call_second",
        [run.bridge for run in runs],
        calls=count,
        each=[run.told() for run in runs],
    )
    report.medians(
        f"{engine}.added_ms",
        [percentiles(run.back.delays_ms, (50, 99, 100)) for run in runs],
        without="the resamplers' constant delay; the bot is in it",
    )
    return runs


PARTS: list[tuple[Callable[[Report, int], None], tuple[str, ...]]] = [
    (websocket, ("websocket.cpu_ms_per_call_second", "websocket.added_ms")),
    (
        twilio,
        (
            *("twilio.cpu_ms_per_call_second", "twilio.added_ms"),
            *("pipecat.cpu_ms_per_call_second", "ratio_pipecat"),
        ),
    ),
    (speculation, ("speculation.first_audio_saved_ms",)),
]
"""What is measured together, in this order."""


def main(arguments: Sequence[str]) -> int:
    """Returns 0 if every asked-for figure could be taken."""
    options = _options(arguments)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {line}", flush=True)

    report = Report(say, runs=1 if options.quick else 3, goals=GOALS)
    wanted = set(options.only or GOALS)
    try:
        say("the machine's own noise")
        report.machine = {"before": machine.noise()}
        for part, keys in PARTS:
            if wanted & set(keys):
                _measure(part, keys, report, options.calls)
        report.machine["after"] = machine.noise()
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    report.machine["seconds"] = round(time.monotonic() - began)
    path: Path = options.out
    report.save(path, [key for key in GOALS if key in report.values or key in report.missing])
    print(f"\n{report.table()}\n\n{path} in {report.machine['seconds']} s")
    return 1 if report.missing else 0


def _measure(
    part: Callable[[Report, int], None], keys: tuple[str, ...], report: Report, count: int
) -> None:
    try:
        part(report, count)
    except (NotVerifiedError, LabError) as error:  # the other parts are measured all the same
        report.say(f"no figure for {', '.join(keys)}: {error}")
        report.missing.update({key: str(error) for key in keys if key not in report.values})


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench engines", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(GOALS), metavar="KEY")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "out" / "bench" / "engines.json", metavar="FILE"
    )
    return parser.parse_args(arguments)
