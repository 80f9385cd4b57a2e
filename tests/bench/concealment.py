"""How lost packets sound, and what making them up costs: through the plane's own receiving half.

Speech goes packet by packet into a `Plane` whose socket is an array; some packets are left out by a
seeded pattern. What comes out of the slot's ring is scored against the clean line's by PESQ (ITU-T
P.862, narrow band), beside silence and the repetition of the last frame on the same pattern.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bridge.audio.conceal import HISTORY_MS, ConcealBank
from bridge.media.plane import Plane
from bridge.media.slots import SlotMap
from bridge.media.udp import BATCH, ROOM, ip_number, key
from tests.bench.corpus import encode, speech, utterances
from tests.bench.generator import FRAME, FRAME_MS
from tests.bench.report import Report
from tests.lab.capture import PCMU, RATE, TABLES, Pcm
from tests.lab.root import LabError

Pattern = npt.NDArray[np.bool_]
_PESQ_S = 8
"""Seconds of what is scored at once, as P.862 wants it."""
_PESQ_PARTS = 8
_LOSSES = 64


class Wire:
    """A socket that gives what it is told to, and swallows what is sent: a `Link` of no network."""

    def __init__(self) -> None:
        self.errors = 0
        self.buffer = np.zeros((BATCH, ROOM), np.uint8)
        self.out = np.zeros((BATCH, ROOM), np.uint8)
        self._length: list[int] = []

    def put(self, datagram: bytes) -> None:
        """The next `receive` gives this one too."""
        self.buffer[len(self._length), : len(datagram)] = np.frombuffer(datagram, np.uint8)
        self._length.append(len(datagram))

    def set_remote(self, call: int, ip: int, port: int) -> None:
        """There is but one."""

    def receive(self) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """What was put."""
        n, lengths = len(self._length), np.array(self._length, np.int64)
        self._length.clear()
        sender = key(np.array([ip_number("127.0.0.1")]), np.array([4000]))
        return n, lengths, np.repeat(sender, n)

    def send(self, calls: npt.NDArray[np.intp], length: object) -> int:
        """Gone."""
        return len(calls)


def through_the_plane(pcm: Pcm, lost: Pattern) -> Pcm:
    """What a worker gets of speech (whole frames) whose `lost` packets never come."""
    payload = encode(pcm).reshape(-1, FRAME)
    with tempfile.TemporaryDirectory(prefix="ari-bench-") as folder:
        slots = SlotMap.create(Path(folder) / "slots", 1, 1000)
        wire = Wire()
        plane = Plane(slots, wire, 0.0)  # type: ignore[arg-type]
        plane.open(0.0, "bench", (ip_number("127.0.0.1"), 4000), "PCMU")
        head = slots.columns["t_head"]
        ring = slots.up[8][0].reshape(-1)
        out: list[Pcm] = []
        read, now = 0, 0.0
        for k in range(len(payload) + 20):
            now += FRAME_MS
            if k < len(payload) and not lost[k]:
                header = np.array([0x80, 0, k >> 8 & 255, k & 255], np.uint8).tobytes()
                header += (k * FRAME).to_bytes(4, "big") + b"\0\0\0\1"
                wire.put(header + payload[k].tobytes())
            for part in range(4):
                plane.tick(now + part * 5)
                out.append(ring[np.arange(read, int(head[0])) % len(ring)])
                read = int(head[0])
    whole = np.concatenate(out)
    lead = int(np.argmax(whole != 0)) // FRAME * FRAME  # silence before the first packet
    return _aligned(whole, pcm, lead)


def _aligned(got: Pcm, pcm: Pcm, guess: int) -> Pcm:
    """`got` from where it holds the beginning of `pcm`, in whole frames; as long as that."""
    clean = TABLES[PCMU][encode(pcm)]
    span = min(len(clean), RATE)
    at = range(max(0, guess - 4 * FRAME), guess + 5 * FRAME, FRAME)
    padded = np.pad(got, (0, len(clean) + 10 * FRAME))
    start = max(at, key=lambda i: int((padded[i : i + span] == clean[:span]).sum()))
    return padded[start : start + len(clean)]


def random_pattern(frames: int, loss: float, seed: int) -> Pattern:
    """Each packet by itself."""
    lost = np.random.default_rng(seed).random(frames) < loss
    lost[:10] = False
    return lost


def burst_pattern(frames: int, loss: float, seed: int, mean: float = 3.0) -> Pattern:
    """Gilbert's model: bursts of `mean` packets on average, all lost."""
    rng = np.random.default_rng(seed)
    leave, enter = 1 / mean, loss / (1 - loss) / mean
    lost, bad = np.zeros(frames, bool), False
    for k in range(10, frames):
        bad = rng.random() >= leave if bad else rng.random() < enter
        lost[k] = bad
    return lost


