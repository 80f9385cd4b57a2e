"""Asterisk by its REST interface (ARI): the controller that hands calls over as legs.

A worker has a Stasis application of its own, where its calls' external media lives and where calls
are moved that it takes over or is given. One worker at a time also holds the front door, the
application that the dialplan names: a caller who enters there becomes a leg, which the worker
keeps (then nothing moves) or passes on. Each application has a WebSocket (`Listener`); its events
are sorted into the legs by one function that never waits. What takes time (asking for a new
caller's codec, cleaning up) is a task of its own, so no call holds up another.

While a WebSocket is away Asterisk keeps channels, mixing bridges and audio; only events are lost,
for good. So each connection begins by listing what there is: legs whose caller is gone end
("lost"), callers whom we don't know become legs (`Incoming.resumed`), and what is left of their
former owners is taken away. What belongs to no call at all is looked for twice, a grace apart,
before it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from bridge.audio.codecs import usable
from bridge.errors import PbxError, PbxGone, PbxRefused
from bridge.pbx import hints
from bridge.pbx.ari import Ari
from bridge.pbx.base import Dtmf, Hold, Incoming, Leg, Owner, Relay
from bridge.pbx.dialing import CAUSE_S
from bridge.pbx.events import (
    Answered,
    AriEvent,
    Channel,
    Destroyed,
    Ended,
    Failed,
    HangupRequested,
    MoveFailed,
    Started,
    Told,
)
from bridge.pbx.inventory import Inventory, arguments
from bridge.pbx.leg import AsteriskLeg
from bridge.pbx.listener import Listener, Taken
from bridge.pbx.names import Name, app_of, codec_of, parse_name
from bridge.pbx.settings import AsteriskSettings
from bridge.pbx.transport import transport_of

__all__ = ["AsteriskPbx", "AsteriskSettings"]

log = logging.getLogger(__name__)

_TIDY_S = 1.0


class AsteriskPbx:
    """One Asterisk: a `Pbx`."""

    def __init__(
        self,
        settings: AsteriskSettings,
        worker: str = "",
        owner: Owner | None = None,
        relay: Relay | None = None,
    ) -> None:
        """Nothing happens before `connect`.

        Args:
            settings: the operator's.
            worker: our name; without one the front door's application is our own.
            owner: says whether calls are still ours; None: they always are.
            relay: brings audio where `media_transport` is "websocket".
        """
        self._relay, carried = relay, transport_of(settings, relay).codecs
        self._usable = usable() if carried is None else usable() & carried
        self.version = ""
        self.up = False
        """Whether events flow."""
        self.app = app_of(settings.app, worker) if worker else settings.app
        self._settings = settings
        self._owner = owner
        self._ari = Ari(settings)
        self._legs: dict[str, AsteriskLeg] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_call: Callable[[Leg], None] = _nobody
        self._door: asyncio.Task[Any] | None = None
        self._on_key: Callable[[str, str], None] | None = None
        self._handed: dict[str, str] = {}  # call ids by channel
        self._all_fetched = asyncio.Event()
        self._tidying: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Reach Asterisk once and check rights and version."""
        await self._ari.open()
        self.version = self._ari.version

    async def run(self, on_call: Callable[[Leg], None], on_up: Callable[[bool], None]) -> None:
        """Serve until cancelled."""
        self._on_call = on_call
        janitor: asyncio.Task[None] | None = None
        listener: Listener

        def up(is_up: bool) -> None:
            nonlocal janitor
            self.up = is_up
            if is_up:
                self._ari.listened.set()
                janitor = self._spawn(self._sweep(listener))
            else:
                self._ari.listened.clear()
                if janitor is not None:
                    janitor.cancel()
            on_up(is_up)

        try:
            listener = self._listener(self.app, up)
            await listener.run()
        except Taken:
            self._end_all()
            raise PbxRefused(
                f"another program has connected to Asterisk as application '{self.app}': "
                "give each its own app, or run one"
            ) from None
        finally:
            if janitor is not None:
                janitor.cancel()
            self.door(False)

    def door(self, is_open: bool) -> None:
        """Hold the front door, or leave it to another worker."""
        if is_open and self.app != self._settings.app:
            if self._door is None or self._door.done():
                self._door = self._spawn(self._hold_door())
        elif self._door is not None:
            self._door.cancel()
            self._door = None

    async def door_taken(self, within_s: float) -> None:
        """Wait until another worker has the front door that we hold."""
        if self._door is not None:
            await asyncio.wait({self._door}, timeout=within_s)

    def hand_over(self, on_key: Callable[[str, str], None]) -> None:
        """From now on calls that are forgotten are about to be fetched by other workers.

        `on_key`: told of each key that one of their callers presses until then, by call id.
        """
        self._on_key = on_key

    async def fetched(self, within_s: float) -> None:
        """Wait until other workers have all of these."""
        if self._handed:
            self._all_fetched.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._all_fetched.wait()

    @property
    def url(self) -> str:
        """Its address, for people."""
        return self._settings.url

    async def _hold_door(self) -> None:
        try:
            await self._listener(self._settings.app, lambda is_up: None).run()
        except Taken:
            log.warning("another worker has the front door now")

    def _listener(self, app: str, on_up: Callable[[bool], None]) -> Listener:
        return Listener(
            self._ari, self._settings, app, self._sort, lambda: self._reconcile(app), on_up
        )

    def originate(self, incoming: Incoming) -> Leg:
        """A call of ours; nothing happens before `Leg.dial`."""
        leg = self._leg(incoming)
        self._legs[leg.channel] = leg
        return leg

    async def adopt(self, incoming: Incoming, handles: Mapping[str, str], *, near: bool) -> Leg:
        """Bring a call over from a worker that is gone."""
        leg = self._leg(incoming)
        self._legs[leg.channel] = leg
        try:
            await leg.fetch(handles, near=near)
        except PbxError as error:
            self._legs.pop(leg.channel, None)
            if isinstance(error, PbxGone):
                leg.end("lost")
                await leg.release()
            raise
        if not near:
            self._tidy_soon()
        return leg

    async def send_home(self, call_id: str, worker: str) -> None:
        """Have a caller moved to his living owner's application."""
        home, channel_id = app_of(self._settings.app, worker), self._settings.channel_of(call_id)
        there = await self._ari.call("applications.get", applicationName=home, ok=(404,))
        if there and channel_id in there["channel_ids"]:
            return  # he has fetched him himself meanwhile
        await self._ari.call(
            "channels.move", channelId=channel_id, app=home, appArgs="resume", ok=(404,)
        )

    def _leg(self, incoming: Incoming) -> AsteriskLeg:
        return AsteriskLeg(
            *(self._ari, self._settings, incoming, self._spawn, self._owner),
            app=self.app,
            on_forget=self._forget,
            relay=self._relay,
        )

    async def close(self, within_s: float | None = None) -> None:
        """End what `release` has still to do, close connections."""
        if self._tidying is not None:
            self._tidying.cancel()
        if self._tasks:
            # Each of them is bounded by itself; see AsteriskLeg.release.
            bound_s = self._settings.release_timeout_s if within_s is None else within_s
            await asyncio.wait(self._tasks, timeout=bound_s)
        for task in self._tasks:
            task.cancel()
        await self._ari.close()

    def _sort(self, event: AriEvent) -> None:
        """Bring an event to the leg that it is for. Never waits."""
        match event:
            case Started(channel, args, app):
                self._started(channel, args, app)
            case Ended(channel_id, app):
                self._left(channel_id, app)
            case Destroyed(channel_id, cause):
                if leg := self._legs.get(channel_id):
                    leg.failed(cause)
                self._ended(channel_id, cause)
            case Failed(channel_id, cause):
                if leg := self._legs.get(channel_id):
                    leg.failed(cause)
                else:
                    self._unanswered(channel_id, cause)
            case Told(channel_id, what):
                self._told(channel_id, what)
            case MoveFailed() | HangupRequested() | Answered():
                if leg := self._legs.get(event.channel_id):
                    _tell(leg, event)

    def _told(self, channel_id: str, what: Dtmf | Hold) -> None:
        if leg := self._legs.get(channel_id):
            leg.where.tell(what)
        elif self._on_key and isinstance(what, Dtmf) and channel_id in self._handed:
            self._on_key(self._handed[channel_id], what.digit)

    def _started(self, channel: Channel, args: tuple[str, ...], app: str) -> None:
        name = parse_name(channel.id)
        if name is None:
            if leg := self._legs.get(channel.id):
                leg.where.entered(app or self.app)
            else:
                resumed = args == ("resume",)
                args = arguments(channel) if resumed else args
                self._take(channel, args, app or self.app, resumed=resumed)
        elif (leg := self._maker(name)) and name.n is not None:
            if name.kind == "t":
                leg.other.started(name.n, channel.name)
            elif name.kind in ("s", "l"):
                leg.spies.started(name.kind, name.n)
            elif not name.kind:
                leg.room.media.started(name.n)

    def _ended(self, channel_id: str, cause: int = 0) -> None:
        name = parse_name(channel_id)
        if name is None:
            if leg := self._legs.pop(channel_id, None):
                leg.end()
            if self._handed.pop(channel_id, None) and not self._handed:
                self._all_fetched.set()
        elif (leg := self._maker(name)) and name.n is not None:
            if name.kind == "t":
                leg.callee_ended(name.n, cause)
            elif not name.kind:
                leg.room.media_ended(name.n)

    def _unanswered(self, channel_id: str, cause: int) -> None:
        name = parse_name(channel_id)
        if name is not None and name.kind == "t" and (leg := self._maker(name)):
            leg.other.failed(cause)

    def _left(self, channel_id: str, app: str) -> None:
        """A channel has left an application of ours; it may have been moved."""
        leg = self._legs.get(channel_id)
        if leg is None:
            self._ended(channel_id)
        elif app not in ("", leg.where.app):
            pass  # from one of ours to the other
        elif leg.elsewhere:
            pass  # it comes back, or its end is told
        elif leg.ringing:
            self._spawn(self._not_answered(leg))
        elif self.app != self._settings.app and leg.where.was_taken():
            self._spawn(self._taken(leg))
        else:
            self._ended(channel_id)

    async def _not_answered(self, leg: AsteriskLeg) -> None:
        """Whom we called has gone, and the end of his channel says why; or he was moved."""
        await asyncio.sleep(CAUSE_S)
        if self._legs.get(leg.channel) is leg and not await leg.where.comes_back():
            self._ended(leg.channel)

    async def _taken(self, leg: AsteriskLeg) -> None:
        """Somebody has moved the caller: to another worker, or, not knowing better, to us."""
        if not await leg.where.comes_back() and self._legs.get(leg.channel) is leg:
            self._ended(leg.channel)

    def _maker(self, name: Name) -> AsteriskLeg | None:
        """The living leg that made a thing of this name."""
        leg = self._legs.get(name.caller)
        return leg if leg is not None and name.token in leg.tokens else None

    def _take(self, channel: Channel, args: tuple[str, ...], app: str, *, resumed: bool) -> None:
        """A caller is ours now: make a leg, and introduce it once its codec is known."""
        args, known = hints.split(args)
        incoming = Incoming(
            call_id=self._settings.call_of(channel.id),
            args=args,
            caller_number=channel.caller_number,
            caller_name=channel.caller_name,
            dialed=channel.dialed,
            language=channel.language,
            codec="PCMU",
            sent=app == self.app != self._settings.app and not resumed,
            resumed=resumed,
            pbx=self._settings.name,
        )
        leg = self._leg(incoming)
        leg.where.app = app
        if not resumed:  # else they may be old
            leg.hints = known
        leg.foundling = self.app != self._settings.app
        self._legs[channel.id] = leg
        self._spawn(self._introduce(leg))
        if resumed:
            self._tidy_soon()

    async def _introduce(self, leg: AsteriskLeg) -> None:
        try:
            formats = leg.hints.get(hints.CODEC)
            if formats is None:
                formats = await leg.get_variable("CHANNEL(audionativeformat)")
            leg.incoming = replace(leg.incoming, codec=codec_of(formats or "", self._usable))
        except PbxGone:
            pass  # told below, if it is so
        except PbxError as error:
            log.warning("call %s: taken as PCMU: %s", leg.incoming.call_id, error)
        if leg.where.ended is not None:
            log.info("call %s: the caller hung up at once", leg.incoming.call_id)
            return
        try:
            self._on_call(leg)
        except Exception:  # the one boundary of a call: its fault must not end the others
            log.exception("call %s could not be begun", leg.incoming.call_id)
            await leg.release()

    async def _list(self, app: str) -> Inventory:
        application, channels, bridges = await asyncio.gather(
            self._ari.call("applications.get", applicationName=app),
            self._ari.call("channels.list"),
            self._ari.call("bridges.list"),
        )
        return Inventory.of(application, channels, bridges)

    async def _reconcile(self, app: str) -> None:
        """Bring what we know in line with what Asterisk has. The WebSocket is open, and unread."""
        # Who goes on setting up meanwhile must not be held against an older listing.
        legs = self._legs.items()
        before = {
            i: (leg.where.app, _expected(leg)) for i, leg in legs if leg.there and not leg.elsewhere
        }
        there = await self._list(app)
        for call_id, (where, expected) in before.items():
            leg = self._legs.get(call_id)
            if leg is None or leg.where.app != where:
                continue
            here = call_id in there.app_channels
            if call_id not in there.channels or (where == app and not here):
                del self._legs[call_id]
                leg.end("lost")
                continue
            if here:
                leg.still_here()
            if expected is not None and app == self.app:
                channel_id, n = expected
                if channel_id in there.app_channels:
                    leg.room.media.started(n)
                elif channel_id not in there.channels:
                    leg.room.media_ended(n)
            if leg.other.is_there and app == self.app:
                _compare(leg, there)
        for caller in there.callers():
            if caller.id not in self._legs:
                log.info("call %s is under way and nobody's: taking it", caller.id)
                self._take(caller, arguments(caller), app, resumed=True)
        await self._tidy(there)

    async def _tidy(self, there: Inventory) -> None:
        """What a former owner made for the calls that we hold is nobody's any more."""
        held = {i: n for i, n in there.orphans(self._tokens()).items() if n.caller in self._legs}
        await self._remove(there, held)

    def _tidy_soon(self) -> None:
        """Look for that once we hold who is just coming: his owner may have died before he could
        note what he had made."""
        if self._tidying is None or self._tidying.done():
            self._tidying = self._spawn(self._look_soon())

    async def _look_soon(self) -> None:
        await asyncio.sleep(_TIDY_S)
        await self._tidy(await self._list(self.app))

    async def _sweep(self, listener: Listener) -> None:
        """Take away what belongs to no call, while connected."""
        settings = self._settings
        suspects: dict[str, Name] = {}
        wait_s = settings.orphan_grace_s
        while True:
            try:
                there = await self._list(self.app)
                orphans = there.orphans(self._tokens())
                await self._remove(there, {i: n for i, n in orphans.items() if i in suspects})
                suspects = {i: n for i, n in orphans.items() if i not in suspects}
                wait_s = settings.orphan_grace_s if suspects else settings.sweep_s
            except PbxGone:  # our application itself: the WebSocket lives, and would stay silent
                log.warning("Asterisk does not know our application any more; connecting anew")
                await listener.reconnect()
                return
            except PbxError as error:
                log.info("could not look for orphans: %s", error)
            await asyncio.sleep(wait_s)

    async def _remove(self, there: Inventory, orphans: dict[str, Name]) -> None:
        for name in orphans.values():
            if self._owner is not None:
                await self._owner.sure()
            if not there.is_orphan(name, self._tokens()):
                continue  # we were held up since we looked, and its call is another's now
            log.info("taking away %s, which belongs to no call", name)
            if name.is_bridge:
                await self._ari.call("bridges.destroy", bridgeId=str(name), ok=(404,))
            else:
                await self._ari.call("channels.hangup", channelId=str(name), ok=(404,))

    def _tokens(self) -> dict[str, Collection[str]]:
        # What a foundling's owner has made for him is no orphan.
        return {call_id: leg.tokens for call_id, leg in self._legs.items() if not leg.foundling}

    def _forget(self, leg: AsteriskLeg) -> None:
        """The call is another worker's: it would be a stranger if we met it again."""
        if self._legs.get(leg.channel) is leg:
            del self._legs[leg.channel]
            if self._on_key is not None:
                self._handed[leg.channel] = leg.incoming.call_id

    def _end_all(self) -> None:
        for leg in self._legs.values():
            leg.end("taken")
        self._legs.clear()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            if isinstance(error, PbxError):  # its awaiter was told, or has gone away
                log.debug("%s", error)
            else:
                log.error("a task of the PBX failed", exc_info=error)


def _tell(leg: AsteriskLeg, event: MoveFailed | HangupRequested | Answered) -> None:
    match event:
        case MoveFailed():
            leg.where.move_failed()
        case HangupRequested():
            leg.where.hangup_requested()
        case Answered():
            leg.answered()


def _compare(leg: AsteriskLeg, there: Inventory) -> None:
    """Tell a leg what has become of whom it rang."""
    callee = there.channels.get(leg.other.id())
    if callee is None:
        leg.callee_ended(leg.other.n)
    elif callee.id in there.app_channels:
        leg.other.started(leg.other.n, callee.name)


def _expected(leg: AsteriskLeg) -> tuple[str, int] | None:
    """Id and number of the external-media channel that must be there now."""
    return (leg.room.media.id(), leg.room.media.n) if leg.room.media.made else None


def _nobody(leg: Leg) -> None:
    raise RuntimeError(f"call {leg.incoming.call_id} came before anybody listened")
