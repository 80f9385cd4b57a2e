"""From the network up: datagrams in, 20 ms frames of PCM in the slots' rings.

Per batch: the call by its sender; then packets that are just what was due (`Ordinary`, nearly all)
are decoded and handed up, and the others go the general way: headers, order (`JitterBank`), audio
time (`Timeline`), decoding, concealment. At last, speech detection. Each stage is a few numpy
operations over all calls of the batch; where calls differ (codec, packet size) the batch is split
by what they have in common.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio.codecs import BY_NUMBER, Codec, Coder
from bridge.audio.conceal import HISTORY_MS, RUN_MS, ComfortNoise, ConcealBank
from bridge.audio.speech import SpeechBank
from bridge.media.reflex import ReflexBank
from bridge.media.slots import (
    CONCEALED,
    DROP,
    DROPPED,
    ECHO,
    FRAME_MS,
    NOTHING_SENT,
    REPLAY,
    RESYNTHESIZE,
    SPEECH,
    UP_FRAMES,
    UP_RATES,
    SlotMap,
)
from bridge.media.udp import ROOM, Link, Portable
from bridge.rtp.header import HEADER_BYTES, Cause, parse
from bridge.rtp.jitter import JitterBank, Packets, Release, places
from bridge.rtp.ordinary import Ordinary, fields
from bridge.rtp.timeline import Timeline

_MOST_BATCHES, _MANY_RELEASES = 4, 64
"""Batches read in one tick, and releases after which no other is read: a flood never keeps the
sender waiting."""
_MOST_UNREAD_MS = 500.0
"""While more is to be read, the clock supplies nothing: what it stands in for may lie there. Only
so long, because a flood never ends."""
_EXPIRE_MS, _EXPIRE_EARLY_MS = 17.5, 12.5
"""Gaps are given up every 20 ms, together, because what follows costs the same for one call as for
ten (measured: half of the receiving at 1 % loss); those too whose deadline is near."""
_CROWD, _CROWD_EXPIRE_MS, _CROWD_EXPIRE_EARLY_MS = 24, 37.5, 17.5
"""Where so many packets wait, every 40 ms."""
_LEARN_MS = 77.5
"""`learn` comes every eighth tick, for the same reason."""
_TABLE = max(BY_NUMBER) + 1


class Uplink:
    """The receiving half of the plane."""

    def __init__(self, slots: SlotMap, link: Link | Portable, reflex: ReflexBank) -> None:
        """Receive from `link` into `slots`; what is heard goes to `reflex`."""
        self._c = slots.columns
        self._link = link
        self._up: NDArray[np.int16] = slots.columns["up"]
        self._frames = slots.up
        self.jitter = JitterBank(slots.columns, max(256, 4 * slots.calls), ROOM)
        self.timeline = Timeline(slots.columns)
        self._ordinary = Ordinary(slots.calls)
        self.conceal = ConcealBank(slots.calls, max(UP_RATES))
        self._speech, self._reflex = SpeechBank(slots.columns), reflex
        self._noise = ComfortNoise()
        self._missing = np.zeros(slots.calls, np.int64)  # samples made up in a row
        self._keys: NDArray[np.int64] = np.zeros(0, np.int64)
        self._rows: NDArray[np.intp] = np.zeros(0, np.intp)
        self._source = np.zeros(slots.calls, np.int64)
        self._expire_ms = self._learn_ms = -np.inf
        self._unread_ms = np.inf  # since when there has been more to read than a tick reads
        self.fresh = np.zeros(slots.calls, bool)
        """Calls that have got new frames since somebody looked."""
        self.count: dict[str, int] = {
            "unknown_source": 0,
            **{c.name.lower(): 0 for c in Cause if c},
        }
        self._coders: dict[int, Coder] = {}
        self._expected = np.zeros(_TABLE, np.uint8)
        self._bytes_per_ms = np.zeros(_TABLE, np.int64)
        self._rate = np.zeros(_TABLE, np.int64)
        for codec in BY_NUMBER.values():
            self._expected[codec.number] = codec.payload_type
            self._bytes_per_ms[codec.number] = codec.bytes_per_ms
            self._rate[codec.number] = codec.sample_rate // 1000

    def learn(self) -> None:
        """What need not be known at once of the frames that went up: floors, echoes, lateness."""
        self._speech.learn()
        self._reflex.learn()
        self._ordinary.forget(self.timeline.learn())

    def forget(self, call: int) -> None:
        """The call is over: what its decoder remembers goes."""
        self.learn()  # what was noted of it is not the next one's
        self._missing[call] = 0
        self._ordinary.forget(call)
        for coder in self._coders.values():
            coder.reset(call)

    def listen(self, keys: NDArray[np.int64], rows: NDArray[np.intp]) -> None:
        """Who may speak: the sorted source keys, and each one's call."""
        self._source[rows] = keys
        # One more, greater than any: then every source has a place.
        self._keys, self._rows = np.append(keys, np.iinfo(np.int64).max), np.append(rows, 0)

    def receive(self, now: float) -> None:
        """Take what has come, and let go of what has waited long enough."""
        for _ in range(_MOST_BATCHES):
            n, length, source = self._link.receive()
            releases = self._batch(now, length, source) if n else 0
            if n < len(self._link.buffer):
                self._unread_ms = np.inf
                break
            self._unread_ms = min(self._unread_ms, now)
            if releases > _MANY_RELEASES:
                break
        if now >= self._learn_ms:
            self._learn_ms = now + _LEARN_MS
            self.learn()
        if len(self.jitter) and now >= self._expire_ms:
            crowd = len(self.jitter) >= _CROWD
            self._expire_ms = now + (_CROWD_EXPIRE_MS if crowd else _EXPIRE_MS)
            early_ms = _CROWD_EXPIRE_EARLY_MS if crowd else _EXPIRE_EARLY_MS
            for release in self.jitter.expire(now + early_ms):
                self._release(now, release)

    def supply(self, now: float) -> None:
        """Frames from the clock for calls that nothing came from."""
        if self._unread_ms <= now < self._unread_ms + _MOST_UNREAD_MS:
            return
        waiting = self.jitter.waiting > 0 if len(self.jitter) else None
        while len(calls := self.timeline.supply(now, waiting)):
            self._ordinary.forget(calls)
            rate = self._c["t_rate"][calls]
            self._fill(calls, FRAME_MS * rate, np.ones(len(calls), bool))

    def _batch(self, now: float, length: NDArray[np.int64], source: NDArray[np.int64]) -> int:
        """What came at once; returns in how many releases it went up."""
        buffer = self._link.buffer[: len(length)]
        call = self._rows[np.searchsorted(self._keys, source)]
        found = fields(buffer, length, source)
        plain = self._ordinary.match(call, found)
        rows = np.flatnonzero(plain)
        if len(rows):
            self._go_on(now, rows, call[rows], found[rows])
        if len(rows) == len(length):
            return 1
        if len(rows):
            odd = np.flatnonzero(~plain)
            length, source = length[odd], source[odd]
            # As wide as they are; what is cut off stays longer than its row (`parse` sees that).
            width = min(max(int(length.max()), 16), buffer.shape[1])
            buffer = buffer[odd, :width]
        return self._examine(now, buffer, length, source) + 1

    def _go_on(
        self,
        now: float,
        rows: NDArray[np.intp],
        call: NDArray[np.intp],
        found: NDArray[np.int64],
    ) -> None:
        """Ordinary packets, one a call, in `rows` of the buffer; `found` as `fields` gave it."""
        kind = self._c["codec"][call]
        if (kind == kind[0]).all():
            self._go_on_group(now, int(kind[0]), rows, call, found)
            return
        for number in np.unique(kind).tolist():
            some = np.flatnonzero(kind == number)
            self._go_on_group(now, number, rows[some], call[some], found[some])

    def _go_on_group(
        self,
        now: float,
        number: int,
        rows: NDArray[np.intp],
        call: NDArray[np.intp],
        found: NDArray[np.int64],
    ) -> None:
        size = found[:, 3] - HEADER_BYTES  # alike for all, because their frames are
        payload = self._link.buffer[rows, HEADER_BYTES : HEADER_BYTES + int(size[0])]
        pcm = self._coders[number].decode(call, payload, size)
        self.jitter.go_on(call, found[:, 0] & 0xFFFF)
        self._ordinary.go_on(call, found, FRAME_MS * BY_NUMBER[number].clock_rate // 1000)
        self._hand_up(now, number, call, pcm, found[:, 1])

    def _hand_up(
        self,
        now: float,
        number: int,
        call: NDArray[np.intp],
        pcm: NDArray[np.int16],
        timestamp: NDArray[np.int64],
        place: NDArray[np.int64] | None = None,
    ) -> None:
        """Whole frames, one a call unless `place` counts each call's; nothing happened to them."""
        codec = BY_NUMBER[number]
        rate, clock = codec.sample_rate // 1000, codec.clock_rate // 1000
        head = self._c["t_head"][call]
        if place is not None:
            head += place * (FRAME_MS * rate)
        self._write_frames(call, head // (FRAME_MS * rate), pcm, rate, 0, place)
        head += FRAME_MS * rate
        unsteady = self.timeline.go_on(now, call, timestamp, head, FRAME_MS, rate, clock)
        self._ordinary.forget(unsteady)
        self.fresh[call] = True

    def _undisturbed(self, call: NDArray[np.intp], codec: Codec, frames: int) -> bool:
        """Whether so many frames that are next in sequence and time simply go up, for all."""
        return bool(
            self.timeline.steady(call, frames).all()
            and not (self._c["t_head"][call] % (FRAME_MS * codec.sample_rate // 1000)).any()
            and not self.conceal.run[call].any()
        )

    def _expect(self, number: int, p: Packets) -> None:
        """Packets of a frame each went up the general way: what is next may be ordinary again."""
        codec = BY_NUMBER[number]
        frame = FRAME_MS * codec.sample_rate // 1000
        alone = self.jitter.waiting[p.call] == 0
        if not alone.any():
            return
        aligned = self._c["t_head"][p.call] % frame == 0
        steady = alone & aligned & self.timeline.steady(p.call)
        if steady.any():
            p = p.take(steady)
            seq, timestamp = self.jitter.next[p.call], self.timeline.next[p.call]
            kind, source = codec.payload_type, self._source[p.call]
            self._ordinary.expect(p.call, kind, seq, timestamp, p.ssrc, p.size, source)

    def _examine(
        self,
        now: float,
        buffer: NDArray[np.uint8],
        length: NDArray[np.int64],
        source: NDArray[np.int64],
    ) -> int:
        """Datagrams of any kind, from anybody; returns in how many releases they went up."""
        n = len(length)
        at = np.searchsorted(self._keys, source)
        known = self._keys[at] == source
        h = parse(buffer, length)
        good = known & (h.cause == Cause.OK)
        rows = np.flatnonzero(good)
        call = self._rows[at[rows]]
        if len(rows) < n:
            self.count["unknown_source"] += int(n - known.sum())
            for cause, number in zip(*np.unique(h.cause[known], return_counts=True), strict=True):
                if cause != Cause.OK:
                    self.count[Cause(cause).name.lower()] += int(number)
            np.add.at(self._c["n_bad"], self._rows[at[known & ~good]], 1)
            if not len(rows):
                return 0
        size = h.size[rows]
        wrong = h.payload_type[rows] != self._expected[self._c["codec"][call]]
        if wrong.any():
            # Telephone events, comfort noise and the like: not audio, yet part of the sequence.
            np.add.at(self._c["n_wrong_type"], call[wrong], 1)
            size[wrong] = 0
        packets = Packets(
            call=call,
            ssrc=h.ssrc[rows],
            seq=h.seq[rows],
            timestamp=h.timestamp[rows],
            marker=h.marker[rows],
            buffer=buffer,
            row=rows,
            offset=h.offset[rows],
            size=size,
        )
        self._ordinary.forget(call)
        releases = 0
        for release in self.jitter.arrive(now, packets):
            self._release(now, release)
            releases += 1
        self._ordinary.forget(self.jitter.holding)
        return releases

    def _release(self, now: float, release: Release) -> None:
        self._one_each(now, release.packets, release.lost, release.restart)
        if release.behind is None:
            return
        p = release.behind
        place = places(p.call)
        if self._follow(now, p, place):
            return
        for number in range(int(place.max()) + 1):
            some = p.take(place == number)
            none = np.zeros(len(some.call), np.int64)
            self._one_each(now, some, none, none > 0)

    def _one_each(
        self, now: float, p: Packets, lost: NDArray[np.int64], restart: NDArray[np.bool_]
    ) -> None:
        """The next packets of some calls, one each."""
        audio = p.size > 0
        if not audio.all():
            # A stream that begins with something else begins for us with its first audio.
            self._c["j_ssrc"][p.call[~audio & restart]] = -1
            p, lost, restart = p.take(audio), lost[audio], restart[audio]
        if not len(p.call):
            return
        kind = self._c["codec"][p.call]
        span = self._spans(kind, p)
        if (kind == kind[0]).all() and (span == span[0]).all():
            self._group(now, int(kind[0]), int(span[0]), p, lost, restart)
            return
        both = kind.astype(np.int64) << 32 | span
        for value in np.unique(both):
            some = both == value
            of, samples = int(value >> 32), int(value & 0xFFFFFFFF)
            self._group(now, of, samples, p.take(some), lost[some], restart[some])

    def _follow(self, now: float, p: Packets, place: NDArray[np.int64]) -> bool:
        """Hand up what waited behind others, if all of it is frames that simply follow."""
        kind = self._c["codec"][p.call]
        codec = BY_NUMBER[int(kind[0])]
        size = FRAME_MS * codec.bytes_per_ms
        if not size or (kind != kind[0]).any() or (p.size != size).any():
            return False
        step = FRAME_MS * codec.clock_rate // 1000
        following = p.timestamp == self.timeline.next[p.call] + place * step
        if not following.all() or not self._undisturbed(p.call, codec, int(place.max()) + 1):
            return False
        pcm = self._coder(codec.number).decode(p.call, _payload(p, size), p.size)
        self._hand_up(now, codec.number, p.call, pcm, p.timestamp, place)
        last = p.take(np.append(p.call[1:] != p.call[:-1], True))
        self._expect(codec.number, last)
        return True

    def _spans(self, kind: NDArray[np.uint8], p: Packets) -> NDArray[np.int64]:
        """Samples that each packet stands for."""
        per_ms = self._bytes_per_ms[kind]
        span: NDArray[np.int64] = p.size * self._rate[kind] // np.maximum(per_ms, 1)
        if not per_ms.all():
            for number in np.unique(kind[per_ms == 0]):
                some = np.flatnonzero(kind == number)
                at = np.minimum(p.offset[some, None] + np.arange(2), p.buffer.shape[1] - 1)
                head = p.buffer[p.row[some, None], at]
                spans = BY_NUMBER[int(number)].spans
                assert spans is not None, "a codec whose packets vary says how long they are"
                span[some] = spans(head, p.size[some])
        return span

    def _coder(self, number: int) -> Coder:
        if number not in self._coders:
            self._coders[number] = BY_NUMBER[number].make()
        return self._coders[number]

    def _group(
        self,
        now: float,
        number: int,
        samples: int,
        p: Packets,
        lost: NDArray[np.int64],
        restart: NDArray[np.bool_],
    ) -> None:
        """Packets of one codec, all of so many samples."""
        if not samples:
            return
        rate = int(self._rate[number])
        coder = self._coder(number)
        for call in p.call[restart].tolist():
            coder.reset(call)
        framed = samples == FRAME_MS * rate and bool(self._bytes_per_ms[number])
        if framed and not (restart.any() or lost.any()):
            following = (p.timestamp == self.timeline.next[p.call]).all()
            if following and self._undisturbed(p.call, BY_NUMBER[number], 1):
                pcm = coder.decode(p.call, _payload(p, int(p.size[0])), p.size)
                self._hand_up(now, number, p.call, pcm, p.timestamp)
                self._expect(number, p)
                return
        place = self.timeline.place(
            now,
            p.call,
            p.timestamp,
            np.full(len(p.call), samples),
            lost,
            restart,
            p.marker,
            ~self._c["s_speech"][p.call],
        )
        if place.fill.any():
            some = place.fill > 0
            hole = some & ~place.lost
            self._c["n_lost"][p.call[hole]] -= lost[hole]
            self._fill(p.call[some], place.fill[some], place.lost[some])
        if not place.take.all():
            p = p.take(place.take)
            if not len(p.call):
                return
        pcm = coder.decode(p.call, _payload(p, int(p.size.max())), p.size)
        self._missing[p.call] = 0
        broken = self.conceal.run[p.call] > 0
        if broken.any():
            pcm[broken] = self.conceal.blend(p.call[broken], pcm[broken], rate)
        self._write(p.call, pcm, rate, 0)
        if framed:
            self._expect(number, p)

    def _fill(
        self, calls: NDArray[np.intp], samples: NDArray[np.int64], lost: NDArray[np.bool_]
    ) -> None:
        """Make up samples: concealed where lost, nothing where nothing was sent."""
        left = samples.copy()
        while len(calls):
            rates = self._c["t_rate"][calls]
            part = np.minimum(left, FRAME_MS * rates)
            both = part << 8 | rates << 1 | lost
            for value in np.unique(both):
                some = both == value
                n, rate = int(value >> 8), int(value >> 1 & 0x7F)
                self._stand_in(calls[some], n, rate, bool(value & 1))
            left -= part
            more = left > 0
            calls, left, lost = calls[more], left[more], lost[more]

    def _stand_in(self, calls: NDArray[np.intp], n: int, rate: int, lost: bool) -> None:
        """Write n samples that did not come."""
        fading = self._missing[calls] < RUN_MS * rate
        self._missing[calls] += n
        real = fading & lost & (self._c["j_ssrc"][calls] >= 0)
        if not real.all():
            # Nothing was sent, or concealment has run out: the line's own noise.
            idle = calls[~real]
            noise = self._noise.make(self._c["s_floor_db"][idle], n)
            noise[self._c["j_ssrc"][idle] < 0] = 0  # no line yet
            self._write(idle, noise, rate, NOTHING_SENT)
            calls = calls[real]
            if not len(calls):
                return
        self._c["n_concealed_ms"][calls] += n / rate
        late = self._c["late"][calls]
        for choice in np.unique(late).tolist():
            some = calls[late == choice]
            if choice == RESYNTHESIZE:
                made = self._made_up(some, n, rate)
            elif choice == REPLAY:
                made = self._repeated(some, n, rate, np.full(len(some), FRAME_MS * rate))
            else:
                made = np.zeros((len(some), n), np.int16)
            self._write(some, made, rate, CONCEALED | (DROPPED if choice == DROP else 0))

    def _made_up(self, calls: NDArray[np.intp], n: int, rate: int) -> NDArray[np.int16]:
        """The next n samples of calls of one rate: by a codec that can tell them, else by us."""
        kind = self._c["codec"][calls]
        out = np.zeros((len(calls), n), np.int16)
        for number in np.unique(kind).tolist():
            some = kind == number
            coder = self._coders.get(number)
            made = coder.conceal(calls[some], n) if coder is not None else None
            out[some] = self._repeated(calls[some], n, rate) if made is None else made
        return out

    def _repeated(
        self,
        calls: NDArray[np.intp],
        n: int,
        rate: int,
        period: NDArray[np.intp] | None = None,
    ) -> NDArray[np.int16]:
        running = self.conceal.run[calls] > 0
        if running.all():
            return self.conceal.make(calls, None, n, rate)
        out = np.zeros((len(calls), n), np.int16)
        if running.any():
            out[running] = self.conceal.make(calls[running], None, n, rate)
        begin = calls[~running]
        span, ring = HISTORY_MS * rate, UP_FRAMES * FRAME_MS * rate
        at = (self._c["t_head"][begin, None] - span + np.arange(span)) % ring
        if period is not None:
            period = period[~running]
        out[~running] = self.conceal.make(begin, self._up[begin[:, None], at], n, rate, period)
        return out

    def _write(
        self, calls: NDArray[np.intp], pcm: NDArray[np.int16], rate: int, flags: int
    ) -> None:
        """Append samples (k, n) to the calls' streams, judge the frames that are whole, publish."""
        head: NDArray[Any] = self._c["t_head"]
        frames, up_flags = self._frames[rate], self._c["up_flags"]
        begin, n, frame = head[calls], pcm.shape[1], FRAME_MS * rate
        ring = frames.shape[1]
        if n == frame and not (begin % frame).any():
            self._write_frames(calls, begin // frame, pcm, rate, flags)
        else:
            at = (begin[:, None] + np.arange(n)) % (ring * frame)
            self._up[calls[:, None], at] = pcm
            first, last = begin // frame, (begin + n - 1) // frame
            started = begin % frame == 0
            up_flags[calls[started], first[started] % ring] = flags
            up_flags[calls[~started], first[~started] % ring] |= flags
            for step in range(1, int((last - first).max()) + 1):
                more = first + step <= last
                up_flags[calls[more], (first[more] + step) % ring] = flags
            whole = (begin + n) // frame
            for step in range(int((whole - first).max())):
                done = first + step < whole
                at = (first[done] + step) % ring
                some = calls[done]
                up_flags[some, at] |= self._judge(some, frames[some, at], flags)
        self.timeline.advance(calls, n)
        self.fresh[calls] = True

    def _write_frames(
        self,
        calls: NDArray[np.intp],
        number: NDArray[np.int64],
        pcm: NDArray[np.int16],
        rate: int,
        flags: int,
        place: NDArray[np.int64] | None = None,
    ) -> None:
        """Put whole frames, (k, samples), at their places, with what the detector says of them."""
        frames = self._frames[rate]
        at = number % frames.shape[1]
        frames[calls, at] = pcm
        self._c["up_flags"][calls, at] = self._judge(calls, pcm, flags, place) | flags

    def _judge(
        self,
        calls: NDArray[np.intp],
        pcm: NDArray[np.int16],
        made_up: int,
        place: NDArray[np.int64] | None = None,
    ) -> NDArray[np.uint8]:
        """Flags of whole frames (k, samples), one a call unless `place` counts each call's."""
        speech, level = self._speech.judge(calls, pcm, real=not made_up)
        if place is None:
            echo = self._reflex.heard(calls, level, speech)
        else:
            echo = np.zeros(len(calls), bool)
            for number in range(int(place.max()) + 1):
                some = place == number
                echo[some] = self._reflex.heard(calls[some], level[some], speech[some])
        flags: NDArray[np.uint8] = speech.view(np.uint8) * SPEECH | echo.view(np.uint8) * ECHO
        return flags


def _payload(p: Packets, width: int) -> NDArray[np.uint8]:
    """Each packet's first `width` payload bytes, (k, width); beyond its own may be anything."""
    payload: NDArray[np.uint8]
    if (p.offset == p.offset[0]).all():
        begin = int(p.offset[0])
        payload = p.buffer[p.row, begin : begin + width]
    else:
        at = np.minimum(p.offset[:, None] + np.arange(width), p.buffer.shape[1] - 1)
        payload = p.buffer[p.row[:, None], at]
    return payload
