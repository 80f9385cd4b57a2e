"""What a soak came to: its summary, what of it missed a goal, and its picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.soak.phones import Call
from tests.soak.witness import Late

LEAST_CALLS = 100
SETUP_P99_MS = 300.0
GROWTH_MIB = 10.0
ZEROS = (
    *("failed_setups", "lost", "audio_gaps", "unheard", "wrong_audio", "shed_early"),
    *("leftovers", "judge_dropped", "died"),
)


@dataclass
class Sample:
    """How things stood at a moment."""

    at_s: float
    """Since the beginning."""
    up: int
    others: float = 0.0
    """What everybody but Asterisk, Redis, the bridge and its callers took of the machine since the
    sample before, and what the hypervisor did: percent of a core."""
    stolen: float = 0.0
    busy: Mapping[str, float] = field(default_factory=dict)
    """What each process took, percent of a core."""
    work_us: float = 0.0
    """CPU time of a fixed piece of work: more of it is a slower machine."""


@dataclass
class Soak:
    """Everything that was seen."""

    began_ns: int
    seconds: float
    """Until more calls were offered than there was room for."""
    cap: int
    full_ns: int = 0
    """The first call up to there, and the first of too many."""
    shed_ns: int = 0
    samples: list[Sample] = field(default_factory=list)
    memory: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    """See `Memory.samples`."""
    late: Mapping[tuple[int, float], Late] = field(default_factory=dict)
    """See `Phones.late`."""
    stages: list[Mapping[str, float]] = field(default_factory=list)
    """See `Stand.stages`."""
    calls: list[Call] = field(default_factory=list)
    ours_ms: list[float] = field(default_factory=list)
    """See `Stand.set_up_ms`."""
    left_over: Mapping[str, int] = field(default_factory=dict)
    more: Mapping[str, object] = field(default_factory=dict)

    def summary(self) -> dict[str, object]:
        """As it stands in summary.json."""
        before = [c for c in self.calls if not self.shed_ns or c.began.at_ns < self.shed_ns]
        full_s = (self.full_ns - self.began_ns) / 1e9
        full = [s.up for s in self.samples if full_s <= s.at_s < self.seconds]
        # The human whom the dialplan falls back to says hello, and then Asterisk sends nothing.
        gaps = [(at, ms) for c in self.calls if not c.shed for at, ms in c.heard.gaps]
        early = [ms for at, ms in gaps if not self.shed_ns or at < self.shed_ns]
        compared = [c.alike for c in before if c.alike is not None and not c.shed]
        return {
            "seconds": round(self.seconds),
            "calls": min(full, default=0),
            "calls_mean": round(float(np.mean(full)), 1) if full else 0,
            "placed": len(before),
            "failed_setups": sum(c.setup_ms is None for c in before),
            "lost": sum(c.lost for c in before),
            "setup_ms": _percentiles([c.setup_ms for c in before if not c.shed]),
            "of_it_ours_ms": _percentiles(self.ours_ms),
            "stages_ms": {
                name: _percentiles([one.get(name) for one in self.stages])
                for name in dict.fromkeys(name for one in self.stages for name in one)
            },
            "first_audio_ms": _percentiles([c.first_audio_ms for c in before if not c.shed]),
            "packets": sum(c.heard.packets for c in self.calls),
            "audio_gaps": len(early),
            "longest_gap_ms": round(max(early, default=0.0), 1),
            "others_percent": _percentiles([s.others for s in self.samples[1:]]),
            "stolen_percent": _percentiles([s.stolen for s in self.samples[1:]]),
            "fixed_work_us": _percentiles([s.work_us for s in self.samples[1:]]),
            "late": dict(Counter(self.late[gap].by for gap in gaps if gap in self.late)),
            "unheard": sum(c.unheard for c in before),
            "compared": len(compared),
            "alike": {
                "p1": round(float(np.percentile(compared, 1)), 3) if compared else None,
                "min": round(min(compared), 3) if compared else None,
            },
            "wrong_audio": sum(c.wrong for c in before),
            "shed_early": sum(c.shed for c in before),
            **self._memory(),
            "leftovers": sum(self.left_over.values()),
            "left_over": dict(self.left_over),
            **self._shed(gaps),
            **self.more,
        }

    def _memory(self) -> dict[str, object]:
        """What it is after a quarter and at the end: medians of a tenth of the time."""

        def around(first: float, last: float, name: str = "") -> float | None:
            span = first * self.seconds, last * self.seconds
            times = [((at - self.began_ns) / 1e9, mib) for at, mib in self.memory]
            mib = [m for at_s, m in times if span[0] <= at_s <= span[1]]
            found = [m.get(name, 0.0) if name else sum(m.values()) for m in mib]
            return round(float(np.median(found)), 1) if found else None

        quarter, end = around(0.25, 0.35), around(0.9, 1.0)
        growth = None if quarter is None or end is None else round(end - quarter, 1)
        names = dict.fromkeys(name for _, mib in self.memory for name in mib)
        return {
            "rss_mib": {"quarter": quarter, "end": end},
            "rss_growth_mib": growth,
            "rss_by_process": {n: [around(0.25, 0.35, n), around(0.9, 1.0, n)] for n in names},
        }

    def _shed(self, gaps: Sequence[tuple[int, float]]) -> dict[str, object]:
        """What became of the calls that began when there were too many."""
        if not self.shed_ns:
            return {}
        late = [c for c in self.calls if c.began.at_ns >= self.shed_ns]
        hurt = [ms for at, ms in gaps if at >= self.shed_ns]
        failed = sum(c.setup_ms is None or c.lost or c.unheard for c in late)
        wrong = sum(c.wrong for c in late)
        found = {
            "offered": len(late),
            "to_the_dialplan": sum(c.shed for c in late),
            "failed": failed,
            "wrong_audio": wrong,
            "audio_gaps": len(hurt),
            "setup_ms": _percentiles([c.setup_ms for c in late if not c.shed]),
        }
        ok = bool(found["to_the_dialplan"]) and not (failed or wrong or hurt)
        return {"shed": found, "shed_ok": ok}

    def odd(self) -> list[dict[str, object]]:
        """Calls with something wrong, to look for in the logs."""
        return [
            {
                "caller": c.caller,
                "at_s": round((c.began.at_ns - self.began_ns) / 1e9, 3),
                "called": "echo" if c.echo else "agent",
                "setup_ms": c.setup_ms,
                "packets": c.heard.packets,
                "gaps_ms": [round(ms, 1) for _, ms in c.heard.gaps],
                "gaps_at_s": [round((at - self.began_ns) / 1e9, 3) for at, _ in c.heard.gaps],
                "late": [self.late[gap] for gap in c.heard.gaps if gap in self.late],
                "alike": c.alike,
                "lasted_s": round((c.ended_ns - c.up_ns) / 1e9, 3),
                "is": [n for n in ("lost", "unheard", "wrong", "shed") if getattr(c, n)],
            }
            for c in self.calls
            if c.setup_ms is None or c.heard.gaps or c.lost or c.unheard or c.wrong or c.shed
        ]


def missed(found: Mapping[str, object], least_calls: int = LEAST_CALLS) -> list[str]:
    """What of a summary misses its goal."""
    lines = [f"{key} is {found[key]}, not 0" for key in ZEROS if found[key]]
    if (calls := int(str(found["calls"]))) < least_calls:
        lines.append(f"calls is {calls}, not {least_calls} at any time")
    set_up = found["setup_ms"]
    assert isinstance(set_up, Mapping)
    if set_up["p99"] is None or set_up["p99"] > SETUP_P99_MS:
        lines.append(f"setup_ms p99 is {set_up['p99']}, above {SETUP_P99_MS:g}")
    growth = found["rss_growth_mib"]
    if growth is None or float(str(growth)) > GROWTH_MIB:
        lines.append(f"rss_growth_mib is {growth}, above {GROWTH_MIB:g}")
    if not found["compared"]:
        lines.append("no call was long enough to compare its sound")
    if found.get("shed_ok") is not True:
        lines.append("shed_ok isn't true: see shed")
    return lines


def picture(soak: Soak, path: Path) -> None:
    """Calls, set-up, memory and gaps over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    def at(ns: int) -> float:
        return (ns - soak.began_ns) / 1e9

    figure, panels = plt.subplots(5, 1, figsize=(10, 12), sharex=True)
    calls, setup, memory, busy, work = panels
    calls.plot([s.at_s for s in soak.samples], [s.up for s in soak.samples])
    calls.axhline(soak.cap, ls="--", lw=0.8, color="grey")
    calls.text(0, soak.cap, " as many as the bridge takes", va="bottom", fontsize=8)
    calls.set_ylabel("calls at a time")
    for shed, colour in ((False, "C0"), (True, "C3")):
        some = [c for c in soak.calls if c.setup_ms is not None and c.shed is shed]
        name = "answered by the dialplan" if shed else "answered by an agent"
        points = [at(c.began.at_ns) for c in some], [c.setup_ms for c in some]
        setup.plot(*points, ".", ms=2, color=colour, label=name)
    setup.axhline(SETUP_P99_MS, ls="--", lw=0.8, color="grey")
    setup.set_yscale("log")
    setup.set_ylabel("set-up, ms")
    setup.legend(fontsize=8)
    memory.plot([at(ns) for ns, _ in soak.memory], [sum(m.values()) for _, m in soak.memory])
    memory.set_ylabel("memory, MiB")
    steady = soak.samples[1:]  # the first has seen the start
    for name in dict.fromkeys(name for s in steady for name in s.busy):
        shares = _smooth([s.busy.get(name, 0.0) for s in steady])
        if max(shares) >= 1:
            busy.plot([s.at_s for s in steady], shares, lw=0.8, label=name)
    busy.plot([s.at_s for s in steady], _smooth([s.others for s in steady]), lw=0.8, label="others")
    busy.set_ylabel("CPU, % of a core")
    busy.legend(fontsize=8, loc="upper right")
    work.plot([s.at_s for s in steady], _smooth([s.work_us for s in steady]), lw=0.8)
    work.set_ylabel("fixed work, µs")
    work.set_xlabel("seconds")
    for axes in panels:
        for call in soak.calls:
            for end, _ in [] if call.shed else call.heard.gaps:
                axes.axvline(at(end), color="C1", lw=0.5)
    figure.suptitle("orange: a packet gap over 60 ms at a caller", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _smooth(values: Sequence[float], window: int = 10) -> list[float]:
    """Medians of so many samples around each."""
    around = range(len(values))
    return [float(np.median(values[max(0, n - window // 2) : n + window // 2 + 1])) for n in around]


def memory_picture(soak: Soak, path: Path) -> None:
    """Each process' memory over time, less what it had after a quarter of it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (whole, grown) = plt.subplots(2, 1, figsize=(10, 8), sharex=True)
    times = [(ns - soak.began_ns) / 1e9 for ns, _ in soak.memory]
    quarter = next((n for n, at in enumerate(times) if at >= soak.seconds / 4), 0)
    for name in dict.fromkeys(name for _, mib in soak.memory for name in mib):
        mib = [sample.get(name, 0.0) for _, sample in soak.memory]
        whole.plot(times, mib, label=name)
        grown.plot(times, [m - mib[quarter] for m in mib])
    whole.set_ylabel("memory, MiB")
    whole.legend(fontsize=8)
    grown.set_ylabel("since a quarter of the time, MiB")
    grown.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _percentiles(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [v for v in values if v is not None]
    if not known:
        return {"p50": None, "p99": None, "max": None}
    p50, p99, most = np.percentile(known, (50, 99, 100))
    return {"p50": round(p50, 1), "p99": round(p99, 1), "max": round(most, 1)}
