"""The port to a PBX: a call that was handed to us is a `Leg`.

A leg's events come in order, one queue a leg, so that a slow call never holds up another. Every
method may raise `PbxGone` (the caller hung up meanwhile: the normal end of many calls),
`PbxRefused` or `PbxUnreachable`; `release` raises nothing of the kind, because it is what one calls
last, whatever happened before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Codec = Literal["PCMU", "PCMA", "L16"]
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Incoming:
    """What the PBX says of a call when it hands it over."""

    call_id: str
    """The PBX's id of the caller's channel; it is the call's id everywhere in the bridge."""
    args: tuple[str, ...]
    """What the dialplan passed; the first names the agent."""
    caller_number: str
    caller_name: str
    dialed: str
    """The extension that was dialled."""
    language: str
    codec: Codec
    """The caller's own codec where external media can carry it both ways, else PCMU."""


@dataclass(frozen=True, slots=True)
class Dtmf:
    """The caller pressed a key (told at its end, facts of Asterisk)."""

    digit: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Hold:
    """The caller's phone holds the call (`on`) or takes it back."""

    on: bool


@dataclass(frozen=True, slots=True)
class HungUp:
    """The call left us: hung up, or taken away by somebody else. The last event of a leg."""

    cause: str


@dataclass(frozen=True, slots=True)
class MediaLost:
    """The external-media channel ended while the caller is still there."""


PbxEvent = Dtmf | Hold | HungUp | MediaLost


class Leg(Protocol):
    """One call, as the PBX sees it."""

    incoming: Incoming
    events: asyncio.Queue[PbxEvent]

    async def answer(self) -> None:
        """Answer the caller."""

    async def open_media(self, to: Address, codec: Codec) -> Address:
        """Make a mixing bridge and an external-media channel that sends to `to`.

        Returns:
            The address that its RTP will come from, the only one that may speak for the call.
        """

    async def join(self) -> None:
        """Put the caller and the external media into the mixing bridge: audio flows."""

    async def extension_exists(self, extension: str, context: str) -> bool:
        """Whether the dialplan has it."""

    async def transfer(self, extension: str, context: str) -> None:
        """Hand the caller to an extension. Raises `PbxRefused` if there is none of that name."""

    async def leave(self, variables: Mapping[str, str]) -> None:
        """Set channel variables, and let the dialplan go on after Stasis()."""

    async def hang_up(self) -> None:
        """End the call."""

    async def get_variable(self, name: str) -> str | None:
        """A channel variable or dialplan function's value; None if it has none."""

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable."""

    async def statistics(self) -> Mapping[str, float]:
        """RTP statistics of the caller's own leg, in the PBX's names; empty if it has none."""

    async def release(self) -> None:
        """Take away what we made for the call: external media and mixing bridge. Idempotent."""


class Pbx(Protocol):
    """A PBX that hands us calls."""

    version: str
    """Known once `connect` has returned."""

    async def connect(self) -> None:
        """Reach the PBX once and check rights and version. Raises `PbxError` with the cure."""

    async def run(self, on_call: Callable[[Leg], None], on_up: Callable[[bool], None]) -> None:
        """Serve until cancelled: reconnects for ever, reconciles after each reconnect.

        Args:
            on_call: told of each new call, on the event loop; must not block.
            on_up: told whenever the PBX comes (True) or goes (False).
        """

    async def close(self) -> None:
        """Close connections; leaves calls as they are."""
