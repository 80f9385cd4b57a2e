"""`make drill [DRILL=name] [ROUNDS=n]`: holds the drills and writes out/drill/summary.json."""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from tests.drill.plans import PLANS
from tests.drill.stage import Options
from tests.drill.tally import missed

OUT = Path("out/drill")


def hold(name: str, options: Options) -> dict[str, object]:
    """Hold one drill; its entry in the summary."""
    began = time.monotonic()
    try:
        found = PLANS[name].hold(options).summary()
    except Exception as error:  # noqa: BLE001 - the others are held all the same
        traceback.print_exc()
        return {"missed": [f"it broke off: {error!r}"]}
    return {
        **found,
        "calls_at_a_time": options.calls,
        "seconds": round(time.monotonic() - began),
        "missed": missed(found, PLANS[name].goals),
    }


def main() -> int:
    """Returns 1 if any goal was missed; without takeover, if none was."""
    parser = argparse.ArgumentParser(prog="make drill")
    parser.add_argument("--drill", choices=PLANS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=900, help="of the drill chaos")
    parser.add_argument("--without-takeover", action="store_true", help="must fail")
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    # What was drilled without takeover is no result of ours.
    path = OUT / ("without-takeover.json" if given.without_takeover else "summary.json")
    summary = json.loads(path.read_text()) if path.exists() and given.drill else {}
    status = 0
    for name in [given.drill] if given.drill else PLANS:
        options = Options(
            rounds=given.rounds or PLANS[name].rounds,
            calls=given.calls,
            seed=given.seed,
            takeover=not given.without_takeover,
            seconds=given.seconds,
            say=lambda line: print(line, flush=True),
            out=OUT,
        )
        summary[name] = found = hold(name, options)
        path.write_text(json.dumps(summary, indent=2) + "\n")
        print(f"{name}: {_line(found)}", flush=True)
        for line in found["missed"]:  # type: ignore[attr-defined]
            print(f"{name}: MISSED {line}", flush=True)
        if given.without_takeover:
            print(f"{name}: without takeover it {_verdict(found)}", flush=True)
        if bool(found["missed"]) is not given.without_takeover:
            status = 1
    return status


def _verdict(found: Mapping[str, object]) -> str:
    return "fails, as it must" if found["missed"] else "CAN'T FAIL: this drill is worth nothing"


def _line(found: Mapping[str, object]) -> str:
    return json.dumps({key: value for key, value in found.items() if key != "missed"})


if __name__ == "__main__":
    sys.exit(main())
