"""The callers' audio of all our slots, read and handed out together.

Media raises one eventfd a tick when any of our slots has new frames; then all of them are read from
the shared map, resampled and given to their listeners in one go, a few numpy operations for any
number of calls. Frames wait in their ring until somebody listens. Who listens to all calls together
is given the same frames afterwards, as they came on the lines.

A listener to whom more of the same means nothing *rests*: until something changes, it is only given
samples. That spares the worker's processor the sight of all that a call consists of, most of which
it doesn't find in its caches (docs/measurements.md). Where samples need no more than be passed on,
who passes them on is given those of all such listeners in one go, and the listeners learn of it
when they ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.resample import ResamplerBank
from bridge.media.base import Straight, Up
from bridge.media.slots import CONCEALED, DROPPED, ECHO, FRAME_MS, SPEECH, SlotMap

_AGAIN_FRAMES = 20
"""A new owner of a slot hears so much again: speech that had begun and wasn't noted yet."""
_KEEP_FRAMES = 4
"""Frames at a ring's end that media may be writing while we read."""

_WHATEVER = 2
"""Rests whether there is speech (1) or not (0)."""

Listener = Callable[[Up], None]
_Take = Callable[[list[Any], list[int], NDArray[np.int16]], Sequence[int]]
Hear = Callable[[int, NDArray[np.int16]], None]
Tap = Callable[
    [NDArray[np.intp], int, NDArray[np.int16], NDArray[np.bool_]], NDArray[np.intp] | None
]
"""Slots (k,), the lines' rate in Hz, frames (k, n * samples), which of them hold speech (k, n).
Returns slots of which it says something else now."""


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """The caller's audio of one slot, as long as the slot is ours."""

    index: int
    line: int
    """Samples a ms, of the line."""
    rate: int
    """Of the frames that are handed out, Hz."""


