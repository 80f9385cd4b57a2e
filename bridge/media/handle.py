"""A worker's handle on one slot: what it plays there, and what became of it.

All of it goes through the shared map (`bridge.media.slots` says who writes what); the connection
to the media process is asked for nothing but to give the slot back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from bridge.audio.codecs import BY_NUMBER
from bridge.audio.echo import ECHO as OURS
from bridge.audio.echo import likeness
from bridge.audio.resample import ResamplerBank
from bridge.audio.speech import thresholds
from bridge.media.base import Left, Straight, Up
from bridge.media.clock import now_ms
from bridge.media.frames import Frames, Lane
from bridge.media.inherited import Inherited
from bridge.media.player import Player
from bridge.media.slots import FRAME_MS, RECORD_MARKS, SlotMap
from bridge.rtp.quality import Quality, judge

TRIPS_AT = 2
"""Frames of speech that trip a reflex."""
LOUDEST_DB = -3.0
"""No echo comes back louder than that."""
ONSET, DELAYS = 8, 16
"""Frames of caller audio that are compared with what was played, and of delay looked at."""


class Slot:
    """One call's audio; see `bridge.media.base.Slot`."""

    def __init__(
        self,
        call_id: str,
        generation: int,
        slots: SlotMap,
        frames: Frames,
        lane: Lane,
        player: Player,
        release: Callable[[Slot], Awaitable[None]],
    ) -> None:
        """Use `MediaClient.open` or `attach`."""
        self.call_id, self.index, self.rate = call_id, lane.index, lane.rate
        self.generation, self.lane = generation, lane
        self._slots, self._columns = slots, slots.columns
        self._frames, self._release = frames, release
        self._player = player
        self.play, self.done, self.flow = player.play, player.done, player.flow
        self._cleared_once = False
        self.heard = self._player.heard
        self.heard_items: Callable[[], dict[int, int]] = self._player.heard_items
        """Samples that went out, of every item for which that has changed since the last time."""
        self._inherited: Inherited | None = None
        self.left: tuple[Left, ...] = ()

    @property
    def on_frames(self) -> Callable[[Up], None] | None:
        """Called on the event loop whenever frames have come."""
        return self._frames.listener(self.lane)

    @on_frames.setter
    def on_frames(self, listener: Callable[[Up], None] | None) -> None:
        self._frames.listen(self.lane, listener)

    def plays(self, player: Player) -> bool:
        """Whether it is by this one that audio gets into the slot."""
        return self._player is player

    def rest(
        self,
        hear: Callable[[int, NDArray[np.int16]], None],
        until_ms: int,
        speech: bool | None,
        straight: Straight | None = None,
        straight_ms: int = 0,
        most_ms: float = 0.0,
    ) -> None:
        """Frames like the last ones change nothing for a while."""
        self._frames.rest(self.lane, hear, until_ms, speech, straight, straight_ms, most_ms)

    def straight_on(self, straight_ms: int, most_ms: float = 0.0) -> None:
        """Let frames go straight on as far as there."""
        self._frames.straight_on(self.lane, straight_ms, most_ms)

    @property
    def straight_ms(self) -> int:
        """Up to where frames were last given straight on, ms."""
        return self._frames.straight_ms(self.lane)

    @property
    def flowed_ms(self) -> int:
        """What `straight_ms` was when audio flowed last."""
        return self._frames.flowed_ms(self.lane)

    @property
    def room(self) -> int:
        """How many samples `play` takes now."""
        return self._player.room()

    def spoken(self, from_ms: int, to_ms: int) -> list[bool]:
        """What the first stage took frames for."""
        return self._frames.spoken(self.lane, from_ms, to_ms)

    def inherit(self) -> None:
        """Look after what the former owner left in its ring."""
        self._player.forget_items()  # of whoever had this ring two owners ago
        inherited = Inherited(self._slots, self.index, 1 - self._player.ring)
        self._inherited, self.left = inherited, inherited.items
        told = self._player.heard_items
        self.heard_items = lambda: {**inherited.heard_items(), **told()}
        self.resume()  # whatever he was waiting for
        self.deal()

    def pause(self) -> None:
        """Hold what is queued, of a former owner's too."""
        self._columns["play_pause"][self.index] = True

    def resume(self) -> None:
        """Go on."""
        self._columns["play_pause"][self.index] = False

    def tune(self, sensitivity: float) -> None:
        """Set the speech detector's sensitivity, 0 to 1."""
        c, i = self._columns, self.index
        c["s_above_db"][i], c["s_least_db"][i] = thresholds(sensitivity)

    def arm(self, on: bool) -> None:
        """Let agent audio pause by itself, or not, when the caller makes himself heard."""
        self._columns["reflex"][self.index] = TRIPS_AT if on else 0

    @property
    def tripped(self) -> bool:
        """Whether it has done so and `deal` wasn't called yet."""
        c, i = self._columns, self.index
        return bool(c["reflex_count"].item(i) != c["reflex_done"].item(i))

    def deal(self) -> None:
        """The trip is dealt with: from here on `pause` and `resume` rule."""
        c, i = self._columns, self.index
        c["reflex_done"][i] = c["reflex_count"][i]

    def is_echo(self) -> bool:
        """Whether the caller's last 160 ms are what was played in the half second before.

        If so, media won't be tripped again by an echo as loud as that.
        """
        c, i = self._columns, self.index
        line, agent = int(c["t_rate"][i]), int(c["down_rate"][i])
        up, down = self._slots.up[line][i], self._slots.play[agent][i]
        ring = int(c["ring"][i])
        head = int(c["t_head"][i]) // (line * FRAME_MS)
        read = int(c["play_read"][i, ring])
        heard = up[(head + np.arange(-ONSET, 0)) % len(up)].reshape(1, -1)
        if line != agent:  # Opus comes up at another rate than G.722 goes down
            alike = ResamplerBank(line * 1000, agent * 1000, 1)
            heard = alike.process(np.zeros(1, np.intp), heard)
        played = down[ring, (read + np.arange(-ONSET - DELAYS, 0)) % down.shape[1]].reshape(-1)
        found, louder_db = likeness(heard[0], played)
        if found < OURS or louder_db > LOUDEST_DB:
            return False
        c["reflex_echo_db"][i] = max(float(c["reflex_echo_db"][i]), louder_db)
        return True

    def clear(self) -> None:
        """Drop what is not played yet, of a former owner's too."""
        self._cleared_once = True
        self._player.clear()

    @property
    def cleared(self) -> bool:
        """Whether the last `clear` was carried out: what was heard is final."""
        gone = self._inherited is None or self._inherited.over
        return self._player.cleared and (gone or not self._cleared_once)

    @property
    def playing(self) -> bool:
        """Whether the next packet carries agent audio."""
        return self._player.playing or self.queued_ms > 0

    @property
    def queued_ms(self) -> int:
        """Agent audio that waits to be played."""
        before = self._inherited.queued_ms if self._inherited is not None else 0
        return before + self._player.queued_ms

    def record(self, on: bool) -> None:
        """Have the recorder take the call down from now on, or leave it out."""
        c, i = self._columns, self.index
        count = int(c["record_count"][i])
        at = int(c["t_head"][i]) // (int(c["t_rate"][i]) * FRAME_MS)
        if count:
            # What has come by now may wait for media to have time: in doubt it was said in the
            # pause. And no mark lies before the one that was left before it.
            now = (now_ms() - float(c["t_open_ms"][i] + c["down_ms"][i])) / FRAME_MS
            at = max(at, ceil(now)) if on else min(at, floor(now))
            at = max(at, int(c["record_marks"][i, (count - 1) % RECORD_MARKS, 0]))
        c["record_marks"][i, count % RECORD_MARKS] = at, on
        c["record_count"][i] = count + 1
        c["record"][i] = True

    @property
    def recorded(self) -> bool | None:
        """Whether that is so, and so it was left by a former owner; None: never asked for."""
        c, i = self._columns, self.index
        count = int(c["record_count"][i])
        return bool(c["record_marks"][i, (count - 1) % RECORD_MARKS, 1]) if count else None

    @property
    def numbers(self) -> tuple[int, int, int]:
        """SSRC, sequence number and timestamp of the next packet to the PBX."""
        c, i = self._columns, self.index
        return int(c["out_ssrc"][i]), int(c["out_seq"][i]), int(c["out_ts"][i])

    @property
    def lost(self) -> int:
        """Packets that never came."""
        return max(0, int(self._columns["n_lost"].item(self.index)))

    def stats(self) -> dict[str, float]:
        """Counters of the call so far: packets by what became of them, ms concealed, queue."""
        c, i = self._columns, self.index
        counters = {name[2:]: float(c[name][i]) for name in c if name.startswith("n_")}
        counters["gap_wait_ms"] = float(c["d_wait_ms"][i])
        counters["queued_ms"] = self.queued_ms
        quality = self.quality()
        counters["loss_percent"], counters["mos"] = quality.loss_percent, quality.mos
        counters["late_ms_p50"], counters["late_ms_p95"], counters["late_ms_p99"] = quality.late_ms
        return counters

    def quality(self) -> Quality:
        """How good the incoming audio is so far."""
        c, i = self._columns, self.index
        return judge(
            float(c["n_received"][i]),
            float(max(c["n_lost"][i], 0)),
            float(c["n_concealed_ms"][i]),
            c["q_late"][i],
            BY_NUMBER[int(c["codec"][i])],
        )

    async def close(self) -> None:
        """Give the slot back; idempotent."""
        await self._release(self)
