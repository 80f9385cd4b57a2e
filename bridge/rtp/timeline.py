"""Audio time: where each packet's samples lie in a call's stream of 20 ms frames.

Audio time starts with the slot and goes on for ever, 20 ms every 20 ms, whatever the network does:
packets carry it forward as they come, and a clock supplies frames where none come. `place` says for
packets in sequence how many samples are missing before each (and whether they were lost), and which
packets are too late for the stream; `supply` says which calls need a frame from the clock.

The timestamps decide, as far as they can be believed:

- Samples missing by the timestamps, less those that the clock supplied meanwhile, are filled. They
  were
  lost if as many packets are missing as the step explains, or if no number is missing (a
  transcoded leg hides its losses so); else they are a hole (a talkspurt's gap, a digit of DTMF).
- A step beyond `PLAUSIBLE_MS` says nothing (channels were swapped, a clock was set): the packet
  simply
  follows what came before.
- Supplied and then it comes after all (the network held it back): up to `AHEAD_MS` of it still go
  up, because no speech should be lost to a pause of the network; what is older is stale. Only a
  burst can be stale: a sender whose timestamps stood still while it was silent is believed after 60
  ms.
- What the sender's clock gains on ours is taken back a frame at a time, in a pause of speech where
  there is one; what it loses is made up by a concealed frame. Judged by the least lag of a window,
  because jitter only ever adds to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio.columns import Column, Columns
from bridge.rtp.deadline import CHOICES_MS
from bridge.rtp.quality import LATE_MS
from bridge.rtp.quality import SPEC as QUALITY_SPEC
from bridge.rtp.sequence import ahead32

FRAME_MS = 20
HOLD_MS = 100.0
"""Nothing came for this long after it was due: the clock takes over."""
PLAUSIBLE_MS = 500
AHEAD_MS = 200
MOST_AHEAD_MS = AHEAD_MS + 40
BURST_MS = 60.0
PACE_MS = 100.0
SLIP_MS = 40.0
FORCE_MS = 150.0
BEHIND_MS = HOLD_MS + CHOICES_MS[-1] + 60.0
"""Audio time falls no further behind: the longest packet that was due, held and waited for."""
WINDOW = 50
HELD_UP_MS = 300.0
"""So far behind is only who was held up himself: that says nothing of the clocks."""

SPEC = {
    "t_open_ms": Column("f8"),
    "t_rate": Column("i8", 8),
    "t_clock": Column("i8", 8),
    "t_next": Column("i8"),
    "t_head": Column("i8"),
    "t_supplied": Column("i8"),
    "t_due_ms": Column("f8", np.inf),
    "t_stale_ms": Column("f8"),
    "t_stale_last_ms": Column("f8", -np.inf),
    "t_ahead_ms": Column("f8"),
    "t_least_ms": Column("f8"),
    "t_lag_ms": Column("f8", np.inf),
    "t_window": Column("i4"),
    "t_slip": Column("i1"),
    "n_stale": Column("i8"),
    "n_trimmed": Column("i8"),
    "n_inserted": Column("i8"),
    "n_jump": Column("i8"),
    "n_supplied": Column("i8"),
    **QUALITY_SPEC,
}


@dataclass(slots=True)
class Place:
    """What `place` decided, a row a packet."""

    fill: NDArray[np.int64]
    """Samples to make up before it."""
    lost: NDArray[np.bool_]
    """They were lost; else they were never sent."""
    take: NDArray[np.bool_]
    """Whether its samples go up."""


class Timeline:
    """Audio time of all calls."""

    def __init__(self, columns: Columns) -> None:
        """Keep state in `columns` (see `SPEC`)."""
        self.open_ms, self.rate, self.clock = (
            columns["t_open_ms"],
            columns["t_rate"],
            columns["t_clock"],
        )
        self.next, self.head, self.supplied = (
            columns["t_next"],
            columns["t_head"],
            columns["t_supplied"],
        )
        self.least_ms, self.late = columns["t_least_ms"], columns["q_late"]
        self.due_ms, self.lag_ms = columns["t_due_ms"], columns["t_lag_ms"]
        self.ahead_ms = columns["t_ahead_ms"]
        self.stale_last_ms = columns["t_stale_last_ms"]
        self.stale_ms = columns["t_stale_ms"]
        self.window, self.slip = columns["t_window"], columns["t_slip"]
        self.count = {name[2:]: columns[name] for name in SPEC if name.startswith("n_")}
        self._buckets = self.late.reshape(-1)
        self._noted: list[tuple[NDArray[np.intp], NDArray[np.float64]]] = []

    def begin(self, now: float, call: int, rate: int, clock: int) -> None:
        """Start a call's audio time; `rate` samples and `clock` units of the RTP clock a ms."""
        self.open_ms[call], self.rate[call], self.clock[call] = now, rate, clock
        self.due_ms[call] = now + HOLD_MS

    def end(self, call: int) -> None:
        """No frames any more."""
        self.due_ms[call] = np.inf

    def place(
        self,
        now: float,
        call: NDArray[np.intp],
        timestamp: NDArray[np.int64],
        samples: NDArray[np.int64],
        lost: NDArray[np.int64],
        restart: NDArray[np.bool_],
        marker: NDArray[np.bool_],
        quiet: NDArray[np.bool_],
    ) -> Place:
        """Find the places of packets, at most one a call, that are next in sequence.

        Args:
            now: ms.
            call: rows.
            timestamp: as received.
            samples: how many each packet holds, at the line's sample rate.
            lost: packets given up just before it.
            restart: its timestamp relates to nothing before.
            marker: as received.
            quiet: no speech was heard just before.
        """
        rate = self.rate[call]
        step = ahead32(timestamp, self.next[call]) * rate // self.clock[call]
        supplied = self.supplied[call]
        fill = step - supplied
        self.next[call] = timestamp + samples * self.clock[call] // rate
        take = np.ones(len(call), bool)
        was_lost = np.zeros(len(call), bool)
        if fill.any() or supplied.any() or restart.any():
            far = PLAUSIBLE_MS * rate
            wall = ((now - self.open_ms[call]) * rate).astype(np.int64)
            # Once this packet and the burst behind it are up, so far ahead of the time we'd be.
            ahead = np.maximum(self.ahead_ms[call], 0) * rate - fill
            late = (supplied > 0) & (step >= 0) & (fill < 0)
            stale = ~restart & late & (ahead > AHEAD_MS * rate)
            going_on = now - self.stale_last_ms[call] < PACE_MS
            since = np.where(going_on, self.stale_ms[call], now)
            self.stale_ms[call[stale]], self.stale_last_ms[call[stale]] = since[stale], now
            # A burst that was held back comes at once; a clock that stood still goes on in its
            # pace.
            stale &= now - since <= BURST_MS
            jump = ~restart & ~stale & (np.abs(fill) > far)
            self.count["jump"][call[jump]] += 1
            take &= ~stale
            self.count["stale"][call[stale]] += 1
            was_lost = np.where(lost > 0, step == lost * samples, ~marker) & ~restart
            # A stream that begins now ends its first packet now, or up to a frame ago: its packets
            # of 20 ms must be frames, else each frame would wait for the packet after it.
            begin = np.maximum(wall - samples, self.head[call])
            begin -= begin % (FRAME_MS * rate)
            fill = np.where(restart, begin - self.head[call], fill)
            # Nor does what is missing run ahead of the clock: timestamps may claim what they like.
            room = np.maximum(wall + MOST_AHEAD_MS * rate - self.head[call] - samples, 0)
            fill = np.minimum(np.clip(fill, 0, far), room - room % (FRAME_MS * rate))
            fill[jump | stale] = 0
            # What the clock supplied stands for stale packets, one after the other.
            self.supplied[call] = np.where(stale, supplied - step - samples, 0)
        self._correct(now, call, samples, fill, was_lost, take, quiet)
        return Place(fill, was_lost, take)

    def go_on(
        self,
        now: float,
        call: NDArray[np.intp],
        timestamp: NDArray[np.int64],
        head: NDArray[np.int64],
        ms: int,
        rate: int,
        clock: int,
    ) -> NDArray[np.intp]:
        """Ordinary packets have gone up whole: what `place` and `advance` come to for them.

        Args:
            now: ms.
            call: rows; those of one call stand in order.
            timestamp: as received.
            head: samples that have gone up now, theirs included.
            ms: how long each of them is.
            rate: samples a ms, of all of them.
            clock: units of the RTP clock a ms.

        Returns:
            Calls whose next packet is none that simply goes up (see `steady`), as far as that shows
            at once; `learn` says the rest.
        """
        self.next[call] = timestamp + ms * clock
        self.head[call] = head
        end_ms = self.open_ms[call] + head / rate
        due_ms = np.maximum(end_ms, now + ms) + HOLD_MS
        self.due_ms[call] = np.minimum(due_ms, end_ms + BEHIND_MS)
        lag = now - end_ms
        self.ahead_ms[call] = -lag
        self._noted.append((call, lag))
        early = lag < -AHEAD_MS
        return call[early] if early.any() else call[:0]

    def learn(self) -> NDArray[np.intp]:
        """Take in what `go_on` has noted; which calls need a correction now."""
        if not self._noted:
            return np.zeros(0, np.intp)
        call = np.concatenate([call for call, _ in self._noted])
        lag = np.concatenate([lag for _, lag in self._noted])
        self._noted.clear()
        return self._learn(call, lag)

    def steady(self, call: NDArray[np.intp], frames: int = 1) -> NDArray[np.bool_]:
        """Whether so many packets that are next in sequence and time simply go up."""
        steady: NDArray[np.bool_] = (self.supplied[call] == 0) & (self.slip[call] == 0)
        return steady & (self.ahead_ms[call] + (frames - 1) * FRAME_MS <= AHEAD_MS)

    def _correct(
        self,
        now: float,
        call: NDArray[np.intp],
        samples: NDArray[np.int64],
        fill: NDArray[np.int64],
        lost: NDArray[np.bool_],
        take: NDArray[np.bool_],
        quiet: NDArray[np.bool_],
    ) -> None:
        """Slip a frame where the clocks have drifted apart; set when the next packet is due."""
        rate = self.rate[call]
        stale = ~take
        slip = self.slip[call]
        if slip.any():
            trim = take & (slip < 0) & (quiet | (slip < -1))
            take &= ~trim
            insert = take & (slip > 0)
            fill += np.where(insert, FRAME_MS * rate, 0)
            lost |= insert
            self.slip[call[trim | insert]] = 0
            self.count["trimmed"][call[trim]] += 1
            self.count["inserted"][call[insert]] += 1
        head_ms = (self.head[call] + fill + np.where(take, samples, 0)) / rate
        lag = now - self.open_ms[call] - head_ms
        far = take & (lag < -MOST_AHEAD_MS)
        if far.any():  # a stream that began in the middle of a burst
            take &= ~far
            stale |= far
            self.count["stale"][call[far]] += 1
            head_ms = np.where(far, head_ms - samples / rate, head_ms)
            lag = now - self.open_ms[call] - head_ms
        self.ahead_ms[call] = np.where(take, -lag, self.ahead_ms[call])
        self._learn(call, lag)
        head_ms += self.open_ms[call]
        due = np.maximum(now + samples / rate, head_ms) + HOLD_MS
        np.minimum(due, head_ms + BEHIND_MS, out=due)
        # What is stale doesn't keep the clock from going on.
        self.due_ms[call] = np.where(stale, self.due_ms[call], due)

    def _learn(self, call: NDArray[np.intp], lag: NDArray[np.float64]) -> NDArray[np.intp]:
        """Note by how many ms packets came behind their audio; which calls need a correction."""
        bucket = np.searchsorted(LATE_MS, lag - self.least_ms[call])
        places = call * self.late.shape[1] + bucket
        self._buckets += np.bincount(places, minlength=self._buckets.size).astype(np.uint32)
        np.minimum.at(self.lag_ms, call, lag)
        in_time = np.bincount(call[lag < HELD_UP_MS], minlength=self.window.size)
        self.window += in_time.astype(np.int32)
        full = self.window[call] >= WINDOW
        if not full.any():
            return call[:0]
        over = np.unique(call[full])
        least = self.lag_ms[over]
        slip = np.select([least > SLIP_MS, least < -FORCE_MS, least < -SLIP_MS], [1, -2, -1], 0)
        self.slip[over] = slip
        self.window[over], self.lag_ms[over], self.least_ms[over] = 0, np.inf, least
        needed: NDArray[np.intp] = over[slip != 0]
        return needed

    def advance(self, call: NDArray[np.intp], samples: NDArray[np.int64] | int) -> None:
        """Samples have gone up, at most one row a call."""
        self.head[call] += samples

    def supply(self, now: float, waiting: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
        """Calls that need a frame of 20 ms from the clock; ask again until there is none.

        Those with packets `waiting` at a gap only where they fall too far behind: the packets go up
        within the gap's deadline, and what was supplied meanwhile would be too much.
        """
        due = self.due_ms <= now
        if waiting is not None:
            due = np.where(waiting, self.open_ms + self.head / self.rate + BEHIND_MS <= now, due)
        calls = np.flatnonzero(due)
        if len(calls):
            # What was waited for before the clock took over is made up at once: pauses don't add up
            behind = self.open_ms[calls] + self.head[calls] / self.rate[calls] + HOLD_MS
            self.due_ms[calls] = np.minimum(self.due_ms[calls], behind) + FRAME_MS
            self.supplied[calls] += FRAME_MS * self.rate[calls]
            self.count["supplied"][calls] += 1
        return calls
