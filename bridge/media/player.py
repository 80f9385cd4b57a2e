"""A worker's side of a slot's playout ring: items in, samples heard out.

Audio comes in pieces of any size at the engine's rate. It is resampled to the line's, cut into
frames of 20 ms and published frame by frame; what is less than a frame stays here until more comes
or the item is done. Positions count samples of the line since the ring began. An item was heard as
far as media's read position has got in it, less what a clear dropped: media notes each cut as
(where it stopped, where it went on).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio.resample import DELAY_MS, ResamplerBank
from bridge.dialog.flow import Flow, Pour
from bridge.media.slots import CUTS, FRAME_MS, ITEMS, KEPT, SlotMap

MARGIN_S = 0.01
"""A stream that begins with a single frame waits so long for the next one: published just before
media sends, it would be through before the next is there, unless that came to the millisecond."""
FEW = 3
"""Players whose audio isn't worth being published together."""


@dataclass(slots=True)
class _Item:
    item: int
    start: int
    """Line position of its first sample."""
    taken: int = 0
    """Samples at the engine's rate."""
    length: int = 0
    """Samples at the line's rate, in the ring or about to be."""
    done: bool = False
    heard: int = 0
    """As told last, at the engine's rate."""
    final: bool = False


class Player:
    """Writes one ring of one slot."""

    def __init__(
        self,
        slots: SlotMap,
        index: int,
        ring: int,
        rate: int,
        later: Callable[[Player, float], None] | None = None,
        bank: ResamplerBank | None = None,
        pour: Pour | None = None,
    ) -> None:
        """Play at `rate` Hz into `ring` of slot `index`, resampled by lane `index` of `bank`.

        `later`: told when there is audio that `flush_all` should publish soon, and after so many
        seconds; without it, audio is published at once. `pour`: plays what flows (by `pour` below).
        """
        c = slots.columns
        self._slots = slots
        self._line = int(c["down_rate"][index]) * 1000
        self.rate, self.flow = rate, Flow(pour, self)
        self._frame = self._line * FRAME_MS // 1000
        self._ring = slots.play[self._line // 1000][index, ring]
        here = (index, ring)
        self._write, self._read = c["play_write"][here[0]], c["play_read"][here[0]]
        self._clear, self._done = c["play_clear"][here[0]], c["play_done"][here[0]]
        self._pause, self._drop = c["play_pause"][here[0]], c["play_drop"][here[0]]
        self._cuts, self._cut_count = c["play_cuts"][here], c["play_cut_count"][here[0]]
        self._table = c["play_items"][here]
        self.ring = ring
        if bank is None and rate != self._line:
            bank = ResamplerBank(rate, self._line, slots.calls)
        self._resampler = bank
        self._block = 1 if bank is None else bank.block
        self._delay = 0 if bank is None else int(DELAY_MS * self._line / 1000)
        self.index = index
        if bank is not None:
            bank.reset(index)
        self._later = later
        self._pieces: list[NDArray[np.int16]] = []
        self._waiting = 0  # samples of the pieces
        self._rest: NDArray[np.int16] = np.zeros(0, np.int16)
        self._items: deque[_Item] = deque()
        self._seen_cuts = int(self._cut_count[ring])
        self._target = 0  # frames: up to where the last clear drops
        self._due = self._held = False  # it was told that there is audio; which is to wait
        self._free = 0  # samples that there is room for at least
        self._seen_read, self._news = -1, False
        self._settled: dict[int, int] = {}
        self._settled_since: dict[int, int] = {}

    def forget_items(self) -> None:
        """Take nobody's items for ours: the ring was another's before."""
        self._table[:] = -1

    def play(self, item: int, pcm: NDArray[np.int16]) -> int:
        """Queue audio of an item; returns how many samples were taken."""
        current = self._items[-1] if self._items else None
        if current is None or current.item != item or current.done:
            current = self._begin(item, current)
        n = len(pcm)
        if n > self._free:
            self._free = self._room()
            if n > self._free:
                pcm = pcm[: self._free]
                n = len(pcm)
        if n:
            self._take(current, pcm, n)
        return n

    def _take(self, current: _Item, pcm: NDArray[np.int16], n: int) -> None:
        self._free -= n
        current.taken += n
        if self._later is not None and not (self._due and not self._held):
            begins = current.taken == n and n * 1000 <= FRAME_MS * self.rate and not self._due
            self._held = begins and self._write.item(self.ring) == self._read.item(self.ring)
            self._due = True
            self._later(self, MARGIN_S if self._held else 0.0)
        # The caller may use its buffer again, unless nobody can write into it any more.
        keep = self._later is not None and pcm.flags.writeable
        self._pieces.append(pcm.copy() if keep else pcm)
        self._waiting += n
        if self._later is None:
            flush_all([self])

    def room(self) -> int:
        """How many samples `play` takes now."""
        self._free = self._room()
        return self._free

    def done(self, item: int) -> None:
        """The item is complete: publish its last, partial frame, padded with silence."""
        current = self._items[-1] if self._items else None
        if current is None or current.item != item or current.done:
            return
        self.flow.close()
        if self._resampler is not None and current.taken:
            # The filter still holds the item's last samples.
            tail = int(DELAY_MS * self.rate / 1000)
            tail += -(self._waiting + tail) % self._block
            self._pieces.append(np.zeros(tail, np.int16))
            self._waiting += tail
        flush_all([self])
        current.done = self._news = True
        self._free = 0
        if len(self._rest):
            padded = np.zeros(self._frame, np.int16)
            padded[: len(self._rest)] = self._rest
            self._rest = self._rest[:0]
            self._publish(padded)
        self._done[self.ring] = self._write[self.ring]

    def pause(self) -> None:
        """Hold what is queued."""
        self._pause[self.ring] = True

    def resume(self) -> None:
        """Go on."""
        self._pause[self.ring] = False

    def clear(self) -> None:
        """Drop what is not played yet."""
        self.flow.close()
        self._settle(self._at())
        if self._items:
            # What was not published yet was never to be heard.
            last = self._items[-1]
            published = int(self._write[self.ring]) * self._frame - last.start
            if published < last.length or self._pieces:
                last.length = max(0, min(last.length, published))
                last.taken = min(last.taken, self._engine(last.length))
            last.done = True
        self._pieces, self._waiting, self._rest = [], 0, self._rest[:0]
        self._free, self._news = 0, True
        if self._resampler is not None:
            self._resampler.reset(self.index)
        self._target = int(self._write[self.ring])
        self._done[self.ring] = self._clear[self.ring] = self._target
        self._drop[self.ring] = True
        self._pause[self.ring] = False

    @property
    def cleared(self) -> bool:
        """Whether the last `clear` was carried out."""
        return bool(self._read[self.ring] >= self._target)

    @property
    def queued_ms(self) -> int:
        """Audio that waits to be played."""
        frames = int(self._write[self.ring]) - max(self._read[self.ring], self._clear[self.ring])
        return int(frames * FRAME_MS + self._waiting * 1000 // self.rate)

    @property
    def playing(self) -> bool:
        """Whether the next frame is audio."""
        return self.queued_ms > 0 and not self._pause[self.ring]

    def heard(self, item: int) -> int:
        """Samples of an item that went out; of an item already settled, what was told last."""
        at = self._at()
        self._settle(at)
        for one in self._items:
            if one.item == item:
                return self._heard(one, at)
        return self._settled.get(item, 0)

    def heard_items(self) -> dict[int, int]:
        """Samples that went out, of every item for which that has changed since the last time."""
        read, cuts = self._read.item(self.ring), self._cut_count.item(self.ring)
        same = read == self._seen_read and cuts == self._seen_cuts
        if same and not (self._news or self._settled_since):
            return {}
        self._seen_read, self._news = read, False
        at = read * self._frame
        self._settle(at)
        told, self._settled_since = self._settled_since, {}
        for one in self._items:
            heard = self._heard(one, at)
            if heard > one.heard:
                one.heard = told[one.item] = heard
            if heard < one.taken:
                break
        return told

    def _begin(self, item: int, before: _Item | None) -> _Item:
        """The next item, after that one."""
        if before is not None:
            self.done(before.item)
            self._flush_alone()
        one = _Item(item, self._position())
        self._items.append(one)
        self._note(one)
        return one

    def _room(self) -> int:
        """How many samples can be taken."""
        queued: int = self._write.item(self.ring) - self._read.item(self.ring)
        room = len(self._ring) - queued - KEPT
        return max(0, room * FRAME_MS * self.rate // 1000 - self._waiting)

    def _position(self) -> int:
        return int(self._write[self.ring]) * self._frame + len(self._rest)

    def _raw(self) -> NDArray[np.int16]:
        """Take the pieces that wait: whole blocks of the resampler, the rest stays."""
        raw = self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces)
        self._pieces, self._waiting = [], 0
        if over := len(raw) % self._block:
            self._pieces, self._waiting = [raw[-over:]], over
            raw = raw[:-over]
        return raw

    def _put(self, line: NDArray[np.int16]) -> None:
        """Publish what is whole frames of the line's audio and what was left before."""
        self._items[-1].length += len(line)
        joined = np.concatenate((self._rest, line)) if len(self._rest) else line
        whole = len(joined) // self._frame * self._frame
        self._rest = joined[whole:].copy()
        if whole:
            self._publish(joined[:whole])

    def _publish(self, samples: NDArray[np.int16]) -> None:
        frames = samples.reshape(-1, self._frame)
        write, room = int(self._write[self.ring]), len(self._ring)
        at = write % room
        first = min(len(frames), room - at)
        self._ring[at : at + first] = frames[:first]
        if first < len(frames):
            self._ring[: len(frames) - first] = frames[first:]
        self._write[self.ring] = write + len(frames)

    def _flush_alone(self) -> None:
        if self._pieces:
            flush_all([self])

    def _note(self, item: _Item) -> None:
        """Leave the item's place in the map, for whoever takes the slot over."""
        self._table[item.item % ITEMS] = (item.item, item.start, self.rate)

    def _settle(self, at: int) -> None:
        """Take note of cuts, and let go of items whose heard samples are final.

        `at` was read before: a cut that comes only now must not count as heard.
        """
        count: int = self._cut_count.item(self.ring)
        while self._seen_cuts < count:
            stop, go_on = (int(v) * self._frame for v in self._cuts[self._seen_cuts % CUTS])
            self._seen_cuts += 1
            for one in self._items:
                if not one.final and one.start < go_on and stop < one.start + one.length:
                    one.length = max(0, stop - one.start)
                    one.taken = self._engine(one.length)
                    one.done = one.final = True
        while self._items:
            one = self._items[0]
            if not (one.done and (one.final or at >= one.start + one.length)):
                return
            self._settled[one.item] = self._settled_since[one.item] = one.taken
            if len(self._settled) > ITEMS:
                del self._settled[next(iter(self._settled))]
            self._items.popleft()

    def _at(self) -> int:
        at: int = self._read.item(self.ring)
        return at * self._frame

    def _heard(self, one: _Item, at: int) -> int:
        if one.done and at >= one.start + one.length:
            return one.taken
        line = at - one.start - self._delay
        if line <= 0:
            return 0
        heard = line * self.rate // self._line
        return heard if heard < one.taken else one.taken  # noqa: FURB136 - min() is slow

    def _engine(self, line: int) -> int:
        """Samples at the engine's rate that so many of the line's stand for."""
        return max(0, (line - self._delay) * self.rate // self._line)


def flush_all(players: list[Player]) -> None:
    """Resample and publish what waits in each; those with equally much go through together."""
    alike: dict[tuple[ResamplerBank | None, int, int], list[tuple[Player, NDArray[np.int16]]]] = {}
    for player in players:
        player._due = player._held = False
        if not player._pieces:
            continue  # cleared meanwhile
        raw = player._raw()
        if n := len(raw):
            alike.setdefault((player._resampler, player._line, n), []).append((player, raw))
    for group in alike.values():
        if len(group) < FEW:
            for player, raw in group:
                bank = player._resampler
                if bank is not None:
                    raw = bank.process(np.array([player.index]), raw[None])[0]
                player._put(raw)
        else:
            _flush_alike(group)


def pour(players: Sequence[Player], index: NDArray[np.intp], pcm: NDArray[np.int16]) -> None:
    """More of the item that each of these players was given last, (k, n), published at once.

    `index`: the players' slots. There has to be room for it.
    """
    n = pcm.shape[1]
    alike: dict[tuple[ResamplerBank | None, int], list[int]] = {}
    for row, player in enumerate(players):
        current = player._items[-1]
        if player._pieces or n % player._block:  # it goes behind what waits
            player._take(current, pcm[row], n)
            continue
        player._free -= n
        current.taken += n
        alike.setdefault((player._resampler, player._line), []).append(row)
    for rows in alike.values():
        if len(rows) == len(players):
            _publish_all(players, index, pcm)
        else:
            _publish_all([players[row] for row in rows], index[rows], pcm[rows])


def _flush_alike(group: list[tuple[Player, NDArray[np.int16]]]) -> None:
    """The same for players of the same rates, with equally much each."""
    some, raws = zip(*group, strict=True)
    pcm: NDArray[np.int16] = np.concatenate(raws).reshape(len(some), -1)
    _publish_all(some, np.array([player.index for player in some]), pcm)


def _publish_all(some: Sequence[Player], index: NDArray[np.intp], pcm: NDArray[np.int16]) -> None:
    """Resample and publish whole blocks, (k, n), of players of the same rates."""
    first = some[0]
    lines = pcm if first._resampler is None else first._resampler.process(index, pcm)
    n = lines.shape[1]
    whole = []
    for row, player in enumerate(some):
        if n % first._frame or len(player._rest):
            player._put(lines[row])
        else:
            player._items[-1].length += n
            whole.append(row)
    if not whole:
        return
    if len(whole) < len(some):
        lines, index = lines[whole], index[whole]
    frames = lines.reshape(len(whole), -1, first._frame)
    columns, rings = first._slots.columns, first._slots.play[first._line // 1000]
    ring = np.array([some[row].ring for row in whole])
    write = columns["play_write"][index, ring]
    place = (write[:, None] + np.arange(frames.shape[1])) % rings.shape[2]
    rings[index[:, None], ring[:, None], place] = frames
    columns["play_write"][index, ring] = write + frames.shape[1]
