"""A bank of jitter buffers, one a call: puts packets in order, and waits only at a gap.

The upstream is not a loudspeaker: a packet that is next in order goes up at once, whatever its
jitter. Only where a number is missing do the packets after it wait, until it comes or until the
gap's deadline; then the number is lost and the waiting ones go up. So a clean network costs no
delay, and a jittery one no more than its own.

Theory of operation. `arrive` takes a batch and yields `Release`s, in the order in which they go up:
the next packet of some calls, and whatever waited right behind it. A batch that holds several
packets of a call is split into rounds. Each packet is one of:

    in order    the next number           → released; what waits behind it follows
    early       beyond a gap              → copied into the pool; the gap's clock starts
    duplicate   seen before               → counted
    late        its gap was given up      → counted; teaches the deadline
    wild        another SSRC, or 3000 numbers off (RFC 3550 A.1) → one alone changes nothing; if the
                next one follows it, the stream has restarted there (resync)

`expire` gives up on gaps whose deadline has passed. The pool is shared by all calls, bounded, and
touched only when packets wait, so an orderly call costs a few vector operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio.columns import Column, Columns
from bridge.rtp.deadline import DEADLINE_SPEC, Deadlines
from bridge.rtp.sequence import ahead16

MAX_JUMP = 3000
LEFT_MS = 2000.0
MAX_WAITING = 48
"""Packets of one call that may wait at a gap: 120 ms of 10 ms packets, four times over."""
MAX_ROUNDS = 256
"""Packets of one call in one batch; the oldest beyond that are dropped. 2.5 s of 10 ms packets: as
much as a slot's ring holds, so being held up ourselves loses nothing that the ring could take."""

SPEC = {
    "j_ssrc": Column("i8", -1),
    "j_next": Column("i8", -1),
    "j_seen": Column("u8"),
    "j_wild_ssrc": Column("i8", -1),
    "j_wild_next": Column("i8", -1),
    "j_left_ssrc": Column("i8", -1),
    "j_left_ms": Column("f8", -np.inf),
    "j_waiting": Column("i4"),
    "j_gap_ms": Column("f8", np.inf),
    "n_received": Column("i8"),
    "n_lost": Column("i8"),
    "n_late": Column("i8"),
    "n_duplicate": Column("i8"),
    "n_reordered": Column("i8"),
    "n_resync": Column("i8"),
    "n_wild": Column("i8"),
    "n_overflow": Column("i8"),
    **DEADLINE_SPEC,
}


@dataclass(slots=True)
class Packets:
    """Packets of known calls; row i's payload is `buffer[row[i], offset[i] : offset[i] +
    size[i]]`."""

    call: NDArray[np.intp]
    ssrc: NDArray[np.int64]
    seq: NDArray[np.int64]
    timestamp: NDArray[np.int64]
    marker: NDArray[np.bool_]
    buffer: NDArray[np.uint8]
    row: NDArray[np.intp]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    """Payload bytes; 0 for a packet that holds no audio and still counts in the sequence."""

    def take(self, at: NDArray[np.intp] | NDArray[np.bool_]) -> Packets:
        """Some of them."""
        return Packets(
            self.call[at],
            self.ssrc[at],
            self.seq[at],
            self.timestamp[at],
            self.marker[at],
            self.buffer,
            self.row[at],
            self.offset[at],
            self.size[at],
        )


@dataclass(slots=True)
class Release:
    """Packets that go up now, at most one a call, and those that follow them without a gap."""

    packets: Packets
    lost: NDArray[np.int64]
    """Numbers given up just before each."""
    restart: NDArray[np.bool_]
    """Nothing before it says anything of its timestamp."""
    behind: Packets | None = None
    """Of the same calls, each call's in order."""


