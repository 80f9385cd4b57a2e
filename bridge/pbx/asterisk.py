"""Asterisk by its REST interface (ARI): the controller that hands calls over as legs.

    run ─▶ connect ─▶ events WebSocket ─▶ event filter ─▶ reconcile ─▶ on_up(True) ─▶ read events
     ▲                                                                                   │ lost
     └────────────── on_up(False), backoff ◀──────────────────────────────────────────────┘

The WebSocket is read by one loop that never waits: it sorts each event into its leg's own queue.
What takes time (asking for a new caller's codec, cleaning up) is a task of its own, so no call
holds up another.

While the WebSocket is away Asterisk keeps channels, mixing bridges and audio; only events are lost,
for good. So each connection begins by listing what there is: legs whose caller is gone end
("lost"), callers whom nobody owns become legs (`Incoming.resumed`), and what is left of their
former owners is taken away. What belongs to no call at all is looked for twice, a grace apart,
before it goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import aiohttp

from bridge.audio.codecs import usable
from bridge.errors import PbxError, PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx.ari import Ari
from bridge.pbx.backoff import Backoff
from bridge.pbx.base import Incoming, Leg
from bridge.pbx.events import (
    TYPES,
    AriEvent,
    Channel,
    Destroyed,
    Ended,
    HangupRequested,
    Replaced,
    Started,
    Told,
    parse,
)
from bridge.pbx.inventory import Inventory, arguments
from bridge.pbx.leg import AsteriskLeg
from bridge.pbx.names import Name, codec_of, parse_name
from bridge.pbx.settings import AsteriskSettings

__all__ = ["AsteriskPbx", "AsteriskSettings"]

log = logging.getLogger(__name__)


class AsteriskPbx:
    """One Asterisk: a `Pbx`."""

    def __init__(self, settings: AsteriskSettings) -> None:
        self.version = ""
        self._settings = settings
        self._ari = Ari(settings)
        self._legs: dict[str, AsteriskLeg] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._served = False
        self._on_call: Callable[[Leg], None] = _nobody

    async def connect(self) -> None:
        """Reach Asterisk once and check rights and version."""
        await self._ari.open()
        self.version = self._ari.version

    async def run(self, on_call: Callable[[Leg], None], on_up: Callable[[bool], None]) -> None:
        """Serve until cancelled."""
        self._on_call = on_call
        settings = self._settings
        clock = asyncio.get_running_loop().time
        backoff = Backoff(settings.reconnect_first_s, settings.reconnect_most_s)
        told = ""
        while True:
            began, self._served = clock(), False
            try:
                if not self._ari.is_open:
                    await self.connect()
                await self._serve(on_up)
                reason = f"Asterisk at {settings.url} closed the events WebSocket"
            except _Taken:
                self._end_all()
                raise PbxRefused(
                    f"another program has connected to Asterisk as application '{settings.app}': "
                    "give each its own app, or run one"
                ) from None
            except (PbxUnreachable, PbxRefused, PbxGone) as error:
                reason = str(error)
            if self._served:
                told = ""
                if clock() - began > settings.reconnect_most_s:  # else it would be a busy loop
                    backoff.reset()
            if reason != told:  # once, not at every try
                log.warning("%s; trying again", reason)
                told = reason
            await asyncio.sleep(backoff.next_s())

    async def close(self, within_s: float | None = None) -> None:
        """End what `release` has still to do, close connections."""
        if self._tasks:
            # Each of them is bounded by itself; see AsteriskLeg.release.
            bound_s = self._settings.release_timeout_s if within_s is None else within_s
            await asyncio.wait(self._tasks, timeout=bound_s)
        for task in self._tasks:
            task.cancel()
        await self._ari.close()

    async def _serve(self, on_up: Callable[[bool], None]) -> None:
        """One connection, from its opening to its end."""
        socket = await self._ari.events()
        try:
            await self._ari.call(
                "applications.filter",
                applicationName=self._settings.app,
                filter={"allowed": [{"type": name} for name in TYPES]},
            )
            await self._reconcile()
            janitor = self._spawn(self._sweep(socket))
            self._served = True
            on_up(True)
            try:
                await self._read(socket)
            finally:
                janitor.cancel()
            on_up(False)  # it went, not we: nothing of the kind where we stop or are replaced
        finally:
            await socket.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue  # an ERROR is followed by the end
            try:
                event = parse(message.data)
            except ValueError as error:
                log.warning("Asterisk sent an event that can't be understood: %s", error)
                continue
            if event is not None:
                self._sort(event)

    def _sort(self, event: AriEvent) -> None:
        """Bring an event to the leg that it is for. Never waits."""
        match event:
            case Started(channel, args):
                self._started(channel, args)
            case Ended(channel_id) | Destroyed(channel_id):
                self._ended(channel_id)
            case HangupRequested(channel_id):
                if leg := self._legs.get(channel_id):
                    leg.hangup_requested()
            case Told(channel_id, what):
                if leg := self._legs.get(channel_id):
                    leg.tell(what)
            case Replaced():
                raise _Taken

    def _started(self, channel: Channel, args: tuple[str, ...]) -> None:
        name = parse_name(channel.id)
        if name is None:
            if channel.id not in self._legs:
                self._take(channel, args, resumed=False)
        elif (leg := self._maker(name)) and name.n is not None:
            leg.media_started(name.n)

    def _ended(self, channel_id: str) -> None:
        name = parse_name(channel_id)
        if name is None:
            if leg := self._legs.pop(channel_id, None):
                leg.end()
        elif (leg := self._maker(name)) and name.n is not None:
            leg.media_ended(name.n)

    def _maker(self, name: Name) -> AsteriskLeg | None:
        """The living leg that made a thing of this name."""
        leg = self._legs.get(name.call_id)
        return leg if leg is not None and leg.token == name.token else None

    def _take(self, channel: Channel, args: tuple[str, ...], *, resumed: bool) -> None:
        """A caller is ours now: make a leg, and introduce it once its codec is known."""
        incoming = Incoming(
            call_id=channel.id,
            args=args,
            caller_number=channel.caller_number,
            caller_name=channel.caller_name,
            dialed=channel.dialed,
            language=channel.language,
            codec="PCMU",
            resumed=resumed,
        )
        leg = AsteriskLeg(self._ari, self._settings, incoming, self._spawn)
        self._legs[channel.id] = leg
        self._spawn(self._introduce(leg))

    async def _introduce(self, leg: AsteriskLeg) -> None:
        try:
            formats = await leg.get_variable("CHANNEL(audionativeformat)")
            leg.incoming = replace(leg.incoming, codec=codec_of(formats or "", usable()))
        except PbxGone:
            pass  # told below, if it is so
        except PbxError as error:
            log.warning("call %s: taken as PCMU: %s", leg.incoming.call_id, error)
        if leg.ended is not None:
            log.info("call %s: the caller hung up at once", leg.incoming.call_id)
            return
        try:
            self._on_call(leg)
        except Exception:  # the one boundary of a call: its fault must not end the others
            log.exception("call %s could not be begun", leg.incoming.call_id)
            await leg.release()

    async def _list(self) -> Inventory:
        application, channels, bridges = await asyncio.gather(
            self._ari.call("applications.get", applicationName=self._settings.app),
            self._ari.call("channels.list"),
            self._ari.call("bridges.list"),
        )
        return Inventory.of(application, channels, bridges)

    async def _reconcile(self) -> None:
        """Bring what we know in line with what Asterisk has. The WebSocket is open, and unread."""
        # Who goes on setting up meanwhile must not be held against an older listing.
        media = {call_id: leg.media_channel for call_id, leg in self._legs.items()}
        there = await self._list()
        for call_id, expected in media.items():
            leg = self._legs[call_id]
            if call_id not in there.app_channels:
                del self._legs[call_id]
                leg.end("lost")
                continue
            leg.still_here()
            if expected is not None:
                channel_id, n = expected
                if channel_id in there.app_channels:
                    leg.media_started(n)
                elif channel_id not in there.channels:
                    leg.media_ended(n)
        for caller in there.callers():
            if caller.id not in self._legs:
                log.info("call %s is under way and nobody's: taking it", caller.id)
                self._take(caller, arguments(caller), resumed=True)
        # What a former owner made for the calls that we hold is nobody's any more.
        held = {i: n for i, n in there.orphans(self._tokens()).items() if n.call_id in self._legs}
        await self._remove(held)

    async def _sweep(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Take away what belongs to no call, while connected."""
        settings = self._settings
        suspects: dict[str, Name] = {}
        wait_s = settings.orphan_grace_s
        while True:
            try:
                orphans = (await self._list()).orphans(self._tokens())
                await self._remove({i: n for i, n in orphans.items() if i in suspects})
                suspects = {i: n for i, n in orphans.items() if i not in suspects}
                wait_s = settings.orphan_grace_s if suspects else settings.sweep_s
            except PbxGone:  # our application itself: the WebSocket lives, and would stay silent
                log.warning("Asterisk does not know our application any more; connecting anew")
                await socket.close()
                return
            except PbxError as error:
                log.info("could not look for orphans: %s", error)
            await asyncio.sleep(wait_s)

    async def _remove(self, orphans: dict[str, Name]) -> None:
        for thing, name in orphans.items():
            log.info("taking away %s, which belongs to no call", thing)
            if name.n is None:
                await self._ari.call("bridges.destroy", bridgeId=thing, ok=(404,))
            else:
                await self._ari.call("channels.hangup", channelId=thing, ok=(404,))

    def _tokens(self) -> dict[str, str]:
        return {call_id: leg.token for call_id, leg in self._legs.items()}

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


class _Taken(Exception):
    """Our application's name belongs to another WebSocket now."""


def _nobody(leg: Leg) -> None:
    raise RuntimeError(f"call {leg.incoming.call_id} came before anybody listened")
