"""The calls of the bench: what the callers do, and what is left of each call.

reference     nobody disturbs the talker: its audio, to compare with
interruption  the caller interrupts the talker a few times
false         the caller coughs, says "uh-huh", has music on behind him ...
question      the caller asks the demo's agent, one call at a time on an idle machine
paused        the caller pauses within his sentences
keys          the caller presses a key while the talker speaks
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import redis

from bridge.sessions.model import INDEX, call_key, transcript_key
from tests.bench.turns import agents, noises
from tests.bench.turns.corpus import SNR_DB, Clip, Kind, clips
from tests.bench.turns.phones import BED_VOICE_DBFS, Phone, Script, hold
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import Bridge
from tests.lab.capture import RATE, RtpPacket, Track, lay_out
from tests.lab.redis import Redis
from tests.lab.root import LabError

MOST_S = 240.0
REAL = 56
"""Clips of each kind over real calls; questions: all of one half."""
_beds = itertools.count(1)


@dataclass
class Held:
    """A call that is over."""

    kind: str
    phone: Phone
    sent: Track
    received: Track
    record: dict[str, str]
    lines: list[dict[str, str]] = field(default_factory=list)
    clock: float = 0.0
    """What to add to a time of CLOCK_MONOTONIC to have it since the epoch, seconds."""

    @property
    def worker(self) -> str:
        """Whose call it was."""
        return self.record["worker"]

    def spoken_at(self, sample: int) -> float:
        """When the caller spoke a sample of what his phone sent, epoch seconds."""
        own = [p for p in self.phone.packets if p.sent]
        packet = own[sample // 160]
        return packet.at - 0.02 + (sample % 160) / RATE


class Line:
    """Asterisk, Redis and the bridge, and calls on them."""

    def __init__(self, pbx: Asterisk, store: Redis, bridge: Bridge) -> None:
        self.pbx, self.store, self.bridge = pbx, store, bridge

    def hold(self, kind: str, phones: Sequence[Phone]) -> list[Held]:
        """Hold some calls at once and read what is stored of them."""
        before = set(self._calls())
        hold(self.pbx, phones, MOST_S)
        self.pbx.wait_idle(10.0)
        # Calls are placed one after the other: by their beginning we know which is which.
        own = sorted(self._ended(before, len(phones)), key=lambda record: float(record["started"]))
        return [self._held(kind, *pair) for pair in zip(phones, own, strict=True)]

    def _calls(self) -> list[str]:
        with self._redis() as store:
            return [str(call_id) for call_id in store.zrange(INDEX, 0, -1)]

    def _ended(self, before: set[str], count: int) -> list[dict[str, str]]:
        """The records of new calls, once they are all over."""
        with self._redis() as store:
            for _ in range(100):
                records = [store.hgetall(call_key(c)) for c in self._calls() if c not in before]
                if len(records) == count and all(r.get("state") == "ended" for r in records):
                    return records
                time.sleep(0.1)
        raise LabError(f"{len(records)} calls are stored where {count} were held")

    def _redis(self) -> Any:
        return redis.Redis.from_url(self.store.url, decode_responses=True)

    def _held(self, kind: str, phone: Phone, record: dict[str, str]) -> Held:
        packets: list[RtpPacket] = phone.packets
        start, end = min(p.at for p in packets) - 0.1, max(p.at for p in packets) + 0.1
        with self._redis() as store:
            lines = [line for _, line in store.xrange(transcript_key(record["call_id"]))]
        sent = lay_out(packets, sent=True, start=start, end=end)
        received = lay_out(packets, sent=False, start=start, end=end)
        return Held(kind, phone, sent, received, record, lines, time.time() - time.monotonic())


@contextmanager
def line(say: Callable[[str], None]) -> Iterator[Line]:
    """Everything that the calls need."""
    with tempfile.TemporaryDirectory(prefix="ari-bench-turns-") as folder, ExitStack() as up:
        agents.write(Path(folder))
        store = up.enter_context(Redis())
        pbx = up.enter_context(Asterisk())
        say("starting the bridge with the demo's agent and a talkative one")
        settings = {"agents": {"folder": folder}}
        bridge = up.enter_context(Bridge(pbx, store, settings=settings, options=()))
        yield Line(pbx, store, bridge)


def phone(extension: str, play: Callable[[Phone], Script], bed: str = "") -> Phone:
    """A phone of the bench; a `bed` lies 15 dB below a voice."""
    behind = (
        noises.bed(bed, 40.0, next(_beds), BED_VOICE_DBFS - SNR_DB)
        if bed
        else np.zeros(0, np.int16)
    )
    return Phone(extension, play, behind)


# ---- what callers do -----------------------------------------------------------------------------


def listen(most_s: float) -> Callable[[Phone], Script]:
    """Only listen, until the agent has said all."""

    def play(call: Phone) -> Script:
        yield from call.answered(10.0)
        yield from call.silent(2.5, most_s)

    return play


def interrupt(chosen: Sequence[Clip], seed: int) -> Callable[[Phone], Script]:
    """Interrupt the agent again and again, each time some words into what it says."""
    random = np.random.default_rng(seed)

    def play(call: Phone) -> Script:
        yield from call.answered(10.0)
        for clip in chosen:
            yield from _talking(call, random.uniform(1.2, 3.0))
            call.say(clip)
            yield from call.finish()
            yield from call.pause(1.5)
            yield from _answer(call)

    return play


def disturb(chosen: Sequence[Clip], seed: int) -> Callable[[Phone], Script]:
    """Cough, murmur, have music on behind oneself, while the agent speaks."""
    random = np.random.default_rng(seed)

    def play(call: Phone) -> Script:
        yield from call.answered(10.0)
        for clip in chosen:
            yield from _talking(call, random.uniform(0.8, 1.6))
            call.say(clip)
            yield from call.finish()
            yield from call.pause(1.8)
            yield from _answer(call)

    return play


def ask(chosen: Sequence[Clip]) -> Callable[[Phone], Script]:
    """Ask, hear the answer out, ask the next."""

    def play(call: Phone) -> Script:
        yield from call.answered(10.0)
        yield from call.silent(1.0, 15.0)
        for clip in chosen:
            call.say(clip)
            yield from call.finish()
            yield from call.answered(4.0)
            yield from call.silent(0.8, 20.0)
            yield from call.pause(0.3)

    return play


def press(times: int, seed: int) -> Callable[[Phone], Script]:
    """Cut the agent short by a key, again and again."""
    random = np.random.default_rng(seed)

    def play(call: Phone) -> Script:
        yield from call.answered(10.0)
        for _ in range(times):
            yield from _talking(call, random.uniform(0.8, 1.6))
            yield from call.press("5")
            yield from call.pause(1.0)
            yield from call.answered(6.0)

    return play


def _talking(call: Phone, seconds: float) -> Script:
    """Wait so long, and then for a moment in the middle of a word."""
    yield from call.pause(seconds)
    until = call.now + 3.0
    while call.ear.silent_for(call.now) > 0.03 and call.now < until:
        yield


def _answer(call: Phone) -> Script:
    """Wait until the agent speaks (again); ask it something if it doesn't."""
    if call.ear.silent_for(call.now) < 0.5:
        return
    for _ in range(3):
        yield from call.answered(3.5)
        if call.ear.silent_for(call.now) < 0.5:
            return
        call.say(_rescue())
        yield from call.finish()


def _rescue() -> Clip:
    """Something that any agent answers."""
    return next(c for c in clips("tuning", "question") if c.voice == "flite:rms")


# ---- which calls ---------------------------------------------------------------------------------


def choose(kind: Kind, count: int, seed: int = 4) -> list[Clip]:
    """Clips of the held-out half, of each sort as many as its share."""
    random = np.random.default_rng(seed)
    found = clips("held_out", kind)
    order = [found[int(k)] for k in random.permutation(len(found))]
    by_sort: dict[str, list[Clip]] = {}
    for clip in order:
        by_sort.setdefault(clip.sort, []).append(clip)
    chosen: list[Clip] = []
    for some in by_sort.values():
        chosen += some[: max(1, round(count * len(some) / len(found)))]
    return [chosen[int(k)] for k in random.permutation(len(chosen))]


def parts(several: Sequence[Clip], size: int) -> list[list[Clip]]:
    """In calls of so many clips, those over one kind of noise together."""
    out = []
    for bed in ("", *sorted({c.bed for c in several} - {""})):
        some = [c for c in several if c.bed == bed]
        out += [some[k : k + size] for k in range(0, len(some), size)]
    return out
