"""`make drill [DRILL=name] [ROUNDS=n]`: holds the drills and writes out/drill/summary.json."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.drill.rounds import Drill, agents, environment
from tests.lab.stack import Stack

OUT = Path("out/drill")


@dataclass(frozen=True)
class Plan:
    """One drill."""

    options: tuple[str, ...]
    strike: Callable[[Stack, Drill], Callable[[], None]]
    packet_gap_p99_ms: float
    answer_gap_p99_ms: float | None = None
    rounds: int = 20
    seconds: float = 13.0


def _kill_worker(stack: Stack, drill: Drill) -> Callable[[], None]:
    return lambda: os.kill(drill.random.choice(stack.bridge.children("worker")), signal.SIGKILL)


def _kill_first(stack: Stack, drill: Drill) -> Callable[[], None]:
    """The worker that has the calls: the eldest."""
    return lambda: os.kill(min(stack.bridge.children("worker"), key=_started), signal.SIGKILL)


def _kill_media(stack: Stack, drill: Drill) -> Callable[[], None]:
    return lambda: os.kill(stack.bridge.serving(), signal.SIGKILL)


def _zombie(stack: Stack, drill: Drill) -> Callable[[], None]:
    def freeze() -> None:
        pid = drill.random.choice(stack.bridge.children("worker"))
        os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(pid, signal.SIGCONT)

    return freeze


def _started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


PLANS = {
    "kill_worker": Plan(("--workers", "2"), _kill_worker, 60, 1000),
    "kill_only_worker": Plan(("--workers", "1", "--spares", "1"), _kill_first, 60, 2000),
    "kill_media": Plan(("--workers", "2"), _kill_media, 200),
    "zombie": Plan(("--workers", "2"), _zombie, 60, rounds=5, seconds=18.0),
}


def hold(
    name: str, rounds: int, calls: int, say: Callable[[str], None], *, takeover: bool = True
) -> dict[str, object]:
    """Hold one drill; its entry in the summary. Without `takeover` it must fail."""
    plan = PLANS[name]
    with tempfile.TemporaryDirectory(prefix="ari-bridge-drill-") as folder:
        settings = {
            "agents": {"folder": str(agents(Path(folder) / "agents"))},
            "worker": {"takeover": takeover},
        }
        stack = Stack(
            settings=settings, options=plan.options, environment=environment(Path(folder))
        )
        with stack:
            drill = Drill(stack, calls=calls, seconds=plan.seconds)
            wanted = len(stack.bridge.children("worker"))
            try:
                for number in range(rounds):
                    _all_there(stack, wanted)
                    drill.round(plan.strike(stack, drill))
                    say(f"{name} {number + 1}/{rounds}: {json.dumps(drill.tally.summary())}")
            finally:
                OUT.mkdir(parents=True, exist_ok=True)
                shutil.copy(stack.bridge.directory / "console", OUT / f"{name}.log")
            for note in drill.tally.notes:
                say(f"{name}: {note}")
            return {**drill.tally.summary(), "calls_at_a_time": calls}


def _all_there(stack: Stack, workers: int) -> None:
    """Wait until every worker that died has a successor that takes calls."""
    import redis

    server = redis.Redis.from_url(stack.redis.url, decode_responses=True)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        about = server.hgetall("ari-bridge:{workers}:about").values()
        pids = stack.bridge.children("media")
        if sum(json.loads(text)["takes"] for text in about) == workers and len(pids) == 2:
            time.sleep(1.0)
            break
        time.sleep(0.1)
    server.close()


def verdict(name: str, found: dict[str, object]) -> list[str]:
    """What of a drill's goals was missed."""
    plan = PLANS[name]
    zeros = ("lost", "transcript_lost", "greeted_twice", "tools_twice", "leftovers", "two_voices")
    missed = [f"{key} is {found[key]}, not 0" for key in (*zeros, "unanswered") if found[key]]
    for key, limit in (
        ("packet_gap_ms", plan.packet_gap_p99_ms),
        ("answer_gap_ms", plan.answer_gap_p99_ms),
    ):
        p99 = found[key]["p99"]  # type: ignore[index]
        if limit is not None and p99 > limit:
            missed.append(f"{key} p99 is {p99}, above {limit}")
    return missed


def main() -> int:
    """Returns 1 if any goal was missed."""
    parser = argparse.ArgumentParser(prog="make drill")
    parser.add_argument("--drill", choices=PLANS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--without-takeover", action="store_true", help="must fail")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() and options.drill else {}
    status = 0
    for name in [options.drill] if options.drill else PLANS:
        rounds = options.rounds or PLANS[name].rounds
        summary[name] = hold(
            *(name, rounds, options.calls, lambda line: print(line, flush=True)),
            takeover=not options.without_takeover,
        )
        path.write_text(json.dumps(summary, indent=2) + "\n")
        for line in verdict(name, summary[name]):
            print(f"{name}: {line}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
