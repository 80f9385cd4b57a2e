"""What callers hear, packet by packet: gaps between packets, and the sound to compare with.

Pure: packets come as arrays with the kernel's times, calls begin and end as they are told. Of each
call the sound of `KEPT_S` is kept: the first (an agent's greeting) or the last (an echo, which has
to be right after a whole call).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tests.bench.verify import find
from tests.lab.capture import PCMU, TABLES, Pcm
from tests.soak.wire import FRAME, Ints

GAP_MS = 60.0
"""Longer between two packets is a gap: two were missed."""
KEPT_S = 5
FRAMES = 50
"""A second."""
_KEPT = KEPT_S * FRAMES
_TABLE = TABLES[PCMU]
# The pair of tones of the lab's human (asterisk-config/demo), who takes whom no agent serves.
_HUMAN_HZ = (650, 1450)
_LOUD = 200.0


@dataclass
class Heard:
    """What one caller heard."""

    packets: int = 0
    first_ns: int = 0
    gaps: list[tuple[int, float]] = field(default_factory=list)
    """When each ended (ns), and its length (ms)."""
    sound: Pcm = field(default_factory=lambda: np.zeros(0, np.int16))
    """What was kept of it."""


class Judge:
    """Args:
    callers: how many there may be, ever.
    calls: how many at once.
    """

    def __init__(self, callers: int, calls: int) -> None:
        self._place = np.full(callers, -1, np.int64)
        self._free = list(range(calls))
        self._kept = np.zeros((calls, _KEPT, FRAME), np.uint8)
        self._ring = np.zeros(calls, bool)
        self._last, self._first = np.zeros(calls, np.int64), np.zeros(calls, np.int64)
        self._count = np.zeros(calls, np.int64)
        self._gaps: dict[int, list[tuple[int, float]]] = {}
        self.news: deque[tuple[int, float]] = deque()
        """Gaps, as they are found; whoever reads them takes them out."""

    def begin(self, caller: int, *, keep_last: bool) -> None:
        """A call begins; packets of it count from now on."""
        self._place[caller] = at = self._free.pop()
        self._ring[at] = keep_last
        self._last[at] = self._first[at] = self._count[at] = 0
        self._gaps[at] = []

    def took(self, callers: Ints, at: Ints, payloads: npt.NDArray[np.uint8]) -> None:
        """Packets have come, each at its time (ns), in that order."""
        known = (callers >= 0) & (callers < len(self._place))
        order = np.argsort(np.where(known, callers, 0), kind="stable")
        order = order[known[order]]
        place = self._place[callers[order]]
        order, place = order[place >= 0], place[place >= 0]
        if not len(order):
            return
        n = np.arange(len(order))
        new = np.concatenate(([True], place[1:] != place[:-1]))
        rank = n - np.maximum.accumulate(np.where(new, n, 0))
        when = at[order]
        before = np.where(new, self._last[place], np.concatenate(([0], when[:-1])))
        late = np.flatnonzero((before > 0) & (when - before > GAP_MS * 1e6))
        for k in late.tolist():
            gap = int(when[k]), float(when[k] - before[k]) / 1e6
            self._gaps[int(place[k])].append(gap)
            self.news.append(gap)
        beginning = place[before == 0]
        self._first[beginning] = when[before == 0]
        number = self._count[place] + rank
        keep = self._ring[place] | (number < _KEPT)
        self._kept[place[keep], number[keep] % _KEPT] = payloads[order[keep]]
        ends = np.concatenate((new[1:], [True]))  # each call's last
        self._last[place[ends]] = when[ends]
        self._count[place[ends]] = number[ends] + 1

    def gaps(self) -> int:
        """How many there have been in the calls that are under way."""
        return sum(map(len, self._gaps.values()))

    def end(self, caller: int, at: int) -> Heard:
        """A call is over since that time (ns): until then packets had to come."""
        place = int(self._place[caller])
        self._place[caller] = -1
        self._free.append(place)
        count, last = int(self._count[place]), int(self._last[place])
        gaps = self._gaps.pop(place)
        if last and at - last > GAP_MS * 1e6:
            gaps.append((at, (at - last) / 1e6))
            self.news.append(gaps[-1])
        kept = self._kept[place]
        if self._ring[place] and count > _KEPT:
            kept = np.roll(kept, -(count % _KEPT), axis=0)
        sound = _TABLE[kept[: min(count, _KEPT)]].reshape(-1)
        return Heard(count, int(self._first[place]), gaps, sound)


def is_human(sound: Pcm) -> bool:
    """Whether the lab's human is heard in it: his two tones and little else in some half second."""
    half = FRAMES // 2 * FRAME
    for first in range(0, len(sound) - half + 1, half):
        wave = sound[first : first + half].astype(np.float64)
        power = np.abs(np.fft.rfft(wave * np.hanning(half))) ** 2
        if np.sqrt(np.mean(wave**2)) < _LOUD:
            continue
        bins = [round(hz * half / 8000) for hz in _HUMAN_HZ]
        tones = [float(power[b - 2 : b + 3].sum()) for b in bins]
        if min(tones) > 0.2 * power.sum():
            return True
    return False


def alike(sound: Pcm, reference: Pcm) -> float | None:
    """How well `sound` is found in `reference` (1: the same); None: there is nothing to hear."""
    if len(sound) < FRAMES * FRAME or len(sound) > len(reference):
        return None
    if np.sqrt(np.mean(np.square(sound, dtype=np.float64))) < _LOUD:
        return None
    return find(sound, reference)[1]


def in_pieces(sound: Pcm, reference: Pcm) -> float | None:
    """The same of the middle one of its half seconds: it may lag by a frame more from somewhere on,
    as an echo does that had to wait for a packet."""
    half = FRAMES // 2 * FRAME
    found = []
    for first in range(0, len(sound) - half + 1, half):
        piece = sound[first : first + half]
        if np.sqrt(np.mean(np.square(piece, dtype=np.float64))) >= _LOUD:
            found.append(find(piece, reference)[1])
    return float(np.median(found)) if len(found) > 1 else None
