"""What a slot's former owner left in its ring: items that still play, and how far each was heard.

The former owner noted each item's place in the shared map (`play_items`), and media goes on playing
its ring up to where it had written when the slot was handed over (`play_limit`), unless the new
owner clears. What the former owner himself had cleared ended where media cut it (`play_cuts`), or
will at its next frame. Figures are samples at the engine's rate, as everywhere above the slot.
"""

from __future__ import annotations

import numpy as np

from bridge.audio.resample import DELAY_MS
from bridge.media.base import Left
from bridge.media.slots import CUTS, FRAME_MS, SlotMap


class Inherited:
    """The former owner's ring of one slot."""

    def __init__(self, slots: SlotMap, index: int, ring: int) -> None:
        """Look at `ring`, which a former owner wrote and nobody writes any more."""
        c = slots.columns
        self._c, self._index, self._ring = c, index, ring
        self._frame = int(c["down_rate"][index]) * FRAME_MS
        self._line = int(c["down_rate"][index]) * 1000
        written = int(min(c["play_write"][index, ring], c["play_limit"][index, ring]))
        self._end = written * self._frame
        cuts = self._cuts()
        done = int(c["play_done"][index, ring]) >= written
        rows = [tuple(map(int, row)) for row in c["play_items"][index, ring] if row[0] >= 0]
        rows.sort(key=lambda row: row[1])
        ends = [row[1] for row in rows][1:] + [self._end] * bool(rows)
        self._rows: list[tuple[int, int, int, int]] = []
        self._told: dict[int, int] = {}
        items: list[Left] = []
        at = self._at()
        for (item, start, rate), end in zip(rows, ends, strict=True):
            samples = self._engine(end - start, rate, whole=True)
            complete = done or end < self._end
            stops = [stop for stop, go_on in cuts if start < go_on and stop < end]
            if stops:
                heard = self._engine(stops[0] - start, rate, whole=False)
                items.append(Left(item, samples, complete, min(heard, samples), cut=True))
            elif end > start:
                self._rows.append((item, start, end, rate))
                heard = self._engine(min(at, end) - start, rate, whole=at >= end)
                items.append(Left(item, samples, complete, heard))
        self.items = tuple(items)

    def _cuts(self) -> list[tuple[int, int]]:
        """Where the former owner's clears stopped the playout, and where it went on; samples."""
        here = (self._index, self._ring)
        read, clear = int(self._c["play_read"][here]), int(self._c["play_clear"][here])
        count = int(self._c["play_cut_count"][here])
        table = self._c["play_cuts"][here]
        cuts = [(int(table[n % CUTS][0]), int(table[n % CUTS][1])) for n in range(count)[-CUTS:]]
        if read < clear and not (cuts and cuts[-1][1] >= clear):
            cuts.append((read, clear))  # not carried out yet: media stands where it will stop
        return [(stop * self._frame, go_on * self._frame) for stop, go_on in cuts]

    @property
    def over(self) -> bool:
        """Whether media has turned to the new owner's ring."""
        return bool(self._c["ring"][self._index] != self._ring)

    @property
    def queued_ms(self) -> int:
        """Audio that waits to be played."""
        if self.over:
            return 0
        return max(0, self._end - self._at()) * 1000 // self._line

    def heard_items(self) -> dict[int, int]:
        """Samples that went out, of every item for which that has changed since the last time."""
        at = self._at()
        told = {}
        for item, start, end, rate in self._rows:
            heard = self._engine(min(at, end) - start, rate, whole=at >= end)
            if heard > self._told.get(item, 0):
                told[item] = self._told[item] = heard
        return told

    def _at(self) -> int:
        return int(self._c["play_read"][self._index, self._ring]) * self._frame

    def _engine(self, line: int, rate: int, *, whole: bool) -> int:
        """Samples at the engine's rate that so many of the line's stand for."""
        if rate != self._line and not whole:
            line -= int(DELAY_MS * self._line / 1000)
        return int(np.maximum(0, line * rate // self._line))
