"""A bad network in simulated time: what a talker sends, what a link makes of it, and when it comes.

Pure and seeded: the same seed gives the same packets at the same times, and an hour takes seconds.

- `talk` says what leaves the talker: packets of one ptime by the talker's own clock (which may be
  wrong by some ppm), and what real legs do beside: pauses in which nothing is sent (DTX), the hole
  that a DTMF digit leaves, another SSRC in mid-call, timestamps that jump, losses hidden in them.
- `Impairment.carry` says what arrives, when and how often: random and bursty loss
  (Gilbert-Elliott), jitter, delay spikes that drain as a queue does, stalls that end in a burst,
  packets that are overtaken, duplicates.
- `Wire` stands where the plane has its UDP socket (`bridge.media.udp.Link`): the test sets its
  time, and the plane reads what has come until then.

The audio is L16 and names itself: every millisecond of every call holds a value of its own, so that
what comes out says which millisecond of which call it is, whatever lies between (`marks`, `heard`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

RATE = 8  # samples, and units of the RTP clock, a ms
L16 = 10  # static payload type of RFC 3551, which Asterisk uses for 8 kHz
TELEPHONE_EVENT = 101

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# ---- what is sent --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pause:
    """Nothing is sent for `ms`; then a marker. `frozen`: the timestamps stood still meanwhile."""

    ms: float
    frozen: bool = False


@dataclass(frozen=True)
class Digit:
    """What a DTMF digit leaves of Asterisk's external media: sequence +9, timestamp +1760."""


@dataclass(frozen=True)
class NewSource:
    """Another SSRC, with other numbers."""


@dataclass(frozen=True)
class Jump:
    """The timestamps go on from elsewhere; sequence and SSRC don't notice."""

    ticks: int


@dataclass(frozen=True)
class Hidden:
    """A transcoding leg lost so many packets and numbered the rest without a gap."""

    packets: int


Event = Pause | Digit | NewSource | Jump | Hidden


@dataclass
class Flow:
    """Packets as they leave the talker, one row each.

    at: ms of the true clock when it leaves, which is when its last sample was spoken
    first: ms of the talker's audio that it begins with; the marks are counted by it
    """

    ptime: int
    at: Floats
    first: Ints
    seq: Ints
    timestamp: Ints
    ssrc: Ints
    marker: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.at)


