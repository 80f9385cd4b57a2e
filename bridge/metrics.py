"""What this process counts, for Prometheus.

Theory of operation. Workers are several processes, come and go, and one that is killed must not
take its counts with it: a sum that falls is read as a restart of everything, and what was counted
counts again. So each worker writes its counts into files of its own in the runtime directory
(prometheus-client's multiprocess mode: a store to mapped memory each), and the web process adds up
those of the living and the dead whenever it is asked (`bridge.web.metrics`). Gauges ("now") count
of the living only. There is one answer a host, on one port, however many workers it has.

The media process counts for itself and is asked over its control socket: its ticks must not wait
for a page of a file.

Nothing here is done per packet or frame: per call, turn, or ten seconds of a call. Labels are few,
and none has a value for each call or caller. Without `share` the counts stay in the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from pathlib import Path

from bridge.errors import ConfigError

FOLDER = "metrics"
"""In the runtime directory."""
MOST_DEAD = 40
"""Files of dead workers, 64 KiB each, before they are put into one."""
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FILE = re.compile(r"(?P<kind>counter|histogram|gauge_\w+?)_(?P<pid>\d+)\.db")


def folder(runtime_dir: Path) -> Path:
    """Where the counts of a host's workers are."""
    return runtime_dir / FOLDER


def share(runtime_dir: Path) -> None:
    """Count into that directory's files. Before the library is imported, which reads this once.

    Raises:
        ConfigError: the directory can't be made.
    """
    place = folder(runtime_dir)
    try:
        runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"can't write to {runtime_dir}: {error.strerror}; set [media] runtime_dir"
        ) from error
    os.environ[_VARIABLE] = str(place)
    with alone(place):
        bury(place)


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Nobody else reads or tidies up there meanwhile."""
    lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def bury(place: Path) -> None:
    """Take what dead workers said of "now" away, and put their counts together if there are many.

    Whoever starts does that, so that a worker that dies again and again fills no memory.
    """
    dead: dict[str, list[Path]] = {}
    for path in place.glob("*.db"):
        match = _FILE.fullmatch(path.name)
        if match is None or _lives(match["pid"]):
            continue
        if match["kind"].startswith("gauge"):
            path.unlink()
        else:
            dead.setdefault(match["kind"], []).append(path)
    for kind, paths in dead.items():
        if len(paths) > MOST_DEAD:
            _put_together(paths, place / f"{kind}_dead.db")


def _put_together(paths: list[Path], to: Path) -> None:
    from prometheus_client.mmap_dict import MmapedDict

    fresh = to.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    sums: dict[str, float] = {}
    for path in (*paths, to):
        if path.exists():
            for key, value, *_ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
                sums[key] = sums.get(key, 0.0) + value
    file = MmapedDict(str(fresh))  # type: ignore[no-untyped-call]
    for key, value in sums.items():
        file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]
    for path in paths:
        path.unlink()
    fresh.rename(to)


def _lives(pid: str) -> bool:
    """Whether it is a process of ours: the number of a dead one may be anybody's by now."""
    try:
        return b"bridge" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except PermissionError:
        return True
    except OSError:
        return False


class _Meters:
    """The metrics themselves, made when the first thing is counted."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"ari_bridge_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, mode: str, *labels: str) -> Gauge:
            return Gauge(
                *(f"ari_bridge_{name}", text, labels),
                registry=registry,
                multiprocess_mode=mode,  # type: ignore[arg-type]
            )

        def histogram(name: str, text: str, steps: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(
                *(f"ari_bridge_{name}", text, labels), registry=registry, buckets=steps
            )

        self.registry = registry
        # Calls
        self.begun = counter("calls_begun", "Calls that came to a worker.", "direction")
        self.ended = counter("calls_ended", "Calls that ended, by how.", "direction", "result")
        self.calls = gauge("calls", "Calls under way.", "livesum")
        self.lasted = histogram("call_duration_seconds", "How long calls lasted.", _LASTED_S)
        self.set_up = histogram(
            "call_setup_seconds", "From the hand-over of a call to its talking.", _SET_UP_S
        )
        self.taken = counter("takeovers", "Calls that were taken over from another worker.")
        # Turns
        self.waited = histogram(
            "voice_to_voice_seconds",
            "From the caller's last voice to the first packet of the answer.",
            _WAITED_S,
            "engine",
        )
        self.stage = histogram(
            "turn_stage_seconds", "What each stage added to that.", _STAGE_S, "stage"
        )
        self.turns = counter("turns", "Turns that were answered.", "agent")
        self.over = counter(
            "turns_over_budget", "Those slower than the agent's voice_to_voice_ms.", "agent"
        )
        self.barge_in = histogram(
            "barge_in_seconds",
            "From the onset of the caller's speech to the agent's silence.",
            _STAGE_S,
            "reaction",
        )
        self.heard = counter("heard_seconds", "Agent speech that callers heard.")
        # Audio
        self.received = counter("audio_packets_received", "RTP packets that came.", "leg")
        self.lost = counter("audio_packets_lost", "RTP packets that were lost.", "leg")
        self.concealed = counter("audio_concealed_seconds", "Audio made up for lost packets.")
        self.lateness = histogram(
            "audio_lateness_seconds", "How late packets come (95 %, each ten seconds).", _STAGE_S
        )
        self.one_way = histogram(
            "one_way_delay_seconds", "Caller's mouth to our ear, each ten seconds.", _STAGE_S
        )
        # Health
        self.ready = gauge("worker_ready", "Workers that take calls.", "livesum")
        self.workers = gauge("workers", "Workers that live.", "livesum")
        self.redis = gauge("redis_up", "Whether every worker reaches Redis.", "livemin")
        self.asterisk = gauge(
            "asterisk_up", "Whether every worker gets events.", "livemin", "asterisk"
        )
        self.faults = counter("engine_faults", "Engines that were lost.", "engine", "kind")
        self.lag = histogram(
            "worker_lag_seconds", "How late a worker's event loop is, each second.", _LAG_S
        )


_SET_UP_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_LASTED_S = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
_WAITED_S = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0)
_STAGE_S = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 5.0)
_LAG_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_FRAME_MS = 20.0
_MOST_MS = 2000.0
RESULTS = (
    *("hung-up", "transferred", "done", "failed", "unknown-agent", "shutdown"),
    *("busy", "no-answer", "congestion", "unavailable", "machine", "cancelled", "no-input"),
)
"""What `result` may be; others count as `other`, so that nobody's words become labels."""

