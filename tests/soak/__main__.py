"""`make soak [SOAK_S=1800]`: calls that come and go for half an hour, then more than there is room
for; writes out/soak/summary.json and soak.png.

    --seconds S   how long (default: SOAK_S in the environment, else 1800)
    --calls N     at a time, at least (100)
    --rate N      new calls a second at most, which is how fast they come at the beginning (9)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.bench.machine import cpu_s, ticks
from tests.bench.stt import Listener
from tests.demo.words import normal
from tests.lab.asterisk import Asterisk
from tests.lab.capture import Pcm
from tests.lab.root import REPOSITORY, LabError
from tests.soak.figures import Sample, Soak, memory_picture, missed, picture
from tests.soak.judge import alike
from tests.soak.phones import ALIKE, Phones, be_first
from tests.soak.placer import Placer
from tests.soak.stand import ECHO, GREETING, Memory, Stand

OUT = Path("out/soak")
_CALLERS, _TOO_MANY = 4096, 256
_SPARE = 14
"""So many more calls than asked for are under way: some are ringing, or about to begin."""
_HOLD_MS = (300, 40_000)
_SPREAD_MS = 400
_SHED_RATE = 12
_SHED_HOLD_MS = (5000, 9000)
_MEMORY_EVERY_S = 15.0
_GREETING = "Hello, this is Harbor Street Books. How can I help you?"
_UNDERSTOOD = 0.8


class _Run:
    """One soak."""

    def __init__(self, seconds: float, calls: int, rate: int, say: Callable[[str], None]) -> None:
        self._seconds, self._calls, self._rate, self._say = seconds, calls, rate, say
        self._cap = round((calls + _SPARE) * 1.1)
        self._pids: dict[str, int] = {}
        self._used = (0.0, 0.0, 0.0)
        self._cpu: dict[str, float] = {}

    def hold(self) -> Soak:
        """Hold it."""
        self._say("starting Asterisk, Redis and the bridge (it loads its speech models)")
        with Stand(self._cap, OUT) as stand:
            greetings = _greetings(stand.pbx, self._say)
            self._say(f"the greeting sounds right, in {len(greetings)} renderings; calls come")
            room = 2 * self._cap + _TOO_MANY
            # Two of three call the agent that greets; the numbers of both go through all phases.
            every_s = min(_MEMORY_EVERY_S, self._seconds / 60)
            with (
                Memory(stand.processes, every_s) as memory,
                Phones(
                    *(_CALLERS + _TOO_MANY, room, lambda n: n % 3 == 0, greetings),
                    witness=stand.witness,
                ) as phones,
            ):
                be_first()
                soak = Soak(time.time_ns(), self._seconds, self._cap, memory=memory.samples)
                self._soak(stand, phones, soak)
                soak.more = {
                    **soak.more,
                    "judge_dropped": phones.dropped(),
                    "judge_held_up_ms": round(phones.held_up_ms, 1),
                    "load_average": round(os.getloadavg()[0], 1),
                    "asterisk": stand.pbx.version,
                }
            soak.left_over = stand.leftovers.find()
            soak.ours_ms = stand.set_up_ms()
            soak.stages, soak.late = stand.stages(), phones.late
            soak.calls = phones.calls
        return soak

    def _soak(self, stand: Stand, phones: Phones, soak: Soak) -> None:
        numbers = [ECHO if n % 3 == 0 else GREETING for n in range(_CALLERS)]
        main = Placer(
            *(stand.pbx, phones.port, range(_CALLERS), numbers),
            at_once=self._calls + _SPARE,
            rate=self._rate,
            hold_ms=_HOLD_MS,
            spread_ms=_SPREAD_MS,
        )
        with main:
            phones.placers.append(main)
            soak.more = self._steady(stand, phones, soak)
            self._say("more calls than there is room for")
            soak.shed_ns = time.time_ns()
            last = range(_CALLERS, _CALLERS + _TOO_MANY)
            count = min(len(last), self._cap - self._calls + max(10, self._calls // 3))
            too_many = Placer(
                *(stand.pbx, phones.port, last),
                [ECHO if n % 3 == 0 else GREETING for n in last],
                at_once=count,
                rate=_SHED_RATE,
                hold_ms=_SHED_HOLD_MS,
                count=count,
            )
            with too_many:
                phones.placers.append(too_many)
                while not too_many.done:
                    self._second(phones, soak)
                main.stop()
                self._say("no more calls; those that are there come to their end")
                phones.finish(_HOLD_MS[1] / 1000 + 15)
                errors = main.errors() + too_many.errors()
                (OUT / "sipp.log").write_text(errors)

    def _steady(self, stand: Stand, phones: Phones, soak: Soak) -> dict[str, object]:
        """The soak itself; gives CPU by process, ms a call-second, once all calls were there."""
        said = 0.0
        pids = {"asterisk": stand.pbx.pid, "redis": stand.redis.pid, **stand.processes}
        pids |= {"callers": os.getpid(), "sipp": phones.placers[0].pid}
        self._pids, before = pids, {}
        up_s = 0.0
        while (at_s := (time.time_ns() - soak.began_ns) / 1e9) < self._seconds:
            sample = self._second(phones, soak)
            if not soak.full_ns and sample.up >= self._calls + _SPARE // 2:
                soak.full_ns = time.time_ns()
                before = {name: cpu_s(pid) for name, pid in pids.items()}
            up_s += sample.up if soak.full_ns else 0
            if at_s - said >= 10:
                said = at_s
                self._tell(phones, soak, sample)
        died = stand.died()
        used = {n: cpu_s(pid) - before[n] for n, pid in pids.items() if n not in died}
        costs = {name: round(s * 1000 / up_s, 3) for name, s in used.items()} if up_s else {}
        return {"cpu_ms_per_call_second": costs, "died": died}

    def _second(self, phones: Phones, soak: Soak) -> Sample:
        phones.pump(1.0)
        phones.look()
        at_s = (time.time_ns() - soak.began_ns) / 1e9
        sample = Sample(at_s, len(phones.up), *self._others(), _fixed_work_us())
        soak.samples.append(sample)
        return sample

    def _others(self) -> tuple[float, float, dict[str, float]]:
        """See `Sample`."""
        there = {n: pid for n, pid in self._pids.items() if Path(f"/proc/{pid}").exists()}
        now, cpu = (time.monotonic(), *ticks()), {name: cpu_s(pid) for name, pid in there.items()}
        wall, used, stolen = (b - a for a, b in zip(self._used, now, strict=True))
        busy = {name: 100 * (s - self._cpu.get(name, s)) / wall for name, s in cpu.items()}
        self._used, self._cpu = now, cpu
        return max(0.0, 100 * used / wall - sum(busy.values())), 100 * stolen / wall, busy

    def _tell(self, phones: Phones, soak: Soak, sample: Sample) -> None:
        over = phones.calls
        set_up = [c.setup_ms for c in over if c.setup_ms is not None]
        p99 = f"{np.percentile(set_up, 99):.0f} ms" if set_up else "not known"
        gaps = sum(len(c.heard.gaps) for c in over)
        bad = sum(c.setup_ms is None or c.lost or c.unheard or c.wrong or c.shed for c in over)
        placed = len(over) + len(phones.trying) + len(phones.up)
        memory = sum(soak.memory[-1][1].values()) if soak.memory else 0.0
        self._say(
            f"{sample.up} calls up, {placed} placed, {bad} bad, {gaps} gaps, "
            f"set-up p99 {p99}, {memory:.0f} MiB"
        )


def _fixed_work_us() -> float:
    began = time.thread_time_ns()
    for _ in range(10_000):
        pass
    return (time.thread_time_ns() - began) / 1000


def _greetings(pbx: Asterisk, say: Callable[[str], None]) -> list[Pcm]:
    """How each worker says the agent's greeting, as callers hear it; understood, word for word."""
    count = 4
    with Phones(count, count, lambda n: False) as phones:
        with Placer(
            *(pbx, phones.port, range(count), [GREETING]),
            at_once=count,
            rate=count,
            hold_ms=(6000, 6000),
            count=count,
        ) as placer:
            phones.placers.append(placer)
            phones.finish(30)
        found: list[Pcm] = []
        listener = Listener()
        try:
            for call in phones.calls:
                sound = call.heard.sound
                if any((alike(sound[1600:17600], one) or 0) >= ALIKE for one in found):
                    continue
                words, wanted = listener.words(sound), normal(_GREETING)
                right = sum(word in words for word in wanted) / len(wanted)
                if right < _UNDERSTOOD:
                    raise LabError(f"the greeting was heard as: {' '.join(words) or 'nothing'}")
                found.append(sound)
        finally:
            listener.close()
    pbx.wait_idle()
    if not found:
        raise LabError("nobody answered the first calls; see out/soak")
    return found