def talk(
    seconds: float,
    *,
    ptime: int = 20,
    ppm: float = 0.0,
    events: Sequence[tuple[float, Event]] = (),
    start_ms: float = 0.0,
    seed: int = 0,
) -> Flow:
    """A talker's packets.

    Args:
        ptime: ms a packet.
        ppm: by how much the talker's clock is too fast.
        events: (ms, what), by rising time of the talker's audio.
        start_ms: of the true clock, when the first sample is spoken.
        seed: of SSRCs, first numbers and first timestamps.
    """
    random = np.random.default_rng(seed)
    source = [int(random.integers(0, 2**n)) for n in (32, 16, 32)]  # SSRC, number, timestamp
    runs: list[Flow] = []
    todo = sorted(events, key=lambda e: e[0])
    at, end, marker = 0, int(seconds * 1000), True
    while at < end:
        until = min(end, int(todo[0][0])) if todo else end
        n = max(0, -(-(until - at) // ptime))
        k = np.arange(n)
        first = at + k * ptime
        runs.append(
            Flow(
                ptime,
                start_ms + (first + ptime) / (1 + ppm / 1e6),
                first,
                (source[1] + k) & 0xFFFF,
                (source[2] + k * ptime * RATE) & 0xFFFFFFFF,
                np.full(n, source[0]),
                (k == 0) & marker,
            )
        )
        at += n * ptime
        source[1] += n
        source[2] += n * ptime * RATE
        marker = False
        if not todo or at >= end:
            break
        match todo.pop(0)[1]:
            case Pause(ms, frozen):
                silent = int(ms) // ptime * ptime
                at, marker = at + silent, True
                source[2] += 0 if frozen else silent * RATE
            case Digit():
                at += 200
                source[1] += 8
                source[2] += 1600
            case NewSource():
                source = [int(random.integers(0, 2**n)) for n in (32, 16, 32)]
            case Jump(ticks):
                source[2] += ticks
            case Hidden(packets):
                at += packets * ptime
                source[2] += packets * ptime * RATE
    return Flow(
        ptime,
        *(
            np.concatenate([getattr(run, name) for run in runs])
            for name in ("at", "first", "seq", "timestamp", "ssrc", "marker")
        ),
    )


# ---- what becomes of it --------------------------------------------------------------------------


@dataclass
class Arrivals:
    """What arrives, by rising time: `at` in ms, and which packet of the flow it is."""

    at: Floats
    packet: Ints


@dataclass(frozen=True)
class Impairment:
    """What a link does. Rates are shares of packets, times are milliseconds.

    loss: of packets, each by itself
    burst: Gilbert-Elliott: how often a bad time begins, how often it ends, and the loss in it
    delay: that every packet takes
    jitter: mean of the delay on top of it, which is uniform between 0 and twice as much
    spike: how often a delay spike begins, and its height; it drains at the pace of the clock
    stalls: (begin, length): what would arrive in this time arrives at its end, all at once
    in_order: what jitter and spikes do keeps the order, as one queue does
    overtaken: how often a packet is held back behind others, for 1 to 80 ms, whatever `in_order`
    duplicates: how often a packet comes twice, the second time within 80 ms
    """

    loss: float = 0.0
    burst: tuple[float, float, float] = (0.0, 1.0, 0.0)
    delay: float = 20.0
    jitter: float = 0.0
    spike: tuple[float, float] = (0.0, 0.0)
    stalls: tuple[tuple[float, float], ...] = ()
    in_order: bool = True
    overtaken: float = 0.0
    duplicates: float = 0.0

    def carry(self, flow: Flow, seed: int) -> Arrivals:
        """What arrives of a flow."""
        random = np.random.default_rng(seed)
        n = len(flow)
        at = flow.at + self.delay + random.uniform(0, 2 * self.jitter, n)
        begins = np.flatnonzero(random.random(n) < self.spike[0])
        for k in begins:  # whoever comes while the queue drains waits for what is left of it
            rest = self.spike[1] - (flow.at - flow.at[k])
            at += np.where(flow.at >= flow.at[k], np.maximum(rest, 0), 0)
        for begin, length in self.stalls:
            at[(at >= begin) & (at < begin + length)] = begin + length
        if self.in_order:
            np.maximum.accumulate(at, out=at)
        held = random.random(n) < self.overtaken
        at[held] += random.uniform(1, 80, held.sum())
        kept = random.random(n) >= self.loss
        kept &= ~(self._bad_times(random, n) & (random.random(n) < self.burst[2]))
        twice = np.flatnonzero(kept & (random.random(n) < self.duplicates))
        packet = np.concatenate([np.flatnonzero(kept), twice])
        when = np.concatenate([at[kept], at[twice] + random.uniform(0, 80, len(twice))])
        order = np.argsort(when, kind="stable")
        return Arrivals(when[order], packet[order])

    def _bad_times(self, random: np.random.Generator, n: int) -> npt.NDArray[np.bool_]:
        begins, ends, _ = self.burst
        bad = np.zeros(n, bool)
        if not begins:
            return bad
        k = 0
        while (k := k + int(random.geometric(begins))) < n:
            length = int(random.geometric(ends))
            bad[k : k + length] = True
            k += length
        return bad


# ---- audio that names itself ---------------------------------------------------------------------

_FACTOR = 40_503  # odd, so that it permutes the 16-bit values: neighbours lie far apart
_BACK = pow(_FACTOR, -1, 1 << 16)
QUIETEST = 512
"""Marks below it may be comfort noise by chance, and are not looked at."""


def marks(call: int, calls: int, ms: Ints) -> npt.NDArray[np.int16]:
    """The value of each ms of a call's audio; it comes again after 65536 / calls ms."""
    span = (1 << 16) // calls
    number = (call * span + ms % span) * _FACTOR & 0xFFFF
    return (number - 0x8000).astype(np.int16)


@dataclass
class Heard:
    """The marks in a stretch of audio, in their order there.

    call, ms: whose they are and which (modulo the span of `marks`)
    at: the sample at which each begins
    """

    call: Ints
    ms: Ints
    at: Ints


def heard(pcm: npt.NDArray[np.int16], calls: int) -> Heard:
    """Find marks: runs of exactly one ms of one value that is not near silence."""
    edges = np.flatnonzero(np.diff(pcm, prepend=pcm[:1] ^ 1, append=pcm[-1:] ^ 1))
    begin = edges[:-1][np.diff(edges) == RATE]
    begin = begin[np.abs(pcm[begin].astype(np.int64)) >= QUIETEST]
    number = (pcm[begin].astype(np.int64) + 0x8000) * _BACK & 0xFFFF
    span = (1 << 16) // calls
    return Heard(number // span, number % span, begin)


# ---- the place of the socket ---------------------------------------------------------------------

_HEADER = np.dtype([("b0", "u1"), ("b1", "u1"), ("seq", ">u2"), ("ts", ">u4"), ("ssrc", ">u4")])
HEADER_BYTES = 12
BATCH = 512


@dataclass
class Wire:
    """Stands for the plane's socket; times are the test's.

    Call i speaks from `source(i)`.

    now: until when packets have come
    """

    flows: Sequence[Flow]
    arrivals: Sequence[Arrivals]
    room: int = 2048
    room_out: int = 1024
    now: float = 0.0
    errors: int = 0
    sent: Ints = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.flows)
        self.buffer = np.zeros((BATCH, self.room), np.uint8)
        self.out = np.zeros((n, self.room_out), np.uint8)
        self.sent = np.zeros(n, np.int64)
        self._at = np.concatenate([a.at for a in self.arrivals])
        order = np.argsort(self._at, kind="stable")
        self._at = self._at[order]
        self._packet = np.concatenate([a.packet for a in self.arrivals])[order]
        self._call = np.repeat(np.arange(n), [len(a.at) for a in self.arrivals])[order]
        self._next = 0

    @staticmethod
    def source(call: int) -> tuple[int, int]:
        """The address, as a number, and the port that a call speaks from."""
        return 0x7F000001, 20_000 + 2 * call

    def set_remote(self, call: int, ip: int, port: int) -> None:
        """As `bridge.media.udp.Link` has it; nothing is really sent."""

    def send(self, calls: Ints, length: object) -> int:
        """Count what is sent to each call."""
        np.add.at(self.sent, calls, 1)
        return len(calls)

    def receive(self) -> tuple[int, Ints, Ints]:
        """What has come, up to a batch: how many, their lengths, their senders."""
        end = int(np.searchsorted(self._at, self.now, "right"))
        take = slice(self._next, min(end, self._next + BATCH))
        self._next = take.stop
        n = take.stop - take.start
        length, sender = np.zeros(n, np.int64), np.zeros(n, np.int64)
        if not n:
            return 0, length, sender
        calls, packets = self._call[take], self._packet[take]
        for call in np.unique(calls):
            rows = np.flatnonzero(calls == call)
            size = self._write(int(call), rows, packets[rows])
            ip, port = self.source(int(call))
            length[rows], sender[rows] = size, port << 32 | ip
        return n, length, sender

    def _write(self, call: int, rows: Ints, packets: Ints) -> int:
        """Write a call's packets into rows of the buffer; returns their size."""
        flow = self.flows[call]
        header = np.zeros(len(rows), _HEADER)
        header["b0"] = 0x80
        header["b1"] = L16 | flow.marker[packets] * 0x80
        header["seq"], header["ts"] = flow.seq[packets], flow.timestamp[packets]
        header["ssrc"] = flow.ssrc[packets]
        ms = flow.first[packets, None] + np.arange(flow.ptime)
        pcm = marks(call, len(self.flows), ms).repeat(RATE, axis=1).astype(">i2")
        size = HEADER_BYTES + 2 * RATE * flow.ptime
        self.buffer[rows, :HEADER_BYTES] = header.view(np.uint8).reshape(-1, HEADER_BYTES)
        self.buffer[rows, HEADER_BYTES:size] = pcm.view(np.uint8)
        return size
