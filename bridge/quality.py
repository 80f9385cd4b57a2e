"""How good a call's audio is, on both its legs: live, and for the record at its end.

Our leg is the way between the PBX and us: the media process counts it packet by packet. What lies
between the PBX and the caller's phone only the PBX knows, so it is asked now and then; the last
answer stays, because after the caller has hung up there is nothing left to ask.

A second in which much of the caller's audio was lost becomes an event in the transcript: what was
said before and after it explains itself then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping

from bridge import metrics
from bridge.errors import BridgeError, PbxGone
from bridge.media.base import Slot
from bridge.pbx.base import Leg
from bridge.rtp.quality import loss_percent, mos
from bridge.sessions.base import Store
from bridge.sessions.model import Line

log = logging.getLogger(__name__)

FIRST_S, EVERY_S = 3.0, 10.0
"""When the PBX is asked: first soon, for short calls; then seldom, for many calls ask."""
LOOK_S = 1.0
MUCH = 10
"""Packets lost between two looks that are worth a line in the transcript."""


class LineQuality:
    """One call's."""

    def __init__(self, call_id: str, leg: Leg, slot: Slot, store: Store) -> None:
        """Of the call that has `leg` and `slot`, put down in `store`."""
        self._call_id, self._leg, self._slot, self._store = call_id, leg, slot, store
        self._caller: dict[str, float] = {}
        self._meter = metrics.AudioMeter(slot.stats())

    def now(self) -> dict[str, float | Mapping[str, float]]:
        """Our leg as `Slot.stats` has it; under `caller` the caller's, once the PBX told of it.

        `Leg.statistics` names what is told; `loss_percent` and `mos` are what the PBX gets of the
        caller, `loss_percent_there` and `mos_there` what the caller gets (by his phone's reports).
        """
        ours: dict[str, float | Mapping[str, float]] = dict(self._slot.stats())
        return {**ours, "caller": self._caller} if self._caller else ours

    async def watch(self) -> None:
        """Ask the PBX until the caller is gone."""
        wait_s = FIRST_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = EVERY_S
            try:
                told = await self._leg.statistics()
            except PbxGone:
                return
            except BridgeError as error:
                log.info("the caller's RTP statistics can't be had: %s", error)
                continue
            if told:
                self._caller = _judged(told)
            self.note()

    async def watch_losses(self) -> None:
        """Note, until the call is over, seconds in which much was lost; a bad stretch once."""
        before, stretch = self._slot.lost, 0
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._slot.lost
            new, before = now - before, now
            if new >= MUCH:
                stretch += new
            elif stretch:
                text = f"lost {stretch} packets of the caller's audio"
                self._store.say(self._call_id, Line(time.time(), "event", text))
                stretch = 0

    def note(self) -> None:
        """Put it into the call's record."""
        self._meter.count(self._slot.stats(), self._caller)
        self._store.put(self._call_id, audio=json.dumps(self.now()))


def _judged(told: Mapping[str, float]) -> dict[str, float]:
    way_ms = told["round_trip_ms"] / 2
    here = loss_percent(told["received"], told["lost"])
    there = loss_percent(told["sent"] - told["lost_there"], told["lost_there"])
    return {
        **told,
        "loss_percent": round(here, 3),
        "mos": round(mos(here, way_ms + told["jitter_ms"]), 2),
        "loss_percent_there": round(there, 3),
        "mos_there": round(mos(there, way_ms + told["jitter_there_ms"]), 2),
    }
