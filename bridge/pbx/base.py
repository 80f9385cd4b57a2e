"""The port to a PBX: a call that was handed to us is a `Leg`.

A leg's events come in order, one queue a leg, so that a slow call never holds up another. Every
method may raise `PbxGone` (the caller hung up meanwhile: the normal end of many calls),
`PbxRefused` or `PbxUnreachable`; `release` raises nothing of the kind, because it is what one calls
last, whatever happened before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Codec = Literal["PCMU", "PCMA", "L16", "G722", "L16/16000", "L16/24000", "OPUS"]
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """How the PBX is to call somebody."""

    endpoint: str
    """In the PBX's own words: `PJSIP/+4930123@trunk`. Never what somebody else has written."""
    caller_id: str = ""
    """The number that is shown; empty: what the PBX shows by itself."""
    ring_s: int = 45
    """So long it may ring."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Channel variables that are set before it rings."""
    machine: Literal["", "hang-up", "tell"] = ""
    """What to do if an answering machine answers: nothing is looked for, hang up, or tell the
    agent."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What the PBX says of a call when it hands it over; or what a call of ours is to be."""

    call_id: str
    """The call's id everywhere in the bridge: the PBX's id of the caller's channel, after the
    PBX's name where it has one."""
    args: tuple[str, ...]
    """What the dialplan passed; the first names the agent, `name=value` is for its engine."""
    caller_number: str
    caller_name: str
    dialed: str
    """The extension that was dialled."""
    language: str
    codec: Codec
    """The caller's own codec where we can take it, else what comes nearest to it."""
    resumed: bool = False
    """The call was found in the PBX, under way and with no owner (we were away or are new), rather
    than handed to us a moment ago: the caller may have heard some of an agent already."""

    @property
    def variables(self) -> dict[str, str]:
        """What the dialplan passed by name."""
        named = (arg.partition("=") for arg in self.args[1:] if "=" in arg)
        return {name.strip(): value for name, _, value in named}

    pbx: str = ""
    """The PBX's name, where there are several."""
    sent: bool = False
    """Another worker, who has the front door, has passed him on to us."""
    outgoing: Outgoing | None = None
    """We call him: he has to answer first (`Leg.dial`)."""
    came_s: float = field(default_factory=time.monotonic, compare=False)
    """When we were told of the call, by this process' monotonic clock."""


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
    """The call left us. The last event of a leg, and always comes, once."""

    cause: Literal["hangup", "left", "lost", "taken", "moved"]
    """Hung up by either side; went on elsewhere in the PBX (our own transfer or leave, or somebody
    else's); ended while we had no connection to the PBX; another program took all our calls;
    another worker owns the call now (`Leg.forget`)."""


@dataclass(frozen=True, slots=True)
class MediaLost:
    """The external-media channel ended while the caller is still there."""


@dataclass(frozen=True, slots=True)
class MediaReplaced:
    """The external-media channel ended, and the call has another; `Leg.handles` have changed."""


@dataclass(frozen=True, slots=True)
class CalleeLeft:
    """Whom we had rung for the caller, and who had answered, has hung up."""


PbxEvent = Dtmf | Hold | HungUp | MediaLost | MediaReplaced | CalleeLeft


@dataclass(frozen=True, slots=True)
class Callee:
    """Somebody who is to be rung for a caller."""

    to: str
    """As `bridge.pbx.destinations` has it."""
    context: str
    """Where an extension without a context is looked for."""
    via: str = ""
    """The PJSIP endpoint for SIP URIs."""
    ring_s: float = 25.0
    music: str = ""
    """Class of the music on hold that the caller hears meanwhile; "": the ringing tone."""


CalleeState = Literal["", "ringing", "answered"]


class Owner(Protocol):
    """Says whether calls are still ours, where several workers serve one PBX."""

    async def sure(self) -> None:
        """Returns when it is known which calls are ours: mostly at once."""

    async def mine(self, call_id: str) -> bool:
        """Whether a call is ours that seems to be over: it may have been taken over."""


class Leg(Protocol):
    """One call, as the PBX sees it."""

    incoming: Incoming
    events: asyncio.Queue[PbxEvent]

    @property
    def handles(self) -> Mapping[str, str]:
        """What was made for the call so far, for `Pbx.adopt` in another process: `bridge_id`,
        `media_id`, `net_s`; `joined` if the caller is in the mixing bridge; `callee` and
        `callee_id` of whom we rang, "" where nobody was."""

    def forget(self) -> None:
        """Another worker owns the call: send nothing more for it, take nothing away. `HungUp`
        with cause `moved` follows."""

    async def pass_on(self, worker: str) -> None:
        """Move the caller, for whom nothing was made yet, to another worker of this PBX.

        Raises:
            PbxRefused: he is still here.
        """

    async def dial(self) -> None:
        """Call him (`Incoming.outgoing`), unless that is under way, and return when he has
        answered; `incoming.codec` is known then.

        Raises:
            PbxNotAnswered: he hasn't, or can't be called.
        """

    async def answer(self) -> None:
        """Answer the caller. Does nothing to a call that is answered."""

    async def open_media(self, to: Address, codec: Codec) -> Address:
        """Make a mixing bridge and an external-media channel that sends to `to`.

        May be called again after `MediaLost`: the mixing bridge stays, the channel is a new one.

        Returns:
            The address that its RTP will come from, the only one that may speak for the call.
        """

    async def join(self) -> None:
        """Put the caller and the external media into the mixing bridge: audio flows.

        Raises:
            PbxRefused: the external media ended or didn't come up, though the caller is there.
        """

    async def extension_exists(self, extension: str, context: str) -> bool:
        """Whether the dialplan has it."""

    async def transfer(self, extension: str, context: str) -> None:
        """Hand the caller to an extension. `HungUp("left")` follows.

        Raises:
            PbxRefused: there is no such extension; the call goes on with us.
        """

    @property
    def callee(self) -> CalleeState:
        """Whether somebody was rung for the caller, who is set aside meanwhile: he hears ringing
        or music, and is not in the mixing bridge."""

    async def ring(self, callee: Callee, noted: Callable[[], Awaitable[None]]) -> None:
        """Ring somebody for the caller; returns when he has answered. Both wait then, apart.

        Args:
            callee: who.
            noted: awaited whenever `handles` has changed, before anything is done that needs that
                to be known if we die.

        Raises:
            PbxRefused: in a few words, why he can't be had. The caller is still set aside.
        """

    async def talk(self) -> None:
        """Put whom we rang into the mixing bridge, in the caller's place."""

    async def connect(self) -> None:
        """Put the caller and whom we rang together; they need us no more. `HungUp("left")` follows.

        Raises:
            PbxRefused: the PBX isn't set up for it, or he has hung up.
        """

    async def take_back(self) -> None:
        """Hang up on whom we rang, and put the caller back into the mixing bridge."""

    async def outcome(self, variables: Mapping[str, str]) -> None:
        """Set channel variables for whatever the dialplan does with the caller from here on."""

    async def leave(self, variables: Mapping[str, str]) -> None:
        """Set channel variables, and let the dialplan go on after Stasis(). `HungUp` follows.

        Behind a call of ours there is no dialplan: it is hung up.
        """

    async def hang_up(self) -> None:
        """End the call. Nothing happens if it has ended."""

    async def get_variable(self, name: str) -> str | None:
        """A channel variable or dialplan function's value; None if it has none."""

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable."""

    async def spy(self, to: Address) -> tuple[int, Address]:
        """Have all that is said sent to `to`, as RTP with PCMU; neither side hears of it.

        Returns:
            A number to `unspy` it by, and the address that its RTP comes from. It ends by itself
            if `renew_spy` isn't called every few seconds.
        """

    def renew_spy(self, number: int) -> None:
        """Whoever listens is still there. Raises `PbxGone` if it has ended."""

    async def unspy(self, number: int) -> None:
        """End that. Nothing happens if it has ended."""

    async def send_dtmf(self, digits: str) -> None:
        """Send keys (0-9, A-D, *, #) to the caller's side; returns before they are all sent."""

    async def statistics(self) -> Mapping[str, float]:
        """RTP of the caller's own leg so far; empty if it has none.

        `received`, `lost` (packets from the caller), `jitter_ms`; `sent`, `lost_there`,
        `jitter_there_ms` (what the caller gets, by his phone's RTCP); `round_trip_ms`.
        """

    async def release(self) -> None:
        """Take away what we made for the call: external media and mixing bridge.

        A caller who is still with us goes on in the dialplan, rather than wait in silence for
        nobody. May be called at any time, also while another method of the leg runs (which then
        raises `PbxGone`), and more than once. Goes on trying for a bounded time while the PBX does
        not answer. If it is cancelled, its work still gets done.
        """


class Relay(Protocol):
    """A process of this host that brings audio to the media process which the PBX doesn't send as
    RTP."""

    @property
    def media(self) -> Address:
        """Where the media process of this host is."""

    async def open(self, connection: str, to: Address, codec: Codec, port: int = 0) -> Address:
        """Have a channel's audio brought to `to` as RTP, and back; it ends with the channel.

        Args:
            connection: the PBX's name for it, a secret.
            to: an address of this host's.
            codec: what the channel speaks.
            port: of ours, which the RTP is to come from, because it came from there before; 0: any.

        Returns:
            Where the RTP comes from.

        Raises:
            PbxGone: the channel has ended.
            PbxRefused: no TLS with the PBX, or the port can't be had; with the cure.
            PbxUnreachable: neither the relay nor the PBX may answer.
        """


class Pbx(Protocol):
    """A PBX that hands us calls."""

    version: str
    """Known once `connect` has returned."""

    async def connect(self) -> None:
        """Reach the PBX once and check rights and version. Raises `PbxError` with the cure."""

    async def run(self, on_call: Callable[[Leg], None], on_up: Callable[[bool], None]) -> None:
        """Serve until cancelled: connects, reconnects for ever, reconciles after each reconnect.

        Args:
            on_call: told of each new call, on the event loop; must not block. One whose caller
                hung up within the first milliseconds is not told of at all.
            on_up: told whenever the PBX comes (True) or goes (False). Calls go on meanwhile.

        Raises:
            PbxRefused: another program has taken our place; every leg was told `HungUp("taken")`.
        """

    def originate(self, incoming: Incoming) -> Leg:
        """A call of ours (`Incoming.outgoing`); nothing happens before `Leg.dial`."""

    def door(self, is_open: bool) -> None:
        """Hold the front door (new calls come to us), or leave it to another worker."""

    async def adopt(self, incoming: Incoming, handles: Mapping[str, str], *, near: bool) -> Leg:
        """Bring a call over from a worker that is gone, with what that worker made for it.

        Args:
            incoming: what the PBX had said of it.
            handles: what was made (`Leg.handles`).
            near: the external media sends to our own media process: it goes on. Else it is hung
                up; the caller hears nothing until `open_media` and `join` have made another.

        Raises:
            PbxGone: the caller has hung up meanwhile; what was made is taken away.
            PbxUnreachable: nothing is known; it may be tried again.
        """

    async def send_home(self, call_id: str, worker: str) -> None:
        """Have a caller who is in nobody's application, or ours, moved to his living owner's."""

    async def close(self, within_s: float | None = None) -> None:
        """End what `release` has still to do (bounded, at most `within_s`), then connections."""
