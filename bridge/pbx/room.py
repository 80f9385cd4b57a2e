"""Our mixing bridge of a call, and the external media in it.

    none ─▶ tried ─▶ made         tried: asked for, so that it has to be taken away
                     open_media ─▶ POST mixing bridge, external media (its answer announces its RTP)
                     join       ─▶ once the external media's own StasisStart has come (before it,
                                   422), add both

External media that ends by itself is the end of the call, except where it travels by a WebSocket:
then the call gets another (`bridge.pbx.renewal`), in the same mixing bridge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from bridge.errors import PbxGone, PbxRefused
from bridge.pbx.base import Address, Codec, MediaLost, MediaReplaced
from bridge.pbx.commands import Commands, do_all
from bridge.pbx.external import External
from bridge.pbx.names import Name, parse_name
from bridge.pbx.renewal import Renewal
from bridge.pbx.settings import AsteriskSettings
from bridge.pbx.transport import Transport
from bridge.pbx.whereabouts import Whereabouts
from bridge.pbx.whole import Spawn, Whole


class Room:
    """One call's."""

    def __init__(
        self,
        commands: Commands,
        settings: AsteriskSettings,
        call_id: str,
        caller: str,
        home: str,
        where: Whereabouts,
        transport: Transport,
        whole: Whole,
        spawn: Spawn,
    ) -> None:
        """Nothing is made yet.

        Args:
            commands: how Asterisk is asked.
            settings: the operator's.
            call_id: for the log.
            caller: the caller's channel id.
            home: the application where the external media lives.
            where: knows whether the call is over, and is told what becomes of its media.
            transport: how the audio travels.
            whole: makes things to their end.
            spawn: makes tasks of the call.
        """
        self.media = External(commands, settings, caller, home, where.check, transport)
        self._commands, self._caller, self._where = commands, caller, where
        self._whole, self._spawn = whole, spawn
        self._codec: Codec = "PCMU"
        self._bridge: Literal["none", "tried", "made"] = "none"
        self._inside = False  # the caller is in the mixing bridge, or set aside
        self._renewal = Renewal(settings, call_id, lambda: where.over)

    @property
    def token(self) -> str:
        """In the names of what was made for the call, or taken over with it."""
        return self.media.token

    @property
    def id(self) -> str:
        """Of the mixing bridge."""
        return str(Name(self._caller, self.token))

    @property
    def handles(self) -> Mapping[str, str]:
        """What was made so far, for a session to remember."""
        made: dict[str, str] = {}
        if self._bridge == "made":
            made["bridge_id"] = self.id
        if self.media.made:
            made["media_id"] = self.media.id()
            if self.media.transport.home is not None:
                made["media_port"] = str(self.media.port)
        if self._inside:
            made["joined"] = "1"
        return made

    def inherit(self, handles: Mapping[str, str], codec: Codec) -> None:
        """A former owner of the call, whose codec is that, has made these."""
        self._codec = codec
        name = parse_name(handles.get("media_id", ""))
        if name is not None and name.n is not None:
            self.media.inherit(name, int(handles.get("media_port", 0)))
        if handles.get("bridge_id"):
            self._bridge, self._inside = "made", bool(handles.get("joined"))

    async def fetch_media(self) -> None:
        """Bring its external media over to our application."""
        if self.media.made and not await self.media.fetch():
            self.media_ended(self.media.n)

    async def open(
        self, to: Address, codec: Codec, beside: Callable[[], Awaitable[None]]
    ) -> Address:
        """Make a mixing bridge and an external-media channel that sends to `to`.

        `beside`: what else a new call needs, at the same time.
        """
        self._where.check()
        self._codec = codec
        self._renewal.stop()
        address: Address = await self._whole.do(self._open(to, codec, beside))
        self._where.check()
        return address

    async def _open(
        self, to: Address, codec: Codec, beside: Callable[[], Awaitable[None]]
    ) -> Address:
        if self._bridge == "made":
            return await self.media.make(to, codec)
        self._bridge = "tried"
        address, _, _ = await do_all(
            self.media.make(to, codec),
            self._commands.do(
                "bridges.createWithId",
                bridgeId=self.id,
                name=self.id,
                type="mixing",
                ok=(409,),  # made by an earlier try whose answer was lost
            ),
            beside(),
        )
        self._bridge = "made"
        return address  # type: ignore[no-any-return]

    async def join(self) -> None:
        """Put the caller and the external media into the mixing bridge."""
        await self.media.is_up()
        who = [self.media.id()] if self._inside else [self._caller, self.media.id()]
        try:
            await self._commands.do("bridges.addChannel", bridgeId=self.id, channel=who)
        except PbxGone:
            if self._where.ended is None and self.media.state == "ended":
                raise PbxRefused("Asterisk ended the external media: see its log") from None
            raise
        self._inside = True

    def media_ended(self, n: int) -> None:
        """An external-media channel is gone."""
        if not self.media.ended(n) or self._where.released or self._renewal.runs:
            return
        if self._inside and self.media.transport.home is not None and self.media.port:
            self._spawn(self._renew())
        else:
            self._where.tell(MediaLost())

    async def _renew(self) -> None:
        if await self._renewal.run(self._make_again):
            self._where.tell(MediaReplaced())
        elif not self._where.over and not self._renewal.stopped:
            self._where.tell(MediaLost())

    async def _make_again(self) -> bool:
        """External media in the place of one that ended, from the same port to the same slot."""
        self._where.check()
        media, home = self.media, self.media.transport.home
        assert home is not None
        await self._whole.do(media.make(home, self._codec, media.port))
        await self.join()
        return media.state == "up"

    async def remove(self) -> None:
        """Take all of it away that was ever asked for."""
        things: list[tuple[str, dict[str, Any]]] = [
            ("channels.hangup", {"channelId": self.media.id(n)}) for n in range(1, self.media.n + 1)
        ]
        if self._bridge != "none":
            things.append(("bridges.destroy", {"bridgeId": self.id}))
        commands = self._commands
        await asyncio.gather(
            *(commands.persist(commands.removal(what, **thing)) for what, thing in things)
        )