def _keep_wrong(soak: Soak) -> None:
    """What was heard instead of something else, to listen to."""
    for call in soak.calls:
        for name, sound in (("heard", call.heard.sound), ("said", call.said)):
            if call.wrong and len(sound):
                with wave.open(str(OUT / f"wrong-{call.caller}-{name}.wav"), "wb") as file:
                    file.setparams((1, 2, 8000, 0, "NONE", ""))
                    file.writeframes(sound.astype("<i2").tobytes())


def main() -> int:
    """Returns 1 if a goal was missed."""
    parser = argparse.ArgumentParser(
        prog="make soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    default = float(os.environ.get("SOAK_S") or 1800)
    parser.add_argument("--seconds", type=float, default=default)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rate", type=int, default=9)
    given = parser.parse_args()
    os.chdir(REPOSITORY)
    OUT.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {line}", flush=True)

    try:
        soak = _Run(given.seconds, given.calls, given.rate, say).hold()
    except LabError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    found = soak.summary()
    found["missed"] = lines = missed(found, given.calls)
    (OUT / "summary.json").write_text(json.dumps(found, indent=2) + "\n")
    (OUT / "odd.json").write_text(json.dumps(soak.odd(), indent=1) + "\n")
    _keep_wrong(soak)
    picture(soak, OUT / "soak.png")
    memory_picture(soak, OUT / "memory.png")
    print(json.dumps(found, indent=2))
    for line in lines:
        print(f"MISSED {line}")
    print(f"{OUT / 'summary.json'}, {OUT / 'soak.png'}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