class Frames:
    """Reads the rings of all our slots."""

    def __init__(self, slots: SlotMap) -> None:
        """No lanes yet."""
        self._slots = slots
        self._lanes: dict[int, Lane] = {}
        self._banks: dict[tuple[int, int], ResamplerBank] = {}
        self._cursor = np.zeros(slots.calls, np.int64)
        self._groups: list[tuple[int, int, NDArray[np.intp]]] = []
        self._listeners: list[Listener | None] = [None] * slots.calls
        self._listening = np.zeros(slots.calls, bool)
        self._hears: list[Hear | None] = [None] * slots.calls
        self._rests_ms = np.zeros(slots.calls, np.int64)
        self._rests_in_speech = np.zeros(slots.calls, np.uint8)
        self._takers: list[_Take | None] = [None] * slots.calls
        self._names: list[Any] = [None] * slots.calls
        self._straight_to_ms = np.zeros(slots.calls)
        self._straight_most_ms = np.zeros(slots.calls)
        self._straight_ms = np.zeros(slots.calls, np.int64)
        self._flowed_ms = np.zeros(slots.calls, np.int64)
        self.tap: Tap | None = None
        """Who listens to all calls together."""
        self.later: Callable[[Callable[[], None]], object] | None = None
        """Calls something once what the listeners have begun is done; None: at once. What they send
        must not wait for who listens to all."""
        self._tapped: list[tuple[NDArray[np.intp], int, NDArray[np.int16], NDArray[np.bool_]]] = []

    def open(self, index: int, rate: int) -> Lane:
        """A new slot of ours, read from its first frame on; `rate` 0 is the line's own."""
        line = int(self._slots.columns["t_rate"][index])
        lane = Lane(index, line, rate or line * 1000)
        if lane.rate != line * 1000:
            if (line, lane.rate) not in self._banks:
                bank = ResamplerBank(line * 1000, lane.rate, self._slots.calls)
                self._banks[line, lane.rate] = bank
            self._banks[line, lane.rate].reset(index)
        self._cursor[index] = self._rests_ms[index] = 0
        self._straight_ms[index] = self._flowed_ms[index] = 0
        self._lanes[index] = lane
        self._regroup()
        return lane

    def go_on(self, lane: Lane, since_ms: int, answered_ms: int) -> None:
        """Read on where the slot's former owner stopped; see `bridge.media.base.Media.attach`."""
        c = self._slots.columns
        head = int(c["t_head"][lane.index]) // (lane.line * FRAME_MS)
        read = int(c["up_read"][lane.index])
        if read < 0:
            self._cursor[lane.index] = head
            return
        begin = read - _AGAIN_FRAMES
        if since_ms >= 0:
            begin = min(begin, since_ms // FRAME_MS - _AGAIN_FRAMES)
        if not 0 <= since_ms < answered_ms:
            # The end of a turn would be taken for another one, and its answer for overtaken.
            begin = max(begin, answered_ms // FRAME_MS)
        oldest = head - (self._slots.up[lane.line].shape[1] - _KEEP_FRAMES)
        self._cursor[lane.index] = min(max(begin, oldest, 0), head)

    def close(self, lane: Lane) -> None:
        """The slot is no more ours."""
        self.listen(lane, None)
        if self._lanes.get(lane.index) is lane:
            self._hears[lane.index] = None
            del self._lanes[lane.index]
            self._regroup()

    def listen(self, lane: Lane, listener: Listener | None) -> None:
        """Who gets a slot's frames, unless it is closed."""
        if self._lanes.get(lane.index) is lane:
            self._listeners[lane.index] = listener
            self._rests_ms[lane.index] = 0
            self._straight_to_ms[lane.index] = self._straight_most_ms[lane.index] = 0
            self._takers[lane.index] = self._names[lane.index] = None
            self._listening[lane.index] = listener is not None

    def listener(self, lane: Lane) -> Listener | None:
        """Who gets a slot's frames."""
        return self._listeners[lane.index] if self._lanes.get(lane.index) is lane else None

    def rest(
        self,
        lane: Lane,
        hear: Hear,
        until_ms: int,
        speech: bool | None,
        straight: Straight | None = None,
        straight_ms: int = 0,
        most_ms: float = 0.0,
    ) -> None:
        """See `bridge.media.base.Slot.rest`."""
        index = lane.index
        if self._lanes.get(index) is lane:
            self._hears[index] = hear
            self._rests_ms[index] = until_ms
            self._rests_in_speech[index] = _WHATEVER if speech is None else speech
            self._takers[index], self._names[index] = straight or (None, None)
            self._straight_to_ms[index] = 0 if straight is None else straight_ms
            self._straight_most_ms[index] = 0.0 if straight is None else most_ms

    def straight_on(self, lane: Lane, straight_ms: int, most_ms: float = 0.0) -> None:
        """See `bridge.media.base.Slot.straight_on`."""
        if self._lanes.get(lane.index) is lane and self._takers[lane.index] is not None:
            self._straight_to_ms[lane.index] = straight_ms
            self._straight_most_ms[lane.index] = most_ms

    def flowed(self, rows: NDArray[np.intp], ms: NDArray[np.float64]) -> None:
        """So much agent audio, (k,), flowed into these slots."""
        to_ms, most_ms = self._straight_to_ms[rows], self._straight_most_ms[rows]
        self._straight_to_ms[rows] = np.maximum(to_ms, np.minimum(to_ms + ms, most_ms))
        self._flowed_ms[rows] = self._straight_ms[rows]

    def flowed_ms(self, lane: Lane) -> int:
        """See `bridge.media.base.Slot.flowed_ms`."""
        at_ms: int = self._flowed_ms.item(lane.index)
        return at_ms if self._lanes.get(lane.index) is lane else 0

    def straight_ms(self, lane: Lane) -> int:
        """See `bridge.media.base.Slot.straight_ms`."""
        at_ms: int = self._straight_ms.item(lane.index)
        return at_ms if self._lanes.get(lane.index) is lane else 0

    def spoken(self, lane: Lane, from_ms: int, to_ms: int) -> list[bool]:
        """See `bridge.media.base.Slot.spoken`."""
        ring = self._slots.columns["up_flags"][lane.index]
        oldest = self._cursor.item(lane.index) - len(ring) + _KEEP_FRAMES
        frames = np.arange(max(from_ms // FRAME_MS, oldest), to_ms // FRAME_MS)
        missing = [False] * ((to_ms - from_ms) // FRAME_MS - len(frames))
        told: list[bool] = (ring[frames % len(ring)] & (SPEECH | ECHO) == SPEECH).tolist()
        return missing + told

    def read(self) -> None:
        """Hand out all that has come."""
        for line, rate, rows in self._groups:
            head = self._slots.columns["t_head"][rows] // (line * FRAME_MS)
            ring = self._slots.up[line].shape[1]
            oldest = head - (ring - _KEEP_FRAMES)
            cursor = np.maximum(self._cursor[rows], oldest)
            fresh = head - cursor
            for count in np.flatnonzero(np.bincount(fresh)[1:]) + 1:
                some = fresh == count
                self._hand_up(line, rate, rows[some], cursor[some], int(count))
        if self._tapped and self.later is not None:
            self.later(self.hear_all)
        else:
            self.hear_all()

    def hear_all(self) -> None:
        """Whoever listens to all calls together gets what they were given."""
        tapped, self._tapped = self._tapped, []
        for heard in tapped:
            changed = self.tap(*heard) if self.tap is not None else None
            if changed is not None:
                self._rests_ms[changed] = 0

    def _regroup(self) -> None:
        groups: dict[tuple[int, int], list[int]] = {}
        for lane in self._lanes.values():
            groups.setdefault((lane.line, lane.rate), []).append(lane.index)
        self._groups = [(*kind, np.array(rows, np.intp)) for kind, rows in groups.items()]

    def _hand_up(
        self, line: int, rate: int, rows: NDArray[np.intp], cursor: NDArray[np.int64], count: int
    ) -> None:
        """Read `count` frames of each slot of `rows`, and call their listeners."""
        listening = self._listening[rows]
        if not listening.all():  # frames wait in the ring until somebody listens
            rows, cursor = rows[listening], cursor[listening]
            if not len(rows):
                return
        frames = self._slots.up[line]
        at = (cursor[:, None] + np.arange(count)) % frames.shape[1]
        pcm = frames[rows[:, None], at].reshape(len(rows), -1)
        flags = self._slots.columns["up_flags"][rows[:, None], at]
        self._cursor[rows] = self._slots.columns["up_read"][rows] = cursor + count
        if self.tap is not None:
            fired = flags & (SPEECH | ECHO | DROPPED) == SPEECH
            self._tapped.append((rows, line * 1000, pcm, fired))
        if rate != line * 1000:
            pcm = self._banks[line, rate].process(rows, pcm)
        resting = self._resting(rows, cursor + count, flags)
        if resting.any():
            self._hand_on(rows[resting], cursor[resting], pcm[resting], count)
            if resting.all():
                return
            awake = ~resting
            rows, cursor, pcm, flags = rows[awake], cursor[awake], pcm[awake], flags[awake]
        raw = flags.tobytes()
        told = [_told(raw[i : i + count]) for i in range(0, len(raw), count)]
        made = map(Up, (cursor * FRAME_MS).tolist(), pcm, *zip(*told, strict=True))
        ups: Iterable[tuple[int, Up]] = zip(rows.tolist(), made, strict=True)
        if (dropped := flags & DROPPED != 0).any():
            ups = _without(ups, dropped)
        listeners = self._listeners
        for row, up in ups:
            if (listener := listeners[row]) is not None:  # else closed in this very round
                self._guarded(listener, up)

    def _hand_on(
        self, rows: NDArray[np.intp], cursor: NDArray[np.int64], pcm: NDArray[np.int16], count: int
    ) -> None:
        """Give those who rest their samples."""
        at_ms, slots = (cursor * FRAME_MS).tolist(), rows.tolist()
        straight = (cursor + count) * FRAME_MS <= self._straight_to_ms[rows]
        alone = np.flatnonzero(~straight).tolist()
        for take, places in self._by_taker(slots, np.flatnonzero(straight).tolist()):
            names = [self._names[slots[place]] for place in places]
            times = [at_ms[place] for place in places]
            some = rows, cursor + count, pcm
            if len(places) < len(rows):
                some = rows[places], cursor[places] + count, pcm[places]
            alone += [places[n] for n in self._hand_straight(take, names, times, *some)]
        for place in alone:
            hear = self._hears[slots[place]]
            if hear is None:  # closed in this very round
                continue
            try:
                hear(at_ms[place], pcm[place])
            except Exception as error:  # noqa: BLE001 - as in `_guarded`
                self._failed(error)

    def _by_taker(self, slots: list[int], places: list[int]) -> Iterable[tuple[_Take, list[int]]]:
        """Who takes the frames of these places, and of which: mostly one takes all."""
        takers = [self._takers[slots[place]] for place in places]
        together: dict[_Take, list[int]] = {take: [] for take in set(takers) if take is not None}
        if len(together) == 1:
            return ((take, places) for take in together)
        for take, place in zip(takers, places, strict=True):
            if take is not None:
                together[take].append(place)
        return together.items()

    def _hand_straight(
        self,
        take: _Take,
        names: list[Any],
        at_ms: list[int],
        rows: NDArray[np.intp],
        end: NDArray[np.int64],
        pcm: NDArray[np.int16],
    ) -> Sequence[int]:
        """Give `take` the frames of these slots, up to `end`; returns which it didn't take."""
        try:
            left = take(names, at_ms, pcm)
        except Exception as error:  # noqa: BLE001 - as in `_guarded`
            self._failed(error)
            left = range(len(rows))
        if left:
            taken = np.ones(len(rows), bool)
            taken[list(left)] = False
            rows, end = rows[taken], end[taken]
        self._straight_ms[rows] = end * FRAME_MS
        return left

    def _resting(
        self, rows: NDArray[np.intp], end: NDArray[np.int64], flags: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Of which slots these frames, up to `end`, mean nothing to their listeners."""
        c = self._slots.columns
        wanted = self._rests_in_speech[rows, None]
        same = (flags & (SPEECH | ECHO) == SPEECH) == wanted
        same |= wanted == _WHATEVER
        same &= flags & DROPPED == 0
        dealt = c["reflex_count"][rows] == c["reflex_done"][rows]
        resting: NDArray[np.bool_] = dealt & same.all(axis=1)
        resting &= end * FRAME_MS <= self._rests_ms[rows]
        return resting

    def _guarded(self, listener: Callable[..., None], *what: object) -> None:
        try:
            listener(*what)
        except Exception as error:  # noqa: BLE001 - one call's fault must not silence the others
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a call's listener failed", "exception": error}
        )


@lru_cache(maxsize=4096)
def _told(flags: bytes) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Of so many frames: which hold speech, which are concealed."""
    speech = tuple(f & (SPEECH | ECHO) == SPEECH for f in flags)
    return speech, tuple(f & CONCEALED != 0 for f in flags)


def _without(ups: Iterable[tuple[int, Up]], dropped: NDArray[np.bool_]) -> Iterator[tuple[int, Up]]:
    """Frames one by one, but those that the agent wants dropped, (rows, frames)."""
    for (row, up), gone in zip(ups, dropped, strict=True):
        if not gone.any():
            yield row, up
            continue
        frames = up.pcm.reshape(len(gone), -1)
        for i in np.flatnonzero(~gone).tolist():
            at_ms = up.at_ms + i * FRAME_MS
            yield row, Up(at_ms, frames[i], up.speech[i : i + 1], up.concealed[i : i + 1])
