"""One call on Asterisk, as the rest of the bridge sees it: what it asks for is shared out here.

    where      the caller's channel: here, moved, gone; and what is told of the call
    channel    that channel's variables and the dialplan's answers
    room       our mixing bridge and the external media in it
    dialing    he is called by us; `machine`: who answers is a person
    handover   somebody else is rung for him (`other`)
    net        Asterisk itself ends the call if all of us are dead
    spies      who listens

The caller may be gone between any two steps. Nothing is then left behind, because what is made is
noted before it is asked for, because a request to make something is never abandoned half way
(`whole`), and because `release` first waits for such requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from bridge.audio.codecs import usable
from bridge.errors import PbxGone, PbxNotAnswered, PbxRefused
from bridge.pbx import hints
from bridge.pbx.ari import Ari
from bridge.pbx.base import (
    Address,
    Callee,
    CalleeLeft,
    CalleeState,
    Codec,
    Incoming,
    Owner,
    Relay,
)
from bridge.pbx.channel import CallerChannel
from bridge.pbx.commands import Commands, do_all
from bridge.pbx.dialing import Dialing
from bridge.pbx.handover import Handover
from bridge.pbx.machine import Machine
from bridge.pbx.names import app_of, codec_of
from bridge.pbx.net import NET, Net
from bridge.pbx.other import Other
from bridge.pbx.room import Room
from bridge.pbx.settings import AsteriskSettings
from bridge.pbx.spy import Spies
from bridge.pbx.transport import transport_of
from bridge.pbx.whereabouts import Cause, Whereabouts
from bridge.pbx.whole import Spawn, Whole

log = logging.getLogger(__name__)


class AsteriskLeg:
    """One call: a `Leg`. Made by `AsteriskPbx`, which also tells it what Asterisk tells."""

    def __init__(
        self,
        ari: Ari,
        settings: AsteriskSettings,
        incoming: Incoming,
        spawn: Spawn,
        owner: Owner | None = None,
        app: str = "",
        on_forget: Callable[[AsteriskLeg], None] = lambda leg: None,
        relay: Relay | None = None,
    ) -> None:
        self.incoming = incoming
        self.channel = settings.channel_of(incoming.call_id)
        """The caller's."""
        self.home = app or settings.app
        """Our own application."""
        self.where = Whereabouts(incoming.call_id, self.home)
        """Where he is."""
        self.events = self.where.events
        self.hints: Mapping[str, str] = {}
        """What the dialplan has told with the call: see `bridge.pbx.hints`."""
        self.foundling = False
        """Came where other workers' calls may be as well, and nothing was made for it yet: it may
        turn out to be another's."""
        self._settings = settings
        self._spawn, self._on_forget = spawn, on_forget
        self._commands = Commands(ari, settings, incoming.call_id, owner)
        self._caller = CallerChannel(self.channel, self._commands, self.where.check)
        self._whole = Whole(spawn)
        self._dialing: Dialing | None = None
        if incoming.outgoing is not None:
            self._dialing = Dialing(self._commands, settings, self.channel, self.where.arrived)
        self._machine = Machine(
            *(self._commands, self.channel, self.where.arrived, self._caller.get, settings.app)
        )
        self._net = Net(self._caller.get, self._caller.put, settings.max_call_s)
        transport = transport_of(settings, relay)
        room = self.room = Room(
            *(self._commands, settings, incoming.call_id, self.channel, self.home, self.where),
            *(transport, self._whole, spawn),
        )
        """Our mixing bridge, and the external media in it."""
        self.other = Other(
            *(self._commands, settings, self.channel, self.home),
            token=lambda: room.token,
            check=self.where.check,
            whole=self._whole.do,
        )
        self._handover = Handover(
            *(self._commands, self._net, self.other, self.channel),
            bridge_id=lambda: room.id,
            exists=self._caller.extension_exists,
            get=self._caller.get,
            put=self._caller.put,
        )
        self.spies = Spies(self._commands, settings, self.channel, self.home, transport)
        self._releasing: asyncio.Task[None] | None = None

    # What Asterisk tells, from AsteriskPbx: never waits.

    @property
    def there(self) -> bool:
        """Whether its channel may be in Asterisk: one that we call is not before it is made."""
        return self._dialing is None or self._dialing.state == "made"

    @property
    def ringing(self) -> bool:
        """Whether we call him, and he hasn't answered."""
        return self._dialing is not None and self._dialing.open

    @property
    def elsewhere(self) -> bool:
        """Whether it has left our application only to come back."""
        return self._machine.listening

    def answered(self) -> None:
        """He whom we call has answered."""
        if self._dialing is not None:
            self._dialing.answered()

    def failed(self, cause: int) -> None:
        """He whom we call won't."""
        if self._dialing is not None:
            self._dialing.failed(cause)

    def end(self, cause: Cause | None = None) -> None:
        """The caller's channel left us."""
        if self.where.end(cause):
            if self._dialing is not None:
                self._dialing.over()
                self.where.arrived.set()  # nobody has to wait for him any more
            self.room.media.wake()
            self.other.wake()

    def callee_ended(self, n: int, cause: int = 0) -> None:
        """Whom we had rung is gone."""
        if self.other.ended(n, cause) and self._releasing is None:
            self.where.tell(CalleeLeft())

    def still_here(self) -> None:
        """Asterisk says that the caller is with us: a release that gave up begins anew."""
        if self._releasing is not None and self._releasing.done():
            self.where.sent_away = False
            self._releasing = self._spawn(self._release())
        elif self.ringing and self._dialing is not None:
            self._spawn(self._dialing.look())

    # The port.

    @property
    def handles(self) -> Mapping[str, str]:
        """What was made for the call so far."""
        made = dict(self.room.handles)
        if (before_s := self._net.before_s) is not None:
            made["net_s"] = f"{before_s:.3f}"
        return {**made, **self._handover.handles}

    @property
    def callee(self) -> CalleeState:
        """Whether somebody was rung, or the caller is still set aside for it."""
        return self._handover.state

    def forget(self) -> None:
        """Another worker owns the call: keep our hands off it."""
        self._commands.forgotten = True
        self._on_forget(self)
        self.end("moved")

    async def pass_on(self, worker: str) -> None:
        """Move the caller to another worker; a 204 is no success, his leaving us is."""
        self.where.passes_on()
        await self._caller.do(
            "channels.move",
            app=app_of(self._settings.app, worker),
            appArgs=hints.joined(self.incoming.args, self.hints),
        )
        if not await self.where.leaves(self._settings.move_timeout_s):
            raise PbxRefused(f"Asterisk could not move the call to worker {worker}")
        self._commands.forgotten = True

    async def fetch(self, handles: Mapping[str, str], *, near: bool) -> None:
        """Bring the call over, with what its former owner made. Raises `PbxGone`.

        `near`: its external media sends to our own media process, and comes along; else it goes.
        """
        if self._dialing is not None:
            self._dialing.state, self._machine.inherited = "made", True
            if handles.get("joined"):
                self._dialing.answered()
        self.room.inherit(handles, self.incoming.codec)
        if handles.get("net_s"):
            self._net.inherit(float(handles["net_s"]))
        if (rung := self._handover.inherit(handles)) is not None:
            self.room.media.token = rung.token
        await do_all(
            self._fetch_caller(), self.room.fetch_media() if near else self.room.media.remove()
        )
        if not await self._handover.fetch():
            self.where.tell(CalleeLeft())

    async def _fetch_caller(self) -> None:
        out = self.incoming.outgoing
        try:
            await self._caller.do("channels.move", app=self.home, appArgs="resume")
        except PbxGone:
            if out is None or not out.machine or not await self._machine.inherit(self.home):
                raise
            return  # `dial` waits for him
        try:
            async with asyncio.timeout(self._settings.move_timeout_s):
                await self.where.arrived.wait()
        except TimeoutError:
            raise PbxGone("the caller did not arrive: hung up meanwhile") from None

    async def dial(self) -> None:
        """Call him, and return when he has answered."""
        out, dialing = self.incoming.outgoing, self._dialing
        assert out is not None
        assert dialing is not None
        self.where.check()
        if out.machine:
            await self._machine.check()
        if self._machine.listening:
            await self._machine.over()
            self.where.check()
        if dialing.state == "none":
            args = ",".join(self.incoming.args[:1])
            await self._whole.do(dialing.make(out, self.home, args))
        await dialing.ring(out.ring_s)
        if out.machine:
            found, why = await self._machine.listen(self.home)
            if found == "yes" and out.machine == "hang-up":
                raise PbxNotAnswered("machine", f"an answering machine answered ({why})")
            told = (*self.incoming.args, f"machine={found}")
            self.incoming = replace(self.incoming, args=told)
        formats = await self._caller.get("CHANNEL(audionativeformat)")
        carried = self.room.media.transport.codecs or usable()
        self.incoming = replace(self.incoming, codec=codec_of(formats or "", usable() & carried))

    async def answer(self) -> None:
        """Answer the caller."""
        await self._caller.do("channels.answer")

    async def open_media(self, to: Address, codec: Codec) -> Address:
        """Make a mixing bridge and an external-media channel that sends to `to`."""
        self.where.check()
        self.foundling = False
        left_s = hints.left_s(self.hints)
        return await self.room.open(to, codec, lambda: self._net.spread(left_s))

    async def join(self) -> None:
        """Put the caller and the external media into the mixing bridge."""
        await self.room.join()

    async def extension_exists(self, extension: str, context: str) -> bool:
        """Whether the dialplan has it, with a priority 1."""
        return await self._caller.extension_exists(extension, context)

    async def transfer(self, extension: str, context: str) -> None:
        """Hand the caller to an extension."""
        # Asterisk answers 204 to any extension, and sends a wrong one to `i`.
        if not await self._caller.extension_exists(extension, context):
            raise PbxRefused(
                f"the dialplan has no extension '{extension}' in context '{context}': write it "
                "there, or take it out of the agent's [transfer]"
            )
        await self._net.take_away()
        await self._net.take_dialplans_away()
        await self._caller.go_on(extension, context)
        self.where.sent_away = True

    async def ring(self, callee: Callee, noted: Callable[[], Awaitable[None]]) -> None:
        """Ring somebody for the caller, who is set aside meanwhile."""
        self.where.check()
        name = self.incoming.caller_name.translate({ord(c): None for c in '"<>'})
        await self._handover.ring(callee, f'"{name}" <{self.incoming.caller_number}>', noted)

    async def talk(self) -> None:
        """Put whom we rang into the mixing bridge, in the caller's place."""
        self.where.check()
        await self._handover.talk()

    async def connect(self) -> None:
        """Put the caller and whom we rang together, for good."""
        self.where.check()
        self.where.sent_away = True
        try:
            await self._handover.connect(self._caller.go_on)
        except BaseException:
            self.where.sent_away = False
            raise

    async def take_back(self) -> None:
        """Hang up on whom we rang, and put the caller back into the mixing bridge."""
        self.where.check()
        await self._handover.take_back()

    async def outcome(self, variables: Mapping[str, str]) -> None:
        """Set channel variables."""
        await do_all(*(self._caller.put(name, value) for name, value in variables.items()))

    async def leave(self, variables: Mapping[str, str]) -> None:
        """Set channel variables, and let the dialplan go on after Stasis()."""
        if self._dialing is not None:
            await self.hang_up()
            return
        await do_all(
            *(self._handover.silence(), self._net.take_away()),
            *(self._caller.put(n, v) for n, v in variables.items()),
        )
        await self._caller.do("channels.continueInDialplan")
        self.where.sent_away = True

    async def hang_up(self) -> None:
        """End the call."""
        if self.where.ended is None:
            await self._commands.do("channels.hangup", channelId=self.channel, ok=(404,))
            self.where.sent_away = True

    async def get_variable(self, name: str) -> str | None:
        """A channel variable or dialplan function's value; None if it has none."""
        return await self._caller.get(name)

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable."""
        await self._caller.put(name, value)

    async def spy(self, to: Address) -> tuple[int, Address]:
        """Have all that is said sent to `to`, as PCMU."""
        self.where.check()
        number, address = await self._whole.do(self.spies.open(to))
        return number, address

    def renew_spy(self, number: int) -> None:
        """He listens on."""
        self.spies.renew(number)

    async def unspy(self, number: int) -> None:
        """End that."""
        await self.spies.close(number)

    async def send_dtmf(self, digits: str) -> None:
        """Send keys to the caller's side."""
        await self._caller.send_dtmf(digits)

    async def statistics(self) -> Mapping[str, float]:
        """RTP statistics of the caller's own leg."""
        return await self._caller.statistics()

    async def release(self) -> None:
        """Take away what we made for the call; a caller who is still here goes on."""
        if self._releasing is None:
            self._releasing = self._spawn(self._release())
            self.where.released = True
        await asyncio.shield(self._releasing)

    # How.

    @property
    def tokens(self) -> tuple[str, str]:
        """In the names of all that is its own."""
        return self.room.token, self.spies.token

    async def _release(self) -> None:
        await self._whole.done()
        commands = self._commands
        left = self.where.ended == "left" and not self.where.sent_away
        if not await commands.still_ours(self.channel, moved=left):
            if not commands.forgotten:
                log.warning("call %s was taken over: leaving it alone", self.incoming.call_id)
            commands.forgotten = True
            return
        if self.where.ended is None and not self.where.sent_away:
            await commands.persist(self._send_on)
        await self.spies.close_all()
        others = await self._handover.left_over()
        removals = (commands.removal("channels.hangup", channelId=other) for other in others)
        await asyncio.gather(self.room.remove(), *(commands.persist(one) for one in removals))

    async def _send_on(self) -> None:
        commands, channel = self._commands, self.channel
        if self._dialing is not None:
            if self._dialing.state != "none":
                await commands.do("channels.hangup", channelId=channel, ok=(404,))
            return
        if self._net.before_s is not None:
            await commands.do("channels.setChannelVar", channelId=channel, variable=NET, value="0")
        await self._handover.silence()
        await commands.do("channels.continueInDialplan", channelId=channel)
        log.info("call %s goes on in the dialplan", self.incoming.call_id)
