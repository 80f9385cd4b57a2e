"""Where the caller's channel is: with us, on its way to another worker, in the dialplan, or gone.

    here ──▶ left        "hangup"  it is being hung up
     ▲  │                "left"    somebody else took it: a transfer, or another worker
     ╰──╯                "taken"   another worker has taken the call over
    moved                "moved"   the call is another worker's, as we know ourselves
    from us to us        "lost"    Asterisk doesn't know it

Asterisk tells only that a channel has left our application: what was asked for just before, by us
or somebody else, tells one from another. A channel that is moved from one application to another of
ours leaves and enters; whoever waits for that learns it here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Literal

from bridge.errors import PbxGone
from bridge.pbx.base import HungUp, PbxEvent

log = logging.getLogger(__name__)

# Events that nobody fetches, beyond which keys and holds are dropped (never the last event).
_MOST_EVENTS: Final = 256

_BACK_S: Final = 0.25

Cause = Literal["hangup", "left", "lost", "taken", "moved"]


class Whereabouts:
    """One caller's, and what becomes of him."""

    def __init__(self, call_id: str, app: str) -> None:
        """He is in the application `app`."""
        self.app = app
        """The application that he is in."""
        self.events: asyncio.Queue[PbxEvent] = asyncio.Queue()
        """For the leg's owner; `HungUp` is the last."""
        self.ended: str | None = None
        """The cause in `HungUp`, once the call has left us."""
        self.arrived = asyncio.Event()
        """He has entered an application of ours since we last asked for it; or he never will."""
        self.sent_away = False
        """We have asked Asterisk to let him go, and it did."""
        self.released = False
        """What was made for him is being taken away."""
        self._call_id = call_id
        self._changed = asyncio.Event()
        self._move_failed = self._hangup_requested = self._passed_on = False

    # What Asterisk tells.

    def tell(self, event: PbxEvent) -> None:
        """Queue an event for the leg's owner."""
        if self.ended is not None:
            return
        if self.events.qsize() >= _MOST_EVENTS:
            log.warning("call %s: nobody fetches its events; dropped one", self._call_id)
            return
        self.events.put_nowait(event)

    def hangup_requested(self) -> None:
        """The channel is being hung up, so its leaving is no transfer."""
        self._hangup_requested = True

    def entered(self, app: str) -> None:
        """The channel entered an application of ours."""
        self.app = app
        self.arrived.set()

    def move_failed(self) -> None:
        """The channel could not be moved away."""
        self._move_failed = True
        self._changed.set()

    def end(self, cause: Cause | None) -> bool:
        """The channel left us, for good. Returns whether that is news."""
        if self.ended is not None:
            return False
        self.ended = cause or ("hangup" if self._hangup_requested else "left")
        self.events.put_nowait(HungUp(self.ended))
        self._changed.set()
        return True

    # What is to be known of it.

    @property
    def over(self) -> bool:
        """Whether nothing can be done with the call any more."""
        return self.ended is not None or self.released

    def check(self) -> None:
        """Raise `PbxGone` if so."""
        if self.over:
            raise PbxGone(f"the call has ended ({self.ended or 'released'})")

    def was_taken(self) -> bool:
        """He left our application: whether neither he nor we have asked for that."""
        self.arrived.clear()
        ours = self.sent_away or self._passed_on or self.released
        return not (self._hangup_requested or ours)

    async def comes_back(self) -> bool:
        """Whether he enters it again at once: he was moved from us to us."""
        try:
            async with asyncio.timeout(_BACK_S):
                await self.arrived.wait()
        except TimeoutError:
            return False
        return True

    async def leaves(self, within_s: float) -> bool:
        """Whether he goes where he is being moved to; False: he stays ours."""
        try:
            async with asyncio.timeout(within_s):
                while self.ended is None and not self._move_failed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._move_failed = True
        if self._move_failed and self.ended is None:
            self._move_failed = self._passed_on = False
            return False
        return True

    def passes_on(self) -> None:
        """We are about to have him moved."""
        self._passed_on = True
