"""`python -m tests.bench media [--only KEY ...] [--quick]`: measure, print, write the JSON."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import concealment, latency, load, machine, pbx, stt
from tests.bench.goals import GOALS, ON_REQUEST
from tests.bench.report import Report
from tests.bench.verify import NotVerifiedError
from tests.lab.root import REPOSITORY, LabError

# What is measured together, in this order.
PARTS: list[tuple[Callable[[Report], None], tuple[str, ...]]] = [
    (
        load.cost,
        (
            *("bridge_cpu_ms_per_call_second", "ratio_c_echo", "c_echo_cpu_ms_per_call_second"),
            *("ratio_rtpengine", "cost_1000_over_100", "kib_per_call"),
        ),
    ),
    (load.capacity, ("calls_per_core",)),
    (latency.up, ("up_ms_1_call", "up_ms_500_calls")),
    (latency.down, ("down_ms",)),
    (latency.stalled, ("stalled_neighbour_late_ms",)),
    (pbx.calls, ("ratio_asterisk", "one_way_ms")),
    (concealment.pesq, ("pesq",)),
    (concealment.pesq_by_loss, ("pesq_by_loss",)),
    (concealment.cost, ("conceal_us_per_lost_frame",)),
    (stt.lost_points, ("stt_points_lost_at_3_pct_loss",)),
]


def main() -> int:
    """Returns 0 if every asked-for figure could be taken."""
    if sys.argv[1:2] == ["turns"]:
        from tests.bench.turns.command import main as turns

        return turns(sys.argv[2:])
    if sys.argv[1:2] == ["engines"]:
        from tests.bench.engines.command import main as engines

        return engines(sys.argv[2:])
    if sys.argv[1:2] == ["web"]:
        from tests.bench.web.command import main as web

        return web(sys.argv[2:])
    if sys.argv[1:2] == ["capacity"]:
        from tests.bench.capacity.command import main as capacity

        return capacity(sys.argv[2:])
    options = _options()
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {line}", flush=True)

    report = Report(say, runs=1 if options.quick else 3)
    wanted = set(options.only or GOALS.keys() - ON_REQUEST)
    try:
        say("the machine's own noise")
        report.machine = {"before": machine.noise()}
        for part, keys in PARTS:
            if wanted & set(keys):
                _measure(part, keys, report)
        report.machine["after"] = machine.noise()
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    report.machine["seconds"] = round(time.monotonic() - began)
    path: Path = options.out
    report.save(path, [key for key in GOALS if key in report.values or key in report.missing])
    print(f"\n{report.table()}\n")
    for when in ("before", "after"):
        print(f"noise {when}: {report.machine[when]}")
    print(f"\n{path} in {report.machine['seconds']} s")
    return 1 if report.missing else 0


def _measure(part: Callable[[Report], None], keys: tuple[str, ...], report: Report) -> None:
    try:
        part(report)
    except (NotVerifiedError, LabError) as error:  # the other parts are measured all the same
        report.say(f"no figure for {', '.join(keys)}: {error}")
        report.missing.update({key: str(error) for key in keys if key not in report.values})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("bench", choices=["media"])
    parser.add_argument("--only", nargs="+", choices=list(GOALS), metavar="KEY")
    parser.add_argument("--quick", action="store_true", help="one run of each: for development")
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "out" / "bench" / "media.json", metavar="FILE"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
