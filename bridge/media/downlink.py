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
from bridge.media.slots import CUTS, FRAME_MS, MOST_RATE, UNLIMITED, SlotMap
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
        self._play = slots.play
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
            self.packetizer.pass_over(calls, self._step[self._c["codec"][calls]])
            self._c["n_skipped"][calls] += 1

    def hand_over(self, call: int) -> None:
        """A new owner writes the other ring; what is queued in the old one now plays to its end."""
        c = self._c
        old = self.newest_ring(call)
        if c["ring"][call] != old and not (c["play_write"] + c["play_drop"])[call, old]:
            # The former owner died before he said anything: what plays is still his predecessor's.
            old = 1 - old
        else:
            c["play_limit"][call, old] = c["play_write"][call, old]
        new = 1 - old
        for name in ("play_write", "play_read", "play_clear", "play_done", "play_cut_count"):
            c[name][call, new] = 0
        c["play_pause"][call, new] = c["play_drop"][call, new] = False
        c["play_limit"][call, new] = UNLIMITED
        c["ring"][call], c["ring_next"][call] = old, new

    def forget(self, call: int) -> None:
        """The call is over: what its encoder remembers goes."""
        for coder in self._coders.values():
            coder.reset(call)

    def newest_ring(self, call: int) -> int:
        """The ring of the present owner, though an older one may still be playing."""
        return int(self._c["ring_next"][call])

    def _group(self, calls: NDArray[np.intp], number: int) -> None:
        codec = self._codec[number]
        k = len(calls)
        pcm, active = self._frames(calls, codec.sample_rate // 1000)
        dtx = self._c["dtx"][calls]
        if dtx.any() and (quiet := dtx & ~active).any():
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
        kind = np.full(k, self._type[number])
        serialise(self._headers, kind, marker, seq, ts, ssrc)
        left = self._link.send(calls, HEADER_BYTES + size)
        self._c["n_sent"][calls[:left]] += 1

    def _frames(
        self, calls: NDArray[np.intp], rate: int
    ) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """Each call's next frame (k, samples), and whether there is anything in it."""
        c = self._c
        ring = c["ring"][calls]
        heir = c["ring_next"][calls]
        if (ring != heir).any():
            over = c["play_read"][calls, ring] >= c["play_limit"][calls, ring]
            over |= c["play_drop"][calls, heir]
            ring = np.where(over, heir, ring)
            c["ring"][calls] = ring
        read, write = c["play_read"][calls, ring], c["play_write"][calls, ring]
        write = np.minimum(write, c["play_limit"][calls, ring])
        clear = np.minimum(c["play_clear"][calls, ring], write)
        paused = c["play_pause"][calls, ring] | self._reflex.holds(calls)
        before = c["out_state"][calls]
        has = read < write
        cleared = read < clear
        play = has & ~paused & ~cleared
        ring_frames = self._play[rate].shape[2]
        pcm = self._play[rate][calls, ring, read % ring_frames]
        fade = _FADE_MS * rate
        if not play.all():
            was_playing = before == PLAYING
            cut = was_playing & has & (paused | cleared)
            pcm[~play & ~cut] = 0
            if cut.any():
                pcm[cut, fade:] = 0
                pcm[cut, :fade] = (pcm[cut, :fade] * _ramp_down(fade)).astype(np.int16)
            dry = was_playing & ~has
            if dry.any():
                # The last sample dies away instead of clicking.
                last = c["out_last"][calls[dry], None]
                pcm[dry, :fade] = (last * _ramp_down(fade)).astype(np.int16)
                done = c["play_done"][calls, ring] >= write
                c["n_underflow"][calls[dry & ~done]] += 1
            if cleared.any():
                rows, of = calls[cleared], ring[cleared]
                number = c["play_cut_count"][rows, of]
                c["play_cuts"][rows, of, number % CUTS, 0] = read[cleared]
                c["play_cuts"][rows, of, number % CUTS, 1] = clear[cleared]
                c["play_read"][rows, of] = clear[cleared]
                c["play_cut_count"][rows, of] = number + 1
        back = play & (before == PAUSED)
        if back.any():
            pcm[back, :fade] = (pcm[back, :fade] * _ramp_down(fade)[::-1]).astype(np.int16)
        rows = calls[play]
        c["play_read"][rows, ring[play]] = read[play] + 1
        c["n_played"][rows] += 1
        if len(rows):
            self._reflex.played(rows, pcm if len(rows) == len(calls) else pcm[play])
        c["out_last"][calls] = pcm[:, -1]
        c["out_state"][calls] = np.where(
            play, PLAYING, np.where(paused & has & ~cleared, PAUSED, SILENT)
        )
        return pcm, pcm.any(axis=1)


def _ramp_down(n: int) -> NDArray[np.float32]:
    return np.linspace(1, 0, n, endpoint=False, dtype=np.float32)
