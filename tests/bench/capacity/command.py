"""`python -m tests.bench capacity [--counts 25 50 ...]`: measure, print, write the JSON and the
pictures.

--counts N ...   calls at a time of the curve
--pictures       draw them again from the JSON, measure nothing
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.capacity import calls, storm
from tests.bench.capacity.store import Costs, Sizes, sizes
from tests.bench.verify import NotVerifiedError
from tests.lab.root import REPOSITORY, LabError

COUNTS = [25, 50, 100, 150]
SIZES = [(20, 1500), (400, 30_000)]
"""Workers and live calls that Redis is measured with: 10 hosts and 200."""
HOSTS = [2, 5, 10, 20, 30, 50, 100, 200, 500, 1000]
WORKERS, CALLS, ASTERISKS = 2, 75, 1
"""Of each host in the simulation; and over how many Asterisks a host's calls lie."""
WRITE_MS = 0.05
"""Redis' CPU for a call's own notes, ms a call-second, where no soak has measured it."""
_SOAK = REPOSITORY / "out" / "soak" / "summary.json"
_OUT = REPOSITORY / "out" / "bench"


def main(arguments: Sequence[str]) -> int:
    """Returns 0 if all was measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench capacity", description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--out", type=Path, default=_OUT / "capacity.json", metavar="FILE")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        if given.pictures:
            found = json.loads(given.out.read_text())
        else:
            found = _measure(given.counts)
            found["seconds"] = round(time.monotonic() - began)
    except (LabError, NotVerifiedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    found["storm"] = _simulate(found)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    _draw_calls(found, given.out.with_name("capacity.png"))
    _draw_hosts(found, given.out.with_name("capacity-hosts.png"))
    _print(found)
    print(f"\n{given.out}, capacity.png, capacity-hosts.png")
    return 0


def _measure(counts: list[int]) -> dict[str, Any]:
    before = machine.noise()
    print("calls through Asterisk", flush=True)
    points, taken = calls.curve(counts, _OUT / "capacity")
    print("questions to Redis", flush=True)
    asked = sizes(SIZES)
    return {
        "noise": before,
        "points": [one.told() for one in points],
        "takeover": taken,
        "redis": [one.told() for one in asked],
        "write_ms": _write_ms(),
    }


def _write_ms() -> float:
    """What a call's notes cost Redis in the last soak."""
    if _SOAK.exists():
        told = json.loads(_SOAK.read_text())["cpu_ms_per_call_second"]
        return float(told.get("redis", WRITE_MS))
    return WRITE_MS


def _simulate(found: Mapping[str, Any]) -> list[dict[str, object]]:
    few, many = (
        Sizes(
            *(one["workers"], one["calls"]),
            *(Costs(**one[name]) for name in ("beat", "live", "claim")),
        )
        for one in found["redis"]
    )
    cost = storm.costs(few, many, found["takeover"], found["write_ms"])
    return [asdict(storm.die(cost, n, WORKERS, CALLS, asterisks=ASTERISKS)) for n in HOSTS]


def _print(found: Mapping[str, Any]) -> None:
    head = f"{'engine':10}{'calls':>6}{'media':>8}{'workers':>9}{'bridge':>8}{'asterisk':>10}"
    print(f"\n{head}  calls a core   gaps")
    for one in found["points"]:
        print(
            f"{one['engine']:10}{one['calls']:6}{one['media']:8.2f}{one['workers']:9.2f}"
            f"{one['bridge']:8.2f}{one['asterisk']:10.2f}"
            f"{1000 / one['bridge']:14.0f}{one['gaps']:7}"
        )
    print(f"a takeover, CPU a call: {found['takeover']}")
    for one in found["redis"]:
        print(f"{one['workers']} workers, {one['calls']} calls: ", end="")
        print(", ".join(f"{n} {one[n]}" for n in ("beat", "live", "claim")))
    print(f"\n{'hosts':>5}  Redis busy  every worker held up  silent p50, longest")
    for one in found["storm"]:
        p50, longest = one["silent_s"]
        print(
            f"{one['hosts']:5}{one['redis_busy'] * 100:10.1f} %{one['look_ms']:15.1f} ms"
            f"{p50:15.2f}, {longest:.2f} s"
        )


def _draw_calls(found: Mapping[str, Any], path: Path) -> None:
    """Cores that so many calls take."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for n, engine in enumerate(calls.ENGINES):
        points = [one for one in found["points"] if one["engine"] == engine]
        count = [one["calls"] for one in points]
        for who, style in (("bridge", "o-"), ("asterisk", "o:")):
            cores = [one["calls"] * one[who] / 1000 for one in points]
            axes.plot(count, cores, style, color=f"C{n}", label=f"{engine}: {who}")
    axes.set_xlabel("calls at a time")
    axes.set_ylabel("cores in use")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _draw_hosts(found: Mapping[str, Any], path: Path) -> None:
    """What one Redis for so many hosts comes to."""
    plt = _pyplot()
    storms = found["storm"]
    hosts = [one["hosts"] for one in storms]
    figure, (busy, silent) = plt.subplots(2, 1, figsize=(8, 6), sharex=True)
    busy.plot(hosts, [one["redis_busy"] for one in storms], "o-")
    busy.axhline(1.0, ls="--", lw=0.8, color="C3")
    busy.set_ylabel("Redis' thread in use")
    busy.set_yscale("log")
    for n, name in enumerate(("p50", "longest")):
        silent.plot(hosts, [one["silent_s"][n] for one in storms], "o-", label=name)
    silent.axhline(2.5, ls="--", lw=0.8, color="C3")
    silent.set_ylabel("silence when a host dies, s")
    silent.set_xlabel(f"hosts with one Redis ({WORKERS} workers and {CALLS} calls each)")
    silent.set_xscale("log")
    silent.set_ylim(0, 3)
    silent.legend(fontsize=8)
    for axes in (busy, silent):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt
