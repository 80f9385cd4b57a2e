"""The port to the media process, as a call sees it; `client.py` implements it.

A `Slot` is one call's audio, both ways, at the rate that its engine asked for. Everything but
`open` and `close` is synchronous and cheap: it only touches shared memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.dialog.flow import Flow

FRAME_MS = 20
"""A frame's length: the grid of everything."""


Straight = tuple[Callable[[list[Any], list[int], NDArray[np.int16]], Sequence[int]], Any]
"""Who takes frames of many slots in one go, and what names one of them to it: it is given those
names, the time of the frames of each, ms, and the frames, (k, n). It returns the places of those
that it didn't take."""


@dataclass(slots=True, eq=False)  # made 50 times a second a call; frozen, it costs four times more
class Up:
    """Consecutive frames of the caller's audio."""

    at_ms: int
    """Audio time of the first frame's beginning since the slot opened; never jumps or drifts."""
    pcm: NDArray[np.int16]
    """(n,) samples at the slot's rate."""
    speech: Sequence[bool]
    """The first-stage detector's decision, one a frame; False where it may be our own echo."""
    concealed: Sequence[bool]
    """Made up for a lost packet, one a frame."""


@dataclass(frozen=True, slots=True)
class Left:
    """An item that a slot's former owner left in it, all or part of which may still be played."""

    item: int
    samples: int
    """Queued of it, at the engine's rate."""
    done: bool
    """That is all of it."""
    heard: int = 0
    """Samples of it that had gone out when the slot was attached."""
    cut: bool = False
    """The former owner had dropped the rest: no more of it is heard."""


class Slot(Protocol):
    """One call's audio."""

    index: int
    """Numbers it among the media process' slots."""
    rate: int
    left: tuple[Left, ...]
    """What a former owner left, in order; of a slot that was attached. `heard_items` tells how it
    goes on, and `clear` drops it too."""
    on_frames: Callable[[Up], None] | None
    """Called on the event loop whenever frames have come."""
    flow: Flow
    """Plays more of the item that `play` was given last; closed by whatever else is asked for."""

    def rest(
        self,
        hear: Callable[[int, NDArray[np.int16]], None],
        until_ms: int,
        speech: bool | None,
        straight: Straight | None = None,
        straight_ms: int = 0,
        most_ms: float = 0.0,
    ) -> None:
        """Frames as far as there, all decisions about which are `speech` (None: whatever they are),
        change nothing: `hear` gets their time and samples, and `on_frames` need not be called for
        them. Something else that matters (`tripped`, another verdict of who hears all calls) ends
        that; so does `until_ms` 0.

        `straight`: takes them as far as `straight_ms`, so that `hear` need not be called either;
        further by as much audio as flows meanwhile (`flow`), up to `most_ms`."""

    def straight_on(self, straight_ms: int, most_ms: float = 0.0) -> None:
        """Frames go straight as far as there, if they do at all; of the present rest."""

    @property
    def straight_ms(self) -> int:
        """Up to where frames were last given to `straight`, ms of audio."""

    @property
    def flowed_ms(self) -> int:
        """What `straight_ms` was when audio flowed last."""

    @property
    def room(self) -> int:
        """How many samples `play` takes now."""

    def spoken(self, from_ms: int, to_ms: int) -> list[bool]:
        """The first-stage decisions of frames that have come, as `Up.speech` told them; of the last
        two seconds."""

    def play(self, item: int, pcm: NDArray[np.int16]) -> int:
        """Queue audio of an item, int16 (n,) at `rate`; items come one after the other.

        Returns:
            How many samples were taken; fewer than n if the ring is full.
        """

    def done(self, item: int) -> None:
        """The item is complete: what is left of it, shorter than a frame, is played too."""

    def pause(self) -> None:
        """Stop playing, with a short fade; what is queued stays, a former owner's too."""

    def resume(self) -> None:
        """Go on where `pause` stopped."""

    def tune(self, sensitivity: float) -> None:
        """Set the first-stage speech detector's sensitivity, 0 to 1."""

    def arm(self, on: bool) -> None:
        """Let agent audio pause by itself, or not, when the caller makes himself heard."""

    @property
    def tripped(self) -> bool:
        """Whether it has done so and `deal` wasn't called yet. After a second it goes on."""

    def deal(self) -> None:
        """The trip is dealt with: from here on `pause` and `resume` rule."""

    def is_echo(self) -> bool:
        """Whether the caller's last frames are what was just played to him, come back.

        If they are, an echo as loud as that trips nothing any more.
        """

    def clear(self) -> None:
        """Drop what is not played yet, with a short fade; `cleared` tells when that is done."""

    @property
    def cleared(self) -> bool:
        """Whether the last `clear` was carried out: what was heard of what it dropped is final."""

    def record(self, on: bool) -> None:
        """Have the recorder take the call down from now on, or leave it out (its time goes on)."""

    @property
    def recorded(self) -> bool | None:
        """Whether that is so, also after a former owner; None: nobody has asked for it."""

    @property
    def numbers(self) -> tuple[int, int, int]:
        """SSRC, sequence number and timestamp of the next packet to the PBX."""

    def heard_items(self) -> Mapping[int, int]:
        """Samples at `rate` that really went out, of each item played since the last time it was
        asked for and of the one playing; counted from the item's beginning, exact to the frame."""

    @property
    def lost(self) -> int:
        """Packets of the caller's that never came, so far; what comes late is taken off again."""

    def stats(self) -> Mapping[str, float]:
        """Counters of the call's audio so far."""

    async def close(self) -> None:
        """Give the slot back."""


class Media(Protocol):
    """The media process."""

    address: tuple[str, int]
    """Where the PBX has to send to."""
    place: str
    """Names this media process and its slots, on all hosts."""

    @property
    def runtime_dir(self) -> Path:
        """What is shared by the processes that look after this host's slots."""

    def check_room(self, call_id: str) -> None:
        """Look whether there is a slot for a call, before the PBX is asked for anything.

        Raises:
            MediaFull: none is now.
        """

    async def attach(
        self, call_id: str, rate: int, since_ms: int = -1, answered_ms: int = -1
    ) -> Slot:
        """Take over the slot of a call whose worker is gone. What is queued in it plays on.

        Frames begin where that worker stopped reading and a little before, or at `since_ms` if
        that is earlier; as far back as the ring goes. What was said before `answered_ms` doesn't
        come again, unless all since `since_ms` has to.

        Raises:
            MediaError: there is no such slot (any more).
        """

    async def open(
        self,
        call_id: str,
        remote: tuple[str, int],
        codec: str,
        rate: int,
        *,
        late: str = "resynthesize",
        after: tuple[int, int, int] | None = None,
    ) -> Slot:
        """A slot for a call whose RTP comes from, and goes to, `remote`. A packet leaves at once.

        Args:
            call_id: names the call.
            remote: the only address that may speak for it.
            codec: PCMU, PCMA, ...: what is spoken with the PBX.
            rate: sample rate of the frames both ways, Hz; 0: the line's own.
            late: what stands in for lost packets.
            after: `Slot.numbers` that another slot of this call had reached: packets go on well
                ahead of them, because the PBX drops what goes back.

        Raises:
            MediaError: no slot is free, or the process is gone.
        """