class JitterBank:
    """Jitter buffers of all calls."""

    def __init__(self, columns: Columns, pool: int, room: int) -> None:
        """Keep state in `columns` (see `SPEC`); up to `pool` packets of `room` bytes may wait."""
        self.ssrc, self.next, self.seen = columns["j_ssrc"], columns["j_next"], columns["j_seen"]
        self.left_ssrc, self.left_ms = columns["j_left_ssrc"], columns["j_left_ms"]
        self.wild_ssrc, self.wild_next = columns["j_wild_ssrc"], columns["j_wild_next"]
        self.waiting, self.gap_ms = columns["j_waiting"], columns["j_gap_ms"]
        self.deadlines = Deadlines(columns)
        self.count = {name[2:]: columns[name] for name in SPEC if name.startswith("n_")}
        self._store = np.zeros((pool, room), np.uint8)
        self._free = np.arange(pool - 1, -1, -1)
        self._pool = _nothing(self._store)
        self._came_ms: NDArray[np.float64] = np.zeros(0)
        # A map taken over from a process that died: what waited in its memory is gone.
        self.waiting[:] = 0
        self.gap_ms[:] = np.inf

    def __len__(self) -> int:
        """Packets that wait."""
        return len(self._pool.call)

    def forget(self, call: int) -> None:
        """The call is over: let go of what waits for it."""
        if self.waiting[call]:
            self._remove(np.flatnonzero(self._pool.call == call))

    @property
    def holding(self) -> NDArray[np.intp]:
        """Calls whose packets wait; more than once where there are several."""
        return self._pool.call

    def go_on(self, call: NDArray[np.intp], seq: NDArray[np.int64]) -> None:
        """Packets have gone up that were next in order while nothing waited; each call once."""
        self.count["received"][call] += 1
        self._went_up(call, seq)

    def arrive(self, now: float, packets: Packets) -> Iterator[Release]:
        """Take packets, in the order of their arrival; yield what goes up."""
        np.add.at(self.count["received"], packets.call, 1)
        for part in self._rounds(packets):
            release = self._round(now, part)
            if len(release.packets.call):
                yield release
            if len(self):
                yield from self._drain(now)

    def expire(self, now: float) -> Iterator[Release]:
        """Give up on gaps whose deadline has passed; yield what waited behind them."""
        while len(self):
            call = self._pool.call
            over = (self.gap_ms[call] + self.deadlines.wait_ms[call] <= now) | (
                self.waiting[call] > MAX_WAITING
            )
            if not over.any():
                return
            calls = np.unique(call[over])
            missing = np.full(len(self.next), MAX_JUMP, np.int64)
            np.minimum.at(missing, call, ahead16(self._pool.seq, self.next[call]))
            lost = missing[calls]
            self.deadlines.give_up(calls, self.gap_ms[calls])
            self.next[calls] = (self.next[calls] + lost) & 0xFFFF
            self.seen[calls] = np.where(lost < 64, self.seen[calls] << lost.astype(np.uint64), 0)
            self.count["lost"][calls] += lost
            self.gap_ms[calls] = np.inf
            given_up = np.zeros(len(self.next), np.int64)
            given_up[calls] = lost
            yield from self._drain(now, given_up)

    def _rounds(self, packets: Packets) -> Iterator[Packets]:
        calls = packets.call
        if len(calls) < 2 or np.bincount(calls).max() == 1:
            yield packets
            return
        order = np.argsort(calls, kind="stable")
        ordered = calls[order]
        first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        counts = np.diff(np.r_[first, len(ordered)])
        rank = np.arange(len(ordered)) - np.repeat(first, counts)
        rank -= np.repeat(np.maximum(counts - MAX_ROUNDS, 0), counts)  # the newest are kept
        np.add.at(self.count["overflow"], ordered[rank < 0], 1)
        for number in range(min(int(counts.max()), MAX_ROUNDS)):
            yield packets.take(order[rank == number])

    def _round(self, now: float, packets: Packets) -> Release:
        call, seq = packets.call, packets.seq
        ahead = ahead16(seq, self.next[call])
        ours = packets.ssrc == self.ssrc[call]
        go = ours & (ahead == 0)
        restart = np.zeros(len(call), bool)
        if not go.all():
            known = ours & (np.abs(ahead) < MAX_JUMP)
            if not known.all():
                restart = self._restarts(now, packets, ours, ahead)
                go |= restart
                known &= ~go
            old, early = known & (ahead < 0), known & (ahead > 0)
            if old.any():
                self._old(now, packets.take(old))
            if early.any():
                self._stash(now, packets.take(early))
            packets, restart = packets.take(go), restart[go]
            call, seq = packets.call, packets.seq
        self._went_up(call, seq)
        return Release(packets, np.zeros(len(call), np.int64), restart)

    def _went_up(self, call: NDArray[np.intp], seq: NDArray[np.int64]) -> None:
        self.next[call] = (seq + 1) & 0xFFFF
        self.seen[call] = self.seen[call] << np.uint64(1) | np.uint64(1)

    def _restarts(
        self, now: float, packets: Packets, ours: NDArray[np.bool_], ahead: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which packets begin a stream: the first of a call, or the second wild one in a row."""
        call = packets.call
        first = self.ssrc[call] < 0
        wild = ~first & (~ours | (np.abs(ahead) >= MAX_JUMP))
        # Stragglers of the stream that was just left don't bring it back.
        left = wild & (packets.ssrc == self.left_ssrc[call]) & (now - self.left_ms[call] < LEFT_MS)
        self.count["late"][call[left]] += 1
        wild &= ~left
        follows = (
            wild & (packets.ssrc == self.wild_ssrc[call]) & (packets.seq == self.wild_next[call])
        )
        alone = wild & ~follows
        self.wild_ssrc[call[alone]] = packets.ssrc[alone]
        self.wild_next[call[alone]] = (packets.seq[alone] + 1) & 0xFFFF
        self.count["wild"][call[alone]] += 1
        starts: NDArray[np.bool_] = first | follows
        begun = call[starts]
        for over in begun[self.waiting[begun] > 0]:
            self.forget(int(over))
        new = packets.ssrc[starts]
        other = begun[(new != self.ssrc[begun]) & (self.ssrc[begun] >= 0)]
        self.left_ssrc[other], self.left_ms[other] = self.ssrc[other], now
        self.ssrc[begun] = new
        self.seen[begun] = 0
        self.wild_ssrc[begun] = -1
        self.count["resync"][call[follows]] += 1
        return starts

    def _old(self, now: float, packets: Packets) -> None:
        """Behind what has gone up: seen before, or late."""
        call = packets.call
        age = np.minimum(-ahead16(packets.seq, self.next[call]) - 1, 64)
        bit = np.left_shift(np.uint64(1), np.minimum(age, 63).astype(np.uint64))
        twice = (age < 64) & (self.seen[call] & bit != 0)
        self.count["duplicate"][call[twice]] += 1
        late = ~twice
        self.count["late"][call[late]] += 1
        near = late & (age < 64)
        self.seen[call[near]] |= bit[near]
        self.deadlines.came_late(now, call[near])

    def _stash(self, now: float, packets: Packets) -> None:
        """Keep packets beyond a gap until the gap is closed or given up."""
        waiting = self._pool.call << 16 | self._pool.seq
        both = packets.call << 16 | packets.seq
        twice = (both[:, None] == waiting).any(axis=1) if len(both) < 32 else np.isin(both, waiting)
        self.count["duplicate"][packets.call[twice]] += 1
        packets = packets.take(~twice)
        fit = np.arange(len(packets.call)) < len(self._free)
        self.count["overflow"][packets.call[~fit]] += 1
        packets = packets.take(fit)
        n = len(packets.call)
        if not n:
            return
        rows, self._free = self._free[len(self._free) - n :], self._free[: len(self._free) - n]
        width = min(int((packets.offset + packets.size).max()), self._store.shape[1])
        self._store[rows, :width] = packets.buffer[packets.row, :width]
        packets.buffer, packets.row = self._store, rows
        self._pool = _join(self._pool, packets)
        self._came_ms = np.concatenate((self._came_ms, np.full(n, now)))
        self.waiting[packets.call] += 1
        self.gap_ms[packets.call] = np.minimum(self.gap_ms[packets.call], now)

    def _remove(self, rows: NDArray[np.intp]) -> Packets:
        """Take packets out of the pool; what then waits first says when its gap began."""
        kept = np.ones(len(self._pool.call), bool)
        kept[rows] = False
        out, self._pool = self._pool.take(rows), self._pool.take(kept)
        self._free = np.concatenate((self._free, out.row))
        np.subtract.at(self.waiting, out.call, 1)
        self._came_ms = self._came_ms[kept]
        self.gap_ms[out.call] = np.inf
        np.minimum.at(self.gap_ms, self._pool.call, self._came_ms)
        return out

    def _drain(self, now: float, given_up: NDArray[np.int64] | None = None) -> Iterator[Release]:
        """Release what is next in order, with all that follows it.

        The rows of a release are free again only for packets that come after it: whoever gets it
        has to be done with it before he asks for more.
        """
        call = self._pool.call
        ahead = ahead16(self._pool.seq, self.next[call])
        if ahead.all():
            return
        # Each call's in order; those whose place is their distance from the next number are ready.
        order = np.argsort(call << 16 | ahead)
        place = places(call[order])
        ready = order[ahead[order] == place]
        calls = call[ready]
        place = places(calls)
        first = place == 0
        last = np.append(first[1:], True)
        calls, n = calls[first], (place[last] + 1).astype(np.uint64)
        if given_up is None:  # the number before them has come: what they waited for
            self.deadlines.closed(now, calls, self.gap_ms[calls])
            self.count["reordered"][calls] += 1
        packets = self._remove(ready)
        self.next[calls] = (packets.seq[last] + 1) & 0xFFFF
        self.seen[calls] = self.seen[calls] << n | (np.uint64(1) << n) - np.uint64(1)
        lost = np.zeros(len(calls), np.int64) if given_up is None else given_up[calls]
        behind = None if first.all() else packets.take(~first)
        yield Release(packets.take(first), lost, np.zeros(len(calls), bool), behind)


def places(calls: NDArray[np.intp]) -> NDArray[np.int64]:
    """Of rows sorted by call: how many of the same call stand before each."""
    rows = np.arange(len(calls))
    first = np.append(True, calls[1:] != calls[:-1])
    return rows - np.maximum.accumulate(np.where(first, rows, 0))


def _nothing(buffer: NDArray[np.uint8]) -> Packets:
    zero = np.zeros(0, np.int64)
    return Packets(
        zero.astype(np.intp), zero, zero, zero, zero.astype(bool), buffer,
        zero.astype(np.intp), zero, zero,
    )  # fmt: skip


def _join(a: Packets, b: Packets) -> Packets:
    return Packets(
        np.concatenate((a.call, b.call)),
        np.concatenate((a.ssrc, b.ssrc)),
        np.concatenate((a.seq, b.seq)),
        np.concatenate((a.timestamp, b.timestamp)),
        np.concatenate((a.marker, b.marker)),
        a.buffer,
        np.concatenate((a.row, b.row)),
        np.concatenate((a.offset, b.offset)),
        np.concatenate((a.size, b.size)),
    )
