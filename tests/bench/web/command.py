"""`python -m tests.bench web [--quick]`: measure, print, write the JSON.

--quick   one run of each, for development
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.bench import machine, recording
from tests.bench.corpus import load_audio
from tests.bench.generator import Generator
from tests.bench.goals import Goal
from tests.bench.load import LATEST_FOR_COST_MS, checked
from tests.bench.machine import cores, cpu_s, on_core, percentiles
from tests.bench.plane import Media, Worker
from tests.bench.report import Report
from tests.bench.verify import NotVerifiedError, lateness_ms, verify
from tests.bench.web.viewers import Job, command
from tests.bench.worker import Task
from tests.lab.bridge import to_toml
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY, LabError, free_port

CALLS, VIEWERS, LINES_PER_S = 200, 5, 60.0
WARM_S, MEASURED_S = 3.0, 8.0
SECONDS = WARM_S + MEASURED_S + 0.5
_START_S = 20.0
RECORDED_ROUNDS = 20

GOALS: dict[str, Goal | None] = {
    "behind_ms": Goal({"p95": 250}),
    "media_late_ms_with": None,
    "media_late_ms_without": None,
    "media_late_ratio": Goal(1.2),
    "web_cpu_percent": None,
    "recording_cpu_ms_per_call_second": Goal(0.5),
}
"""None: there is no goal, the figure stands beside another."""


@contextlib.contextmanager
def dashboard(redis: Redis, media: Media) -> Iterator[tuple[str, str, int]]:
    """The web process on that Redis and that media process' slots: its URL, token, process."""
    token, port = secrets.token_urlsafe(18), free_port()
    with tempfile.TemporaryDirectory(prefix="ari-bench-web-") as folder:
        (Path(folder) / "agents").mkdir()
        file = Path(folder) / "bridge.toml"
        file.write_text(
            to_toml(
                {
                    "redis": {"url": redis.url},
                    "web": {"port": port},
                    "media": {"runtime_dir": str(media.runtime_dir)},
                    "agents": {"folder": "agents"},
                }
            )
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "web", "--config", str(file)],
            env={**os.environ, "ARI_BRIDGE_TOKEN": token},
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            preexec_fn=on_core(cores()[1]),
        )
        assert process.stderr is not None
        try:
            if not any("API at" in line for line in process.stderr):
                raise LabError("the web process did not start")
            yield f"http://127.0.0.1:{port}", token, process.pid
        finally:
            process.terminate()
            process.wait(10)
            process.stderr.close()


def calls(seed: int, watched: bool) -> tuple[float, list[float], float]:
    """`CALLS` calls in progress, followed by `VIEWERS` or by nobody.

    Returns:
        p99 of how late media sent (ms); how old each line was at each viewer (ms); % of a core
        that the web process took.
    """
    with contextlib.ExitStack() as up:
        media = up.enter_context(Media(CALLS))
        generator = up.enter_context(Generator(CALLS, SECONDS, load_audio(), seed=seed))
        up.enter_context(Worker(media, Task("", CALLS, generator.port)))
        redis = up.enter_context(Redis())
        url, token, web = up.enter_context(dashboard(redis, media))
        viewers = VIEWERS if watched else 0
        job = Job(redis.url, url, token, CALLS, viewers, SECONDS - 1.5, LINES_PER_S)
        looking = subprocess.Popen(
            command(job),
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            preexec_fn=on_core(cores()[1]),
        )
        assert looking.stdout is not None
        looking.stdout.readline()
        generator.go(media.address)
        time.sleep(WARM_S)
        spent = cpu_s(web)
        time.sleep(MEASURED_S - 1.0)
        spent = cpu_s(web) - spent
        told = json.loads(looking.stdout.readline())
        looking.wait(10)
        looking.stdout.close()
        heard = checked(generator.wait(), LATEST_FOR_COST_MS)
    verify(heard, most_delay_s=2.0)
    late = percentiles(lateness_ms(heard, WARM_S, SECONDS - 0.2))["p99"]
    if len(told["delays_ms"]) < 0.97 * told["written"] * viewers:
        raise NotVerifiedError("viewers have not seen every line")
    return late, told["delays_ms"], 100 * spent / (MEASURED_S - 1.0)


def live(report: Report) -> None:
    """Everything of calls in progress."""
    beside, alone, behind, costs = [], [], [], []
    for n in range(1, report.runs + 1):
        report.say(f"run {n} of {report.runs}: {CALLS} calls, {VIEWERS} viewers, then none")
        late, delays, cost = report.attempt(partial(calls, n, True))
        beside.append(late)
        behind.append(percentiles(delays, (50, 95, 99)))
        costs.append(cost)
        alone.append(report.attempt(partial(calls, n, False))[0])
    report.medians("behind_ms", behind, viewers=VIEWERS, calls=CALLS, lines_per_s=LINES_PER_S)
    with_ = report.median("media_late_ms_with", beside, percentile=99)
    without = report.median("media_late_ms_without", alone, percentile=99)
    report.median("media_late_ratio", [with_ / without])
    report.median("web_cpu_percent", costs)


def records(report: Report) -> None:
    """What recording costs."""
    with tempfile.TemporaryDirectory(prefix="ari-bench-records-") as folder:
        runs = [recording.run(CALLS, RECORDED_ROUNDS, Path(folder)) for _ in range(report.runs)]
    report.median("recording_cpu_ms_per_call_second", runs, calls=CALLS)


PARTS = [
    (live, tuple(key for key in GOALS if not key.startswith("recording"))),
    (records, ("recording_cpu_ms_per_call_second",)),
]


def main(arguments: Sequence[str]) -> int:
    """Returns 0 if every figure could be taken."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench web", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "out" / "bench" / "web.json")
    options = parser.parse_args(arguments)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {line}", flush=True)

    report = Report(say, runs=1 if options.quick else 3, goals=GOALS)
    try:
        say("the machine's own noise")
        report.machine = {"before": machine.noise()}
        for part, keys in PARTS:
            try:
                part(report)
            except (NotVerifiedError, LabError) as error:  # the other part all the same
                say(f"no figure for {', '.join(keys)}: {error}")
                report.missing.update({k: str(error) for k in keys if k not in report.values})
        report.machine["after"] = machine.noise()
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    report.machine["seconds"] = round(time.monotonic() - began)
    report.save(options.out, [k for k in GOALS if k in report.values or k in report.missing])
    print(f"\n{report.table()}\n\n{options.out} in {report.machine['seconds']} s")
    return 1 if report.missing else 0