def pesq(report: Report) -> None:
    """`pesq`: concealment, silence and repetition, on the same lost packets."""
    _compare(report, "pesq", ("random_3", "random_10", "burst_5"))


def pesq_by_loss(report: Report) -> None:
    """`pesq_by_loss`: the same for more kinds of loss; 3 minutes, so only when asked for."""
    kinds = [f"{kind}_{percent}" for kind in ("random", "burst") for percent in (1, 3, 5, 10, 20)]
    _compare(report, "pesq_by_loss", kinds)


def _compare(report: Report, key: str, cases: Sequence[str]) -> None:
    """Each case names its pattern and how many per cent are lost."""
    try:
        from pesq import pesq as score
    except ImportError:
        raise LabError("pesq is not installed: run 'tests/lab/setup.sh bench'") from None
    pcm = _speech_only()[: _PESQ_PARTS * _PESQ_S * RATE]
    clean = TABLES[PCMU][encode(pcm)]
    frames = len(pcm) // FRAME
    patterns = {"random": random_pattern, "burst": burst_pattern}
    runs: list[dict[str, float]] = []
    beside: dict[str, dict[str, list[float]]] = {}
    for seed in range(1, report.runs + 1):
        found = {}
        for name in cases:
            report.say(f"{key}: {name}, pattern {seed} of {report.runs}")
            kind, percent = name.split("_")
            lost = patterns[kind](frames, int(percent) / 100, seed)
            ways = {
                "bridge": through_the_plane(pcm, lost),
                "silence": _replaced(clean, lost, 0),
                "repeat": _replaced(clean, lost, 1),
            }
            for way, got in ways.items():
                parts = [
                    score(
                        RATE, clean[at : at + _PESQ_S * RATE], got[at : at + _PESQ_S * RATE], "nb"
                    )
                    for at in range(0, len(pcm), _PESQ_S * RATE)
                ]
                beside.setdefault(name, {}).setdefault(way, []).append(
                    round(statistics.mean(parts), 3)
                )
            found[name] = beside[name]["bridge"][-1]
        runs.append(found)
    report.medians(key, runs, beside=beside, seconds_scored=len(pcm) // RATE)


def _speech_only() -> Pcm:
    """The utterances without long pauses: nothing is lost in silence."""
    whole = np.concatenate([one.pcm for one in utterances()[::2]])
    return whole[: len(whole) // FRAME * FRAME]


def _replaced(clean: Pcm, lost: Pattern, repeat: int) -> Pcm:
    """Lost frames as silence (0), or as the frame before (1)."""
    out = clean.reshape(-1, FRAME).copy()
    for k in np.flatnonzero(lost):
        out[k] = out[k - 1] * repeat
    return out.reshape(-1)


def cost(report: Report) -> None:
    """`conceal_us_per_lost_frame`: a lost frame begun, made and blended into the next, batched."""
    pcm = speech()
    rng = np.random.default_rng(1)
    at = rng.integers(HISTORY_MS * 8, len(pcm) - FRAME, _LOSSES)
    history = pcm[at[:, None] - np.arange(HISTORY_MS * 8, 0, -1)]
    after = pcm[at[:, None] + np.arange(FRAME)]
    bank, calls = ConcealBank(_LOSSES), np.arange(_LOSSES)
    runs: list[float] = []
    for _ in range(max(report.runs, 3)):
        rounds = 60
        began = time.process_time()
        for _ in range(rounds):
            bank.make(calls, history, FRAME, 8)
            bank.blend(calls, after, 8)
        runs.append((time.process_time() - began) * 1e6 / (rounds * _LOSSES))
    report.median("conceal_us_per_lost_frame", runs, batch=_LOSSES)
