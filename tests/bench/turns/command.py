"""`python -m tests.bench turns`: measure, print, write out/bench/turns.json.

--only KEY ...    only these figures (paused_ms, false_cuts_pct, ...)
--tune            only the pure layers on the tuning half: a minute, no calls, nothing written
--set KEY=VALUE   with --tune: another value of a setting in the agent's [turns]
--kind KIND       with --tune: only one kind of clip
--wrong           list every clip that went wrong
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.agent import Agent, load
from tests.bench import machine
from tests.bench.goals import Goal
from tests.bench.turns import both, figures, measure, rounds
from tests.bench.turns.corpus import clips
from tests.bench.turns.figures import percentiles
from tests.bench.turns.goals import GOALS, KIND_OF, MORE
from tests.bench.turns.measure import Judged
from tests.bench.verify import NotVerifiedError
from tests.lab.root import REPOSITORY, LabError

CALLS_ONLY = ("paused_ms", "gone_over_min_speech_ms", "heard_error_ms", "voice_to_voice_ms")
"""What only calls can tell; where clips are counted, the pure layers judge the rest of them."""


def main(arguments: Sequence[str]) -> int:
    """Returns 0 if every figure could be taken."""
    options = _options(arguments)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", flush=True)

    try:
        if options.tune:
            return _tune(options)
        return _bench(options, say)
    except (LabError, NotVerifiedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _bench(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    began = time.monotonic()
    keys = options.only or list(GOALS)
    kinds = {KIND_OF[key] for key in keys}
    say("the corpus")
    clips()
    noise = machine.noise()
    results = rounds.run(kinds, say)
    say("the pure layers on the rest")
    rest = [clip for kind in kinds for clip in rounds.never_run(kind, results.judged[kind])]
    on_rest = both.judged(rest)
    tuning = both.judged(clips("tuning"))
    found = {key: _value(key, results.judged, on_rest) for key in keys}
    more = {key: percentiles(values) for key, values in results.more.items()}
    goals = {key: (GOALS[key], found[key]) for key in keys}
    goals |= {key: (MORE[key], value) for key, value in more.items()}
    out = {
        **found,
        "counts": _counts(results.judged, on_rest, kinds),
        "tuning": figures.summary(tuning),
        "goals": {
            key: {"goal": str(goal), "met": goal.met(value)} for key, (goal, value) in goals.items()
        },
        "more": more,
        "behind": _behind(results.judged),
        "machine": {
            "noise": noise,
            "calls": results.calls,
            "phones_late_ms": percentiles(results.late_ms),
            "seconds": round(time.monotonic() - began),
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(out, indent=1) + "\n")
    if options.wrong:
        print(_wrong(results.judged), figures.details(on_rest), sep="\n", end="\n\n")
    print(f"\n{'':28}{'measured':>28}  {'goal':22}met")
    for line in _rows(goals):
        print(line)
    print(f"\ncounts {json.dumps(out['counts'])}")
    print(f"noise {noise}\n{options.out} in {out['machine']['seconds']} s")
    return 0


def _rows(goals: Mapping[str, tuple[Goal, Any]]) -> list[str]:
    """A line for each key: what was measured, its goal, and whether that was met."""
    lines = []
    for key, (goal, value) in goals.items():
        said = {True: "yes", False: "NO", None: "-"}[goal.met(value)]
        lines.append(f"{key:28}{json.dumps(value):>28}  {goal!s:22}{said}")
    return lines


def _value(key: str, real: dict[str, list[Judged]], rest: Sequence[figures.Verdict]) -> Any:
    kind = KIND_OF[key]
    judged = [j for j in real[kind] if not j.void]
    other = [v for v in rest if v.case.clip.kind == kind]
    match key:
        case "paused_ms" | "heard_error_ms" | "voice_to_voice_ms":
            return percentiles(measure.of(judged, key))
        case "gone_over_min_speech_ms":
            least = load(REPOSITORY / "agents", "demo").turns.min_speech_while_speaking_ms
            return percentiles(x - least for x in measure.of(judged, "gone_ms"))
        case "resumed_pct":
            paused = [j for j in judged if j.resumed is not None or j.wrong]
            return _percent(sum(bool(j.resumed) for j in paused), len(paused))
        case _:  # of every clip: by a call where one has told it, else by the pure layers
            wrong = sum(_is_wrong(j.wrong) for j in judged) + sum(_is_wrong(v.wrong) for v in other)
            return _percent(wrong, len(judged) + len(other))


def _is_wrong(what: str) -> bool:
    return bool(what) and what != "no answer"


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None


def _counts(
    real: dict[str, list[Judged]], rest: Sequence[figures.Verdict], kinds: set[str]
) -> dict[str, dict[str, int]]:
    counts = {}
    for kind in sorted(kinds):
        told = sum(not j.void for j in real[kind])
        others = sum(v.case.clip.kind == kind for v in rest)
        counts[kind] = {
            "all": told + others,
            "real_calls": told,
            "void": len(real[kind]) - told,
            "voices": len({clip.voice for clip in clips("held_out", kind) if clip.voice}),  # type: ignore[arg-type]
        }
    return counts


def _behind(real: dict[str, list[Judged]]) -> dict[str, Any]:
    """Every value of the calls, so that one can look again."""
    return {
        kind: [
            {
                "clip": j.said.clip.id,
                "text": j.said.clip.text,
                "voice": j.said.clip.voice,
                **{
                    f.name: round(value, 1) if isinstance(value, float) else value
                    for f in dataclasses.fields(j)
                    if f.name != "said" and (value := getattr(j, f.name)) not in (None, "", 0.0)
                },
            }
            for j in judged
        ]
        for kind, judged in real.items()
    }


def _wrong(real: dict[str, list[Judged]]) -> str:
    lines = []
    for kind, judged in real.items():
        for j in judged:
            if j.wrong or j.resumed is False:
                clip = j.said.clip
                what = j.wrong or f"lost {j.lost_ms:.0f}, repeated {j.repeated_ms:.0f} ms"
                lines.append(f"{kind:12} {clip.sort:11} {what:24} {clip.voice:22} {clip.text!r}")
    return "\n".join(lines)


# ---- tuning --------------------------------------------------------------------------------------


def _tune(options: argparse.Namespace) -> int:
    began = time.monotonic()
    verdicts = both.judged(clips("tuning", options.kind), _agent(options.set))
    if options.wrong:
        print(figures.details(verdicts), end="\n\n")
    print(figures.wrongs(verdicts), end="\n\n")
    for key, value in figures.summary(verdicts).items():
        print(f"{key:28}{json.dumps(value)}")
    print(f"\n{len(verdicts)} clips in {time.monotonic() - began:.0f} s")
    return 0


def _agent(changes: Sequence[str]) -> Agent:
    """The demo's agent, with other settings."""
    agent = load(REPOSITORY / "agents", "demo")
    values = {key: json.loads(value) for key, _, value in (c.partition("=") for c in changes)}
    return dataclasses.replace(agent, turns=dataclasses.replace(agent.turns, **values))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench turns",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(GOALS), metavar="KEY")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--kind", choices=["interruption", "false", "question", "paused"])
    parser.add_argument("--wrong", action="store_true")
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "out" / "bench" / "turns.json", metavar="FILE"
    )
    return parser.parse_args(arguments)
