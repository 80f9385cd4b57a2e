"""One call on Asterisk: the caller's channel, our mixing bridge, our external-media channel.

    open_media ─▶ POST mixing bridge ┐
                  POST external media ├─ at once; the answer announces its RTP address
                  TIMEOUT(absolute)  ┘
    join ───────▶ wait for the external media's own StasisStart (before it, 422), then add both
    release ────▶ DELETE external media, DELETE mixing bridge, by name
    ring, talk, connect, take_back: see `bridge.pbx.handover`

The caller may be gone between any two of these steps. Nothing is then left behind, because what is
made is noted before it is asked for, because a request to make something is never abandoned half
way (a cancelled POST may still be carried out, after the DELETE that was to undo it), and because
`release` first waits for such requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from bridge.audio.codecs import usable
from bridge.errors import PbxGone, PbxNotAnswered, PbxRefused
from bridge.pbx.ari import Ari
from bridge.pbx.base import (
    Address,
    Callee,
    CalleeLeft,
    CalleeState,
    Codec,
    HungUp,
    Incoming,
    MediaLost,
    MediaReplaced,
    Owner,
    PbxEvent,
    Relay,
)
from bridge.pbx.commands import Commands, do_all
from bridge.pbx.destinations import DIALPLAN_WORD
from bridge.pbx.dialing import Dialing
from bridge.pbx.external import External
from bridge.pbx.handover import Handover
from bridge.pbx.machine import Machine
from bridge.pbx.names import Name, app_of, codec_of, parse_name
from bridge.pbx.net import NET, Net
from bridge.pbx.other import Other
from bridge.pbx.renewal import Renewal
from bridge.pbx.settings import AsteriskSettings
from bridge.pbx.spy import Spies
from bridge.pbx.transport import transport_of

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]

# Events that nobody fetches, beyond which keys and holds are dropped (never the last event).
_MOST_EVENTS: Final = 256


_BACK_S: Final = 0.25

# Asterisk's name, ours, and by how much it is multiplied. Its `txjitter` is what it measured
# itself, its `rxjitter` what the phone reported; with losses it is the other way round (22.10).
_STATISTICS: Final = (
    ("rxcount", "received", 1),
    ("rxploss", "lost", 1),
    ("txjitter", "jitter_ms", 1000),
    ("txcount", "sent", 1),
    ("txploss", "lost_there", 1),
    ("rxjitter", "jitter_there_ms", 1000),
    ("rtt", "round_trip_ms", 1000),
)


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
        self.app = app or settings.app
        """The application that the caller is in."""
        self.home = self.app
        """Our own application."""
        self.events: asyncio.Queue[PbxEvent] = asyncio.Queue()
        self.ended: str | None = None
        """The cause in `HungUp`, once the call has left us."""
        self.foundling = False
        """Came where other workers' calls may be as well, and nothing was made for it yet: it may
        turn out to be another's."""
        self._settings = settings
        self._spawn, self._on_forget = spawn, on_forget
        self._arrived = asyncio.Event()
        self._commands = Commands(ari, settings, incoming.call_id, owner)
        self._dialing: Dialing | None = None
        if incoming.outgoing is not None:
            self._dialing = Dialing(self._commands, settings, self.channel, self._arrived)
        self._machine = Machine(
            *(self._commands, self.channel, self._arrived, self.get_variable, settings.app)
        )
        self._net = Net(self.get_variable, self.set_variable, settings.max_call_s)
        transport = transport_of(settings, relay)
        self.media = External(
            *(self._commands, settings, self.channel, self.home, self._check, transport)
        )
        self.other = Other(
            *(self._commands, settings, self.channel, self.home),
            token=lambda: self.token,
            check=self._check,
            whole=self._finished,
        )
        self._handover = Handover(
            *(self._commands, self._net, self.other, self.channel),
            bridge_id=lambda: self._bridge_id,
            exists=self.extension_exists,
            get=self.get_variable,
            put=self.set_variable,
        )
        self.spies = Spies(self._commands, settings, self.channel, self.home, transport)
        self._bridge: Literal["none", "tried", "made"] = "none"
        self._inside = False  # the caller is in the mixing bridge, or set aside
        self._changed = asyncio.Event()
        self._move_failed = False
        self._hangup_requested = False
        self._sent_away = self._passed_on = False
        self._renewal = Renewal(settings, incoming.call_id, self._make_again, self._is_over)
        self._making: set[asyncio.Task[Any]] = set()
        self._releasing: asyncio.Task[None] | None = None

    # What Asterisk tells, from AsteriskPbx: never waits.

    def tell(self, event: PbxEvent) -> None:
        """Queue an event for the leg's owner."""
        if self.ended is not None:
            return
        if self.events.qsize() >= _MOST_EVENTS:
            log.warning("call %s: nobody fetches its events; dropped one", self.incoming.call_id)
            return
        self.events.put_nowait(event)

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

    def hangup_requested(self) -> None:
        """The channel is being hung up, so its leaving is no transfer."""
        self._hangup_requested = True

    def end(self, cause: Literal["hangup", "left", "lost", "taken", "moved"] | None = None) -> None:
        """The caller's channel left us."""
        if self.ended is None:
            cause = cause or ("hangup" if self._hangup_requested else "left")
            self.ended = cause
            self.events.put_nowait(HungUp(cause))
            if self._dialing is not None:
                self._dialing.over()
                self._arrived.set()  # nobody has to wait for him any more
            self._changed.set()
            self.media.wake()
            self.other.wake()

    def media_ended(self, n: int) -> None:
        """An external-media channel is gone."""
        if not self.media.ended(n) or self._releasing is not None or self._renewal.runs:
            return
        if self._inside and self.media.transport.home is not None and self.media.port:
            self._spawn(self._renew_media())
        else:
            self.tell(MediaLost())

    def callee_ended(self, n: int, cause: int = 0) -> None:
        """Whom we had rung is gone."""
        if self.other.ended(n, cause) and self._releasing is None:
            self.tell(CalleeLeft())

    def still_here(self) -> None:
        """Asterisk says that the caller is with us: a release that gave up begins anew."""
        if self._releasing is not None and self._releasing.done():
            self._sent_away = False
            self._releasing = self._spawn(self._release())
        elif self.ringing and self._dialing is not None:
            self._spawn(self._dialing.look())

    def was_taken(self) -> bool:
        """The caller left our application: whether neither he nor we have asked for that."""
        self._arrived.clear()
        ours = self._sent_away or self._passed_on or self._releasing is not None
        return not (self._hangup_requested or ours)

    async def comes_back(self) -> bool:
        """Whether he enters it again at once: he was moved from us to us."""
        try:
            async with asyncio.timeout(_BACK_S):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    def arrived(self, app: str) -> None:
        """The caller's channel entered an application of ours."""
        self.app = app
        self._arrived.set()

    def move_failed(self) -> None:
        """The caller's channel could not be moved away."""
        self._move_failed = True
        self._changed.set()

    # The port.

    @property
    def handles(self) -> Mapping[str, str]:
        """What was made for the call so far."""
        made: dict[str, str] = {}
        if self._bridge == "made":
            made["bridge_id"] = self._bridge_id
        if self.media.made:
            made["media_id"] = self.media.id()
            if self.media.transport.home is not None:
                made["media_port"] = str(self.media.port)
        if self._inside:
            made["joined"] = "1"
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
        self._passed_on = True
        await self._do(
            "channels.move",
            app=app_of(self._settings.app, worker),
            appArgs=",".join(self.incoming.args),
        )
        try:
            async with asyncio.timeout(self._settings.move_timeout_s):
                while self.ended is None and not self._move_failed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._move_failed = True
        if self._move_failed and self.ended is None:
            self._move_failed = self._passed_on = False
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
        name = parse_name(handles.get("media_id", ""))
        if name is not None and name.n is not None:
            self.media.inherit(name, int(handles.get("media_port", 0)))
        if handles.get("bridge_id"):
            self._bridge, self._inside = "made", bool(handles.get("joined"))
        if handles.get("net_s"):
            self._net.inherit(float(handles["net_s"]))
        if (rung := self._handover.inherit(handles)) is not None:
            self.media.token = rung.token
        await do_all(self._fetch_caller(), self._fetch_media() if near else self.media.remove())
        if not await self._handover.fetch():
            self.tell(CalleeLeft())

    async def _fetch_caller(self) -> None:
        out = self.incoming.outgoing
        try:
            await self._do("channels.move", app=self.home, appArgs="resume")
        except PbxGone:
            if out is None or not out.machine or not await self._machine.inherit(self.home):
                raise
            return  # `dial` waits for him
        try:
            async with asyncio.timeout(self._settings.move_timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            raise PbxGone("the caller did not arrive: hung up meanwhile") from None

    async def _fetch_media(self) -> None:
        if self.media.made and not await self.media.fetch():
            self.media_ended(self.media.n)

    async def dial(self) -> None:
        """Call him, and return when he has answered."""
        out, dialing = self.incoming.outgoing, self._dialing
        assert out is not None
        assert dialing is not None
        self._check()
        if out.machine:
            await self._machine.check()
        if self._machine.listening:
            await self._machine.over()
            self._check()
        if dialing.state == "none":
            args = ",".join(self.incoming.args[:1])
            await self._finished(dialing.make(out, self.home, args))
        await dialing.ring(out.ring_s)
        if out.machine:
            found, why = await self._machine.listen(self.home)
            if found == "yes" and out.machine == "hang-up":
                raise PbxNotAnswered("machine", f"an answering machine answered ({why})")
            told = (*self.incoming.args, f"machine={found}")
            self.incoming = replace(self.incoming, args=told)
        formats = await self.get_variable("CHANNEL(audionativeformat)")
        carried = self.media.transport.codecs or usable()
        self.incoming = replace(self.incoming, codec=codec_of(formats or "", usable() & carried))

    async def answer(self) -> None:
        """Answer the caller."""
        await self._do("channels.answer")

    async def open_media(self, to: Address, codec: Codec) -> Address:
        """Make a mixing bridge and an external-media channel that sends to `to`."""
        self._check()
        self._renewal.stop()
        address: Address = await self._finished(self._make(to, codec))
        self._check()
        return address

    async def join(self) -> None:
        """Put the caller and the external media into the mixing bridge."""
        await self.media.is_up()
        who = [self.media.id()] if self._inside else [self.channel, self.media.id()]
        try:
            await self._commands.do("bridges.addChannel", bridgeId=self._bridge_id, channel=who)
        except PbxGone:
            if self.ended is None and self.media.state == "ended":
                raise PbxRefused("Asterisk ended the external media: see its log") from None
            raise
        self._inside = True

    async def extension_exists(self, extension: str, context: str) -> bool:
        """Whether the dialplan has it, with a priority 1."""
        if not (DIALPLAN_WORD.fullmatch(extension) and DIALPLAN_WORD.fullmatch(context)):
            return False
        return await self.get_variable(f"DIALPLAN_EXISTS({context},{extension},1)") == "1"

    async def transfer(self, extension: str, context: str) -> None:
        """Hand the caller to an extension."""
        # Asterisk answers 204 to any extension, and sends a wrong one to `i`.
        if not await self.extension_exists(extension, context):
            raise PbxRefused(
                f"the dialplan has no extension '{extension}' in context '{context}': write it "
                "there, or take it out of the agent's [transfer]"
            )
        await self._net.take_away()
        await self._net.take_dialplans_away()
        await self._continue(extension, context)
        self._sent_away = True

    async def _continue(self, extension: str, context: str) -> None:
        await self._do(
            "channels.continueInDialplan", context=context, extension=extension, priority=1
        )

    async def ring(self, callee: Callee, noted: Callable[[], Awaitable[None]]) -> None:
        """Ring somebody for the caller, who is set aside meanwhile."""
        self._check()
        name = self.incoming.caller_name.translate({ord(c): None for c in '"<>'})
        await self._handover.ring(callee, f'"{name}" <{self.incoming.caller_number}>', noted)

    async def talk(self) -> None:
        """Put whom we rang into the mixing bridge, in the caller's place."""
        self._check()
        await self._handover.talk()

    async def connect(self) -> None:
        """Put the caller and whom we rang together, for good."""
        self._check()
        self._sent_away = True
        try:
            await self._handover.connect(self._continue)
        except BaseException:
            self._sent_away = False
            raise

    async def take_back(self) -> None:
        """Hang up on whom we rang, and put the caller back into the mixing bridge."""
        self._check()
        await self._handover.take_back()

    async def outcome(self, variables: Mapping[str, str]) -> None:
        """Set channel variables."""
        await do_all(*(self.set_variable(name, value) for name, value in variables.items()))

    async def leave(self, variables: Mapping[str, str]) -> None:
        """Set channel variables, and let the dialplan go on after Stasis()."""
        if self._dialing is not None:
            await self.hang_up()
            return
        await do_all(
            *(self._handover.silence(), self._net.take_away()),
            *(self.set_variable(n, v) for n, v in variables.items()),
        )
        await self._do("channels.continueInDialplan")
        self._sent_away = True

    async def hang_up(self) -> None:
        """End the call."""
        if self.ended is None:
            await self._commands.do("channels.hangup", channelId=self.channel, ok=(404,))
            self._sent_away = True

    async def get_variable(self, name: str) -> str | None:
        """A channel variable or dialplan function's value; None if it has none."""
        try:
            answer = await self._do("channels.getChannelVar", variable=name)
        except PbxGone as gone:
            if "variable was not found" in str(gone):
                return None
            raise
        value = answer["value"]
        return value if isinstance(value, str) else None

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable."""
        await self._do("channels.setChannelVar", variable=name, value=value)

    async def spy(self, to: Address) -> tuple[int, Address]:
        """Have all that is said sent to `to`, as PCMU."""
        self._check()
        number, address = await self._finished(self.spies.open(to))
        return number, address

    def renew_spy(self, number: int) -> None:
        """He listens on."""
        self.spies.renew(number)

    async def unspy(self, number: int) -> None:
        """End that."""
        await self.spies.close(number)

    async def send_dtmf(self, digits: str) -> None:
        """Send keys to the caller's side."""
        # Not twice: keys that were pressed can't be taken back.
        await self._do("channels.sendDTMF", dtmf=digits, again=False)

    async def statistics(self) -> Mapping[str, float]:
        """RTP statistics of the caller's own leg."""
        # 403: not an RTP channel (Local, DAHDI); 404: no RTP yet.
        table = await self._do("channels.rtpstatistics", ok=(403, 404)) or {}
        return {ours: float(table[name]) * by for name, ours, by in _STATISTICS if name in table}

    async def release(self) -> None:
        """Take away what we made for the call; a caller who is still here goes on."""
        if self._releasing is None:
            self._releasing = self._spawn(self._release())
            self._changed.set()
        await asyncio.shield(self._releasing)

    # How.

    @property
    def token(self) -> str:
        """In the names of what this leg made, or took over with the call."""
        return self.media.token

    @property
    def tokens(self) -> tuple[str, str]:
        """In the names of all that is its own."""
        return self.token, self.spies.token

    @property
    def _bridge_id(self) -> str:
        return str(Name(self.channel, self.token))

    def _check(self) -> None:
        if self._is_over():
            raise PbxGone(f"the call has ended ({self.ended or 'released'})")

    def _is_over(self) -> bool:
        return self.ended is not None or self._releasing is not None

    async def _renew_media(self) -> None:
        if await self._renewal.run():
            self.tell(MediaReplaced())
        elif not self._is_over() and not self._renewal.stopped:
            self.tell(MediaLost())

    async def _make_again(self) -> bool:
        """External media in the place of one that ended, from the same port to the same slot."""
        self._check()
        media, home = self.media, self.media.transport.home
        assert home is not None
        await self._finished(media.make(home, self.incoming.codec, media.port))
        await self.join()
        return media.state == "up"

    async def _do(self, operation: str, ok: tuple[int, ...] = (), **parameters: Any) -> Any:
        self._check()
        return await self._commands.do(operation, ok=ok, channelId=self.channel, **parameters)

    async def _finished(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Make something: also if nobody waits for it any more, so that it can be taken away."""
        task = self._spawn(work)
        self._making.add(task)
        task.add_done_callback(self._making.discard)
        return await asyncio.shield(task)

    async def _make(self, to: Address, codec: Codec) -> Address:
        self.foundling = False
        if self._bridge == "made":
            return await self.media.make(to, codec)
        self._bridge = "tried"
        address, _, _ = await do_all(
            self.media.make(to, codec),
            self._commands.do(
                "bridges.createWithId",
                bridgeId=self._bridge_id,
                name=self._bridge_id,
                type="mixing",
                ok=(409,),  # made by an earlier try whose answer was lost
            ),
            self._net.spread(),
        )
        self._bridge = "made"
        return address  # type: ignore[no-any-return]

    async def _release(self) -> None:
        if self._making:
            await asyncio.wait(self._making)
        commands = self._commands
        left = self.ended == "left" and not self._sent_away
        if not await commands.still_ours(self.channel, moved=left):
            if not commands.forgotten:
                log.warning("call %s was taken over: leaving it alone", self.incoming.call_id)
            commands.forgotten = True
            return
        if self.ended is None and not self._sent_away:
            await commands.persist(self._send_on)
        await self.spies.close_all()
        things = [("channels.hangup", {"channelId": self.media.id(n)}) for n in self._numbers()]
        others = await self._handover.left_over()
        things += [("channels.hangup", {"channelId": channel}) for channel in others]
        if self._bridge != "none":
            things.append(("bridges.destroy", {"bridgeId": self._bridge_id}))
        await asyncio.gather(
            *(commands.persist(commands.removal(what, **thing)) for what, thing in things)
        )

    def _numbers(self) -> range:
        return range(1, self.media.n + 1)

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
