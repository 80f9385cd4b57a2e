"""`python -m tests.bench turns`: measure, print, write out/bench/turns.json.

    --tune            only the pure layers on the tuning half: a minute, no calls, nothing written
    --set KEY=VALUE   with another value of a setting in the agent's [turns]
    --kind KIND       only one kind of clip
    --wrong           list every clip that went wrong
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence

from bridge.agent import Agent, load
from tests.bench.turns import figures, pure
from tests.bench.turns.corpus import clips
from tests.lab.root import REPOSITORY, LabError


def main(arguments: Sequence[str]) -> int:
    """Returns 0 if every figure could be taken."""
    options = _options(arguments)
    try:
        if options.tune:
            return _tune(options)
        raise LabError("the calls are not there yet: --tune")
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _tune(options: argparse.Namespace) -> int:
    began = time.monotonic()
    chosen = clips("held_out" if options.held_out else "tuning", options.kind)
    verdicts = [figures.judge(case) for case in pure.run(chosen, _agent(options.set))]
    pure.save_words()
    if options.wrong:
        print(figures.details(verdicts), end="\n\n")
    print(figures.wrongs(verdicts), end="\n\n")
    for key, value in figures.summary(verdicts).items():
        print(f"{key:28}{json.dumps(value)}")
    print(f"\n{len(chosen)} clips in {time.monotonic() - began:.0f} s")
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
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--held-out", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--kind", choices=["interruption", "false", "question", "paused"])
    parser.add_argument("--wrong", action="store_true")
    return parser.parse_args(arguments)
