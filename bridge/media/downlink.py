"""From the workers down: one packet a call every 20 ms, out of the owner's ring.

What a frame holds, in this order: the agent's queued audio; a faded first part of it where the
worker (or the reflex) has just paused it, or the worker cleared it; silence, into which the last
sample sent dies away. What a pause fades is not counted as played, and comes again, faded in, when
it goes on: nothing is lost, and the 8 ms that come twice are faded both times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.audio.codecs import BY_NUMBER, Coder, down
from bridge.media.reflex import ReflexBank
from bridge.media.slots import (
    CUTS,
    FRAME_MS,
    FREE,
    ITEMS,
    KEPT,
    MOST_RATE,
    UNLIMITED,
    UP_FRAMES,
    SlotMap,
)
from bridge.media.udp import Link, Portable
from bridge.rtp.header import HEADER_BYTES, headers_view, serialise
from bridge.rtp.packetizer import Packetizer

ROOM_OUT = HEADER_BYTES + 2 * FRAME_MS * MOST_RATE
_FADE_MS = 8
SILENT, PLAYING, PAUSED = 0, 1, 2


class Downlink:
    """The sending half of the plane."""

    def __init__(self, slots: SlotMap, link: Link | Portable, reflex: ReflexBank) -> None:
        """Send from `slots` through `link`; `reflex` learns what is played, and may halt it."""
        self._c = slots.columns
        self._play, self._sent = slots.play, slots.down
        # Of the two rings of every call, one after the other.
        self._read, self._write, self._clear, self._pause = (
            slots.columns[name].reshape(-1)
            for name in ("play_read", "play_write", "play_clear", "play_pause")
        )
        self._handing = bool((self._c["ring"] != self._c["ring_next"]).any())
        self._link, self._reflex = link, reflex
        self._headers = headers_view(link.out)
        self.packetizer = Packetizer(slots.columns)
        self._codec = {c.number: down(c) for c in BY_NUMBER.values()}
        self._coders: dict[str, Coder] = {}
        self._type = np.zeros(max(BY_NUMBER) + 1, np.uint8)
        self._step = np.zeros(max(BY_NUMBER) + 1, np.int64)
        for number, codec in self._codec.items():
            self._type[number] = codec.payload_type
            self._step[number] = codec.clock_rate * FRAME_MS // 1000

    def send(self, calls: NDArray[np.intp]) -> None:
        """Send the next packet of each of `calls`."""
        if not len(calls):
            return
        kind = self._c["codec"][calls]
        if (kind == kind[0]).all():
            self._group(calls, int(kind[0]))
            return
        for number in np.unique(kind):
            self._group(calls[kind == number], int(number))

    def skip(self, calls: NDArray[np.intp]) -> None:
        """Time went by unsent (we were held up): numbers go on, nothing is lost of the queue."""
        if len(calls):
            self._unsent(calls, 1)
            self.packetizer.pass_over(calls, self._step[self._c["codec"][calls]])
            self._c["n_skipped"][calls] += 1

    def hand_over(self, call: int) -> None:
        """A new owner writes the other ring; what is queued in the old one now plays to its end."""
        c = self._c
        old = self.newest_ring(call)
        if c["ring"][call] != old and self._carry_over(call, 1 - old, old):
            old = 1 - old  # what plays is still his predecessor's
        else:
            c["play_limit"][call, old] = c["play_write"][call, old]
        new = 1 - old
        for name in ("play_write", "play_read", "play_clear", "play_done", "play_cut_count"):
            c[name][call, new] = 0
        c["play_pause"][call, new] = c["play_drop"][call, new] = False
        c["play_limit"][call, new] = UNLIMITED
        c["ring"][call], c["ring_next"][call] = old, new
        self._handing = True

    def _carry_over(self, call: int, playing: int, waiting: int) -> bool:
        """An owner died before the turn of his ring came: put what he said behind what plays.

        False: he had dropped that, or there is no room; then it is not played to its end.
        """
        c = self._c
        rate = int(c["down_rate"][call])
        ring = self._play[rate][call]
        begin, end = int(c["play_clear"][call, waiting]), int(c["play_write"][call, waiting])
        read, limit = int(c["play_read"][call, playing]), int(c["play_limit"][call, playing])
        if c["play_drop"][call, waiting] or limit - read + end - begin > ring.shape[1] - KEPT:
            return False
        frames = np.arange(end - begin)
        ring[playing, (limit + frames) % ring.shape[1]] = ring[
            waiting, (begin + frames) % ring.shape[1]
        ]
        old, new = c["play_items"][call, playing], c["play_items"][call, waiting]
        old[old[:, 1] >= limit * FRAME_MS * rate, 0] = -1  # a zombie's, which nobody hears
        for item, start, engine_rate in new[new[:, 0] >= 0]:
            at = start + (limit - begin) * FRAME_MS * rate
            old[item % ITEMS] = (item, at, engine_rate)
        for name in ("play_write", "play_limit"):
            c[name][call, playing] = limit + end - begin
        if end > begin:
            done = int(c["play_done"][call, waiting])
            c["play_done"][call, playing] = done + limit - begin
        return True

    def forget(self, call: int) -> None:
        """The call is over: what its encoder remembers goes."""
        for coder in self._coders.values():
            coder.reset(call)

    def newest_ring(self, call: int) -> int:
        """The ring of the present owner, though an older one may still be playing."""
        return int(self._c["ring_next"][call])

    def catch_up(self, now: float) -> None:
        """Nobody sent for a while (our predecessor is dead): what wasn't sent counts as well."""
        calls = np.flatnonzero(self._c["state"] != FREE)
        passed = ((now - self._c["t_open_ms"][calls]) // FRAME_MS).astype(np.int64)
        behind = np.maximum(passed - self._c["down_head"][calls], 0)
        for frames in np.unique(behind[behind > 0]).tolist():
            self._unsent(calls[behind == frames], frames)

    def _unsent(self, calls: NDArray[np.intp], frames: int) -> None:
        """So many frames went by in which nothing was sent."""
        head = self._c["down_head"][calls]
        for rate, ring in self._sent.items():
            some = self._c["record"][calls] & (self._c["down_rate"][calls] == rate)
            if some.any():
                place = head[some][:, None] + np.arange(min(frames, UP_FRAMES))
                ring[calls[some][:, None], place % UP_FRAMES] = 0
        self._c["down_head"][calls] = head + frames

    def _note(self, calls: NDArray[np.intp], pcm: NDArray[np.int16], rate: int) -> None:
        """The next frame of each call is this: kept for the recorder, where there is one."""
        head = self._c["down_head"][calls]
        recorded = self._c["record"][calls]
        if recorded.any():
            self._sent[rate][calls[recorded], head[recorded] % UP_FRAMES] = pcm[recorded]
        self._c["down_head"][calls] = head + 1

    def _group(self, calls: NDArray[np.intp], number: int) -> None:
        codec = self._codec[number]
        k = len(calls)
        pcm = self._frames(calls, codec.sample_rate // 1000)
        self._note(calls, pcm, codec.sample_rate // 1000)
        dtx = self._c["dtx"][calls]
        if dtx.any() and (quiet := dtx & ~pcm.any(axis=1)).any():
            self.packetizer.pass_over(calls[quiet], self._step[number])
            calls, pcm, k = calls[~quiet], pcm[~quiet], int(k - quiet.sum())
            if not k:
                return
        if codec.name not in self._coders:
            self._coders[codec.name] = codec.make()
        payload = self._coders[codec.name].encode(calls, pcm)
        size = payload.shape[1]
        self._link.out[:k, HEADER_BYTES : HEADER_BYTES + size] = payload
        marker, seq, ts, ssrc = self.packetizer.number(calls, self._step[number])
        serialise(self._headers, self._type[number], marker, seq, ts, ssrc)
        left = self._link.send(calls, HEADER_BYTES + size)
        self._c["n_sent"][calls[:left]] += 1

    def _frames(self, calls: NDArray[np.intp], rate: int) -> NDArray[np.int16]:
        """Each call's next frame, (k, samples)."""
        c = self._c
        ring = self._rings(calls)
        at = 2 * calls + ring  # of the two rings of every call, laid out one after the other
        read, write = self._read[at], self._write[at]
        if self._handing:
            write = np.minimum(write, c["play_limit"].reshape(-1)[at])
        clear = np.minimum(self._clear[at], write)
        paused = self._pause[at] | self._reflex.holds(calls)
        has = read < write
        cleared = read < clear
        held = paused | cleared
        play = has & ~held
        state = play.view(np.uint8)  # SILENT or PLAYING
        if held.any():
            state = np.where(paused & has & ~cleared, PAUSED, state)
        before = c["out_state"][calls]
        frames = self._play[rate]
        length = frames.shape[2]
        pcm: NDArray[np.int16] = frames[calls, ring, read % length]
        if not play.all():
            cut = has & ~play & (before == PLAYING)
            pcm[~play & ~cut] = 0
        if (state != before).any():
            done = c["play_done"].reshape(-1)[at] >= write
            self._change(calls, pcm, before, state, has, done, _FADE_MS * rate)
            c["out_state"][calls] = state
        if cleared.any():
            rows, of = calls[cleared], ring[cleared]
            number = c["play_cut_count"][rows, of]
            c["play_cuts"][rows, of, number % CUTS, 0] = read[cleared]
            c["play_cuts"][rows, of, number % CUTS, 1] = clear[cleared]
            # Counted before it shows: a worker that looks in between must not take it for heard.
            c["play_cut_count"][rows, of] = number + 1
            c["play_read"][rows, of] = clear[cleared]
        self._read[at[play]] = read[play] + 1
        c["n_played"][calls] += play
        if play.any():
            rows = calls[play]
            self._reflex.played(rows, pcm if len(rows) == len(calls) else pcm[play])
        c["out_last"][calls] = pcm[:, -1]
        return pcm

    def _rings(self, calls: NDArray[np.intp]) -> NDArray[np.int64]:
        """Which ring each call plays: an heir's, as soon as the old one is over."""
        c = self._c
        ring: NDArray[np.int64] = c["ring"][calls]
        if not self._handing:
            return ring
        heir = c["ring_next"][calls]
        over = (ring != heir) & (
            (c["play_read"][calls, ring] >= c["play_limit"][calls, ring])
            | c["play_drop"][calls, heir]
        )
        ring = np.where(over, heir, ring)
        c["ring"][calls] = ring
        self._handing = bool((c["ring"] != c["ring_next"]).any())
        return ring

    def _change(
        self,
        calls: NDArray[np.intp],
        pcm: NDArray[np.int16],
        before: NDArray[np.uint8],
        state: NDArray[np.uint8],
        has: NDArray[np.bool_],
        done: NDArray[np.bool_],
        fade: int,
    ) -> None:
        """Fade, over `fade` samples, where a call goes from one state to another."""
        ramp = np.linspace(1, 0, fade, endpoint=False, dtype=np.float32)
        stops = (before == PLAYING) & (state != PLAYING)
        cut = stops & has
        pcm[cut, fade:] = 0
        pcm[cut, :fade] = (pcm[cut, :fade] * ramp).astype(np.int16)
        # The last sample dies away instead of clicking.
        dry = stops & ~has
        last = self._c["out_last"][calls[dry], None]
        pcm[dry, :fade] = (last * ramp).astype(np.int16)
        self._c["n_underflow"][calls[dry & ~done]] += 1
        back = (before == PAUSED) & (state == PLAYING)
        pcm[back, :fade] = (pcm[back, :fade] * ramp[::-1]).astype(np.int16)
