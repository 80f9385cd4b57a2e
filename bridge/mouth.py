"""The agent's audio of one call: what the engine gave, into the slot, and what was heard of it.

    engine ──▶ backlog ──▶ slot's ring ──▶ caller
                 │                           │ samples of each item that went out
                 └──────▶ Playout ◀──────────┘

Theory of operation. An item's audio is told to `Playout` at once and fed into the slot as it takes
it; `account`, once a delivery of the caller's audio, tells `Playout` what has gone out since. An
item's first audio waits until its text is on record, some milliseconds: whoever takes the call over
must not find audio of which nobody knows what it says. (A bot that never tells waits for nothing.)
When everything is dropped, nothing is fed until media says that it is gone: only then is final what
was heard of it.

A filler plays as an item of its own that `Playout` doesn't know, so that it is never heard, and is
cut off by the first real audio.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bridge.dialog.playout import Heard, Playout
from bridge.engines.base import Audio, ItemDone
from bridge.media.base import Slot

ROOM_MS = 5_000
"""An engine that asks for room gets it while less agent audio than this waits to be played."""
MOST_WAITING_MS = 600_000
"""An engine that never asks is given up beyond this."""


class Mouth:
    """One call's."""

    def __init__(
        self,
        slot: Slot,
        sent: Callable[[float], None],
        heard: Callable[[list[Heard]], None],
        marked: Callable[[str, bool], None],
        recorded: Callable[[Callable[[], None]], None],
    ) -> None:
        """Speak into `slot`.

        Args:
            slot: the audio; the call closes it.
            sent: told that so much of an item has gone out, ms.
            heard: told of items that are over.
            marked: told of marks that were reached; False: by being dropped.
            recorded: calls what it is given once all so far is on record, or it can't wait longer.
        """
        self.playout = Playout(slot.rate)
        """What is queued, and heard."""
        self.held = False
        """Whether the caller's phone holds the call."""
        self.speaking = False
        """Whether the turns know that something plays or waits; `drop` ends it."""
        self._slot, self._sent, self._heard, self._marked = slot, sent, heard, marked
        self._recorded = recorded
        self._backlog: deque[Audio | ItemDone] = deque()
        self._clearing = False
        self._newest, self._unrecorded = 0, 0
        self._past: dict[int, int] = {}  # heard of items in a slot that is lost, not told yet
        self._filling: tuple[int, int] | None = None  # item and length, while a filler plays
        self.idle = False
        """Whether nothing can have gone out that `account` would tell of."""
        self.flow = slot.flow
        """Takes more of the item that came last, past us; close it when anything else happens."""
        self.flow.book = self.playout.more
        self._room = asyncio.Event()
        self._room.set()
        self.full = False
        """Whether there is no room; see `wait_for_room`."""
        self._most = ROOM_MS * slot.rate // 1000

    @property
    def playing(self) -> bool:
        """Whether there is audio of the engine's that hasn't been played (or dropped)."""
        return self.playout.waiting > 0

    @property
    def silent(self) -> bool:
        """Whether nothing is to be heard, or about to be, or kept back."""
        return not (self.playing or self.held or self._clearing)

    @property
    def rest_ms(self) -> float | None:
        """For so long from the last `account` on nothing can go out that anybody waits for, but
        more of an item that isn't complete; None: it can."""
        busy = self._clearing or self._backlog or self._past or self._filling is not None
        return None if busy or self.full else self.playout.unfinished_ms

    @property
    def overfed(self) -> bool:
        """Whether more waits to be played than any engine should send."""
        return self.playout.waiting_ms > MOST_WAITING_MS

    def owe_past(self) -> None:
        """What `playout` holds was heard from a slot that is lost: tell so."""
        self._past = {item: queued for item, _, queued, *_ in self.playout.open_items()}
        self.idle = False

    def close(self) -> None:
        """The call is over: tell what was heard of the sentence that its end cut off."""
        self._tell_past()
        self.playout.drop()
        self._heard(self.playout.dropped(self._slot.heard_items()))

    async def wait_for_room(self) -> None:
        """Returns when more audio is wanted."""
        await self._room.wait()

    # What the engine gives ------------------------------------------------------------------------

    def queue(self, audio: Audio) -> bool:
        """More of an item. False: the item was dropped; forget it."""
        item = audio.item
        if not self.playout.queued(item, len(audio.pcm), silence=audio.silence):
            return False
        if self._filling is not None:
            self._clear()
        self.idle = False
        self._backlog.append(audio)
        self.flow.close()
        if item != self._newest:
            self._newest = item
            if self.playout.says(item):
                self._unrecorded += 1
                self._recorded(self._go_on)
        self.feed()
        if not (self._backlog or self.full or audio.silence):
            self.flow.open(item, min(self._most - self.playout.waiting - 1, self._slot.room))
        return True

    def done(self, event: ItemDone) -> None:
        """The item is complete."""
        self.idle = False
        self.flow.close()
        self._backlog.append(event)
        self.feed()

    def mark(self, name: str) -> None:
        """To be told when everything up to now has been played."""
        self.idle = False
        self.flow.close()
        self.playout.mark(name)
        self._tell_marks()

    def fill(self, clip: NDArray[np.int16]) -> None:
        """Play what is no part of the conversation, int16 (n,) at the slot's rate."""
        item = self.playout.new_item()
        self.idle = False
        self.flow.close()
        self._filling = item, len(clip)
        self._slot.play(item, clip)
        self._slot.done(item)

    # What becomes of it ---------------------------------------------------------------------------

    def pause(self) -> None:
        """Fall silent, and keep what isn't played."""
        self._slot.pause()

    def resume(self) -> None:
        """Go on where `pause` stopped, once nobody holds the call."""
        if not self.held:
            self._slot.resume()

    def hold(self, on: bool) -> None:
        """The caller's phone holds the call, or takes it back."""
        self.held = on
        (self._slot.pause if on else self._slot.resume)()

    def drop(self) -> None:
        """What isn't played yet never will be."""
        self.flow.close()
        self.speaking = False
        self._tell_past()
        self._tell_marks()
        self.playout.drop()
        self._tell_marks()
        self._backlog.clear()
        self._clear()

    def account(self) -> None:
        """What went out since the last time."""
        if self._clearing:
            if not self._slot.cleared:
                return
            self._clearing = False
            self._heard(self.playout.dropped(self._slot.heard_items()))
        if self._past:
            self._tell_past()
        playout, told = self.playout, self._slot.heard_items()
        for item, samples in told.items():
            if self._filling is not None and item == self._filling[0]:
                if samples >= self._filling[1]:
                    self._filling = None
                continue
            self._sent(samples * 1000 / playout.rate)
            if over := playout.heard(item, samples):
                self._heard(over)
        if playout.marked:
            self._tell_marks()
        if self._backlog or self.full:
            self.feed()
        self.idle = not (told or self._backlog or self._filling or playout.busy)

    def feed(self) -> None:
        """As much of the backlog into the slot as it takes."""
        backlog = self._backlog
        while backlog and not (self._clearing or self._unrecorded):
            first = backlog[0]
            if isinstance(first, Audio):
                taken = self._slot.play(first.item, first.pcm)
                if taken < len(first.pcm):
                    backlog[0] = dataclasses.replace(first, pcm=first.pcm[taken:])
                    break
            else:
                self._slot.done(first.item)
                self._heard(self.playout.done(first.item))
            backlog.popleft()
        if (full := self.playout.waiting >= self._most) is not self.full:
            self.full = full
            (self._room.clear if full else self._room.set)()

    def _tell_past(self) -> None:
        past, self._past = self._past, {}
        for item, samples in past.items():
            self._heard(self.playout.heard(item, samples))

    def _go_on(self) -> None:
        self._unrecorded -= 1
        self.feed()

    def _clear(self) -> None:
        self.idle = False
        self.flow.close()
        self._filling = None
        self._slot.clear()
        if self.held:
            self._slot.pause()
        self._clearing = True

    def _tell_marks(self) -> None:
        for name, heard in self.playout.reached():
            self._marked(name, heard)
