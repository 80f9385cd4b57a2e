"""How loud each call is now, from the slots' map of this host: read, never written.

Redis doesn't hold it: it would be the only thing to be written ten times a second for every call.
A web process on another host than the call's audio shows no meter. The caller's level is that of
his last frames; the agent's that of the frames that were played since the last look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.errors import MediaError
from bridge.media import control
from bridge.media.slots import FRAME_MS, OPEN, ORPHAN, SlotMap

FLOOR_DB = -60.0
"""What is shown as 0."""
_FRAMES = 7  # a look every 150 ms


class Levels:
    """`now` tells them."""

    def __init__(self, runtime_dir: str) -> None:
        """Nothing is mapped yet."""
        self._path = Path(runtime_dir) / control.SLOTS
        self._map: SlotMap | None = None
        self.told: dict[str, tuple[int, int]] = {}
        """What `now` has told last of each call."""
        self._played: dict[str, int] = {}

    def now(self, calls: Iterable[str]) -> dict[str, tuple[int, int]]:
        """(caller, agent), 0 to 100, of those calls whose level has changed since the last time."""
        slots = self._attached()
        if slots is None:
            return {}
        wanted = {call_id.encode(): call_id for call_id in calls}
        ids, changed = set(wanted.values()), {}
        state, names = slots.columns["state"], slots.columns["call_id"]
        for index in np.flatnonzero((state == OPEN) | (state == ORPHAN)):
            call_id = wanted.get(bytes(names[index]))
            if call_id is None:
                continue
            level = self._caller(slots, index), self._agent(slots, index, call_id)
            if self.told.get(call_id) != level:
                self.told[call_id] = changed[call_id] = level
        self.told = {i: level for i, level in self.told.items() if i in ids}
        self._played = {i: count for i, count in self._played.items() if i in ids}
        return changed

    def _attached(self) -> SlotMap | None:
        if self._map is None or not self._map.same(self._path):
            try:
                self._map = SlotMap.attach(self._path, write=False)
            except MediaError:  # no media process here
                self._map = None
        return self._map

    def _caller(self, slots: SlotMap, index: np.intp) -> int:
        c = slots.columns
        rate = int(c["t_rate"][index])
        if rate not in slots.up:
            return 0
        up = slots.up[rate][index]
        head = int(c["t_head"][index]) // (rate * FRAME_MS)
        return _level(up[(head + np.arange(-_FRAMES, 0)) % len(up)])

    def _agent(self, slots: SlotMap, index: np.intp, call_id: str) -> int:
        c = slots.columns
        played = int(c["n_played"][index])
        before, self._played[call_id] = self._played.get(call_id, played), played
        frames = min(played - before, _FRAMES)
        rate, ring = int(c["down_rate"][index]), int(c["ring"][index])
        if frames <= 0 or rate not in slots.play:
            return 0
        down = slots.play[rate][index, ring]
        read = int(c["play_read"][index, ring])
        return _level(down[(read + np.arange(-frames, 0)) % len(down)])


def _level(pcm: NDArray[np.int16]) -> int:
    power = float(np.mean(np.square(pcm, dtype=np.float64))) / 32768**2
    decibels = 10 * math.log10(max(power, 1e-9))
    return round(100 * max(0.0, 1 - decibels / FLOOR_DB))