_meters: _Meters | None = None
_told: Tally[tuple[str, str]] = Tally()


def meters() -> _Meters:
    """This process'."""
    global _meters
    if _meters is None:
        _meters = _Meters()
    return _meters


# Calls ------------------------------------------------------------------------------------------


def call_begun(direction: str, *, taken_over: bool) -> None:
    """A call has come to this worker: a new one, or another worker's."""
    if taken_over:
        meters().taken.inc()
    else:
        meters().begun.labels(direction).inc()


def call_talks(set_up_s: float) -> None:
    """A new call is set up."""
    meters().set_up.observe(set_up_s)


def call_ended(direction: str, result: str, lasted_s: float) -> None:
    """A call is over for everybody."""
    known = result if result in RESULTS else "other"
    meters().ended.labels(direction, known).inc()
    meters().lasted.observe(lasted_s)


# Turns ------------------------------------------------------------------------------------------


def turn(
    agent: str,
    engine: str,
    budget_ms: float,
    waited_ms: float | None,
    stages_ms: Mapping[str, float],
    reactions_ms: Mapping[str, float],
) -> None:
    """What is known of a turn, or of an interruption, that is over.

    Args:
        agent: by name: labels come from the operator's own files.
        engine: by name.
        budget_ms: what the agent allows for voice to voice.
        waited_ms: voice to voice; None: nothing was answered.
        stages_ms: what each stage added to that.
        reactions_ms: from the onset of an interruption to what was done.
    """
    found = meters()
    if waited_ms is not None:
        found.waited.labels(engine).observe(waited_ms / 1000)
        found.turns.labels(agent).inc()
        found.over.labels(agent).inc(int(waited_ms > budget_ms))
        for stage, ms in stages_ms.items():
            found.stage.labels(stage).observe(ms / 1000)
    for reaction, ms in reactions_ms.items():
        if reaction != "resumed":
            found.barge_in.labels(reaction).observe(max(0.0, ms) / 1000)


def heard(ms: float) -> None:
    """A caller has heard so much of the agent."""
    if ms > 0:
        meters().heard.inc(ms / 1000)


class AudioMeter:
    """One call's audio, of which only the difference to the last time is counted."""

    def __init__(self, ours: Mapping[str, float]) -> None:
        """`ours`: `Slot.stats` at the beginning; what another worker had counted counts no more."""
        self._before = {f"pbx {name}": value for name, value in ours.items()}
        self._taken_over = ours.get("received", 0.0) > 0

    def count(self, ours: Mapping[str, float], caller: Mapping[str, float]) -> None:
        """`Slot.stats`, and what the PBX tells of the caller's leg (empty: nothing)."""
        found = meters()
        if caller and self._taken_over:
            self._taken_over = False
            self._before |= {f"caller {name}": value for name, value in caller.items()}
        for leg, told in (("pbx", ours), ("caller", caller)):
            found.received.labels(leg).inc(self._more(leg, "received", told))
            found.lost.labels(leg).inc(self._more(leg, "lost", told))
        found.concealed.inc(self._more("pbx", "concealed_ms", ours) / 1000)
        late_ms = ours.get("late_ms_p95", 0.0)
        found.lateness.observe(late_ms / 1000)
        network_ms = _sane(caller, "round_trip_ms") / 2 + _sane(caller, "jitter_ms")
        waited_ms = network_ms + late_ms + _FRAME_MS  # what comes in order waits for nothing
        found.one_way.observe(waited_ms / 1000)

    def _more(self, leg: str, name: str, told: Mapping[str, float]) -> float:
        now = told.get(name, 0.0)
        before = self._before.get(f"{leg} {name}", 0.0)
        self._before[f"{leg} {name}"] = now
        return max(0.0, now - before)


def _sane(caller: Mapping[str, float], name: str) -> float:
    """What RTCP reports, unless it is no time that a conversation could be held with."""
    ms = caller.get(name, 0.0)
    return ms if 0.0 <= ms < _MOST_MS else 0.0


# Health -----------------------------------------------------------------------------------------


def health(
    *,
    calls: int,
    ready: bool,
    redis: bool,
    asterisks: Mapping[str, bool],
    faults: Mapping[tuple[str, str], int],
    lag_s: float,
) -> None:
    """How this worker is, each second."""
    found = meters()
    found.workers.set(1)
    found.calls.set(calls)
    found.ready.set(int(ready))
    found.redis.set(int(redis))
    for name, up in asterisks.items():
        found.asterisk.labels(name).set(int(up))
    for (engine, kind), count in faults.items():
        found.faults.labels(engine, kind).inc(count - _told[engine, kind])
        _told[engine, kind] = count
    found.lag.observe(max(0.0, lag_s))
