"""Somebody listens to a call: what both sides say, as RTP to wherever he is.

    caller's channel ─▶ snoop channel (-s<n>) ─┐
                                               ├─ a mixing bridge of their own (-b<n>)
         RTP to him ◀── external media (-l<n>) ┘

Neither side hears anything of it. The snoop channel ends with the caller's; the rest is taken away
with the call, when he doesn't say any more that he listens (he may have died), or swept like all
that bears a call's name when its worker has died.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from bridge.errors import PbxError, PbxGone, PbxRefused
from bridge.pbx.base import Address
from bridge.pbx.commands import Commands, do_all
from bridge.pbx.names import Name, new_token
from bridge.pbx.net import NET
from bridge.pbx.settings import AsteriskSettings
from bridge.pbx.transport import Transport

LEASE_S = 30.0
"""Who doesn't say for so long that he still listens, listens no more."""
_MOST = 5
_BOTH = frozenset(("s", "l"))
"""What has to come up."""


class Spies:
    """One call's."""

    def __init__(
        self,
        commands: Commands,
        settings: AsteriskSettings,
        caller: str,
        home: str,
        transport: Transport,
    ) -> None:
        """Nobody listens yet.

        Args:
            commands: how Asterisk is asked.
            settings: the operator's.
            caller: the caller's channel id.
            home: our application.
            transport: how the audio travels.
        """
        self._transport = transport
        self._commands, self._settings = commands, settings
        self._caller, self._home = caller, home
        self.token = new_token()
        """In the names of what is made here: with a call, nobody takes over who listens."""
        self._last = 0
        self._open: dict[int, set[str]] = {}
        """Kinds of channels that have come up, of each."""
        self._leases: dict[int, asyncio.Task[None]] = {}
        """End those who don't say any more that they listen."""
        self._changed = asyncio.Event()

    def started(self, kind: str, n: int) -> None:
        """A channel is in our application."""
        if n in self._open:
            self._open[n].add(kind)
            self._changed.set()

    async def open(self, to: Address) -> tuple[int, Address]:
        """Have all that is said sent to `to`, as PCMU.

        Returns:
            A number to `close` it by, and where its RTP comes from.

        Raises:
            PbxRefused: too many listen, or it didn't come up.
            PbxGone: the call has ended.
        """
        if len(self._open) >= _MOST:
            raise PbxRefused(f"{_MOST} listen to this call already")
        self._last += 1
        n = self._last
        self._open[n] = set()
        try:
            address = await self._make(n, to)
            self.renew(n)
            return n, address
        except BaseException:
            # Also if the call has ended meanwhile: what was asked for may have come up since.
            self._open.setdefault(n, set())
            await asyncio.shield(self.close(n))
            raise

    async def _make(self, n: int, to: Address) -> Address:
        commands = self._commands
        _, address, _ = await do_all(
            commands.do(
                "channels.snoopChannelWithId",
                channelId=self._caller,
                snoopId=self._id(n, "s"),
                spy="both",
                app=self._home,
            ),
            self._external(n, to),
            commands.do(
                "bridges.createWithId",
                bridgeId=self._id(n, "b"),
                name=self._id(n, "b"),
                type="mixing",
                ok=(409,),
            ),
        )
        try:
            async with asyncio.timeout(self._settings.media_timeout_s):
                while self._open.get(n, _BOTH) < _BOTH:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise PbxRefused("Asterisk's snoop channel did not come up: see its log") from None
        if n not in self._open:
            raise PbxGone("the call has ended")
        who = [self._id(n, "s"), self._id(n, "l")]
        await commands.do("bridges.addChannel", bridgeId=self._id(n, "b"), channel=who)
        return address  # type: ignore[no-any-return]

    async def _external(self, n: int, to: Address) -> Address:
        try:
            made = await self._commands.do(
                "channels.externalMedia",
                again=False,
                channelId=self._id(n, "l"),
                app=self._home,
                variables={NET: str(self._settings.max_call_s)},
                **self._transport.request(to, "PCMU"),
            )
        except PbxRefused as error:
            raise self._transport.refused(error) from None
        return await self._transport.address(made, to, "PCMU")

    def renew(self, n: int) -> None:
        """He listens on. Raises `PbxGone` if he doesn't."""
        if n not in self._open:
            raise PbxGone(f"nobody listens any more as number {n}")
        if n in self._leases:
            self._leases[n].cancel()
        self._leases[n] = asyncio.create_task(self._expire(n), name="listener")

    async def _expire(self, n: int) -> None:
        await asyncio.sleep(LEASE_S)
        del self._leases[n]  # so that `close` doesn't end us
        await self.close(n)

    async def close(self, n: int) -> None:
        """He listens no more; nothing happens if he didn't."""
        if self._open.pop(n, None) is None:
            return
        self._changed.set()
        if n in self._leases:
            self._leases.pop(n).cancel()
        for kind in ("s", "l"):
            with suppress(PbxError):  # what is left is swept
                await self._commands.do("channels.hangup", channelId=self._id(n, kind), ok=(404,))
        with suppress(PbxError):
            await self._commands.do("bridges.destroy", bridgeId=self._id(n, "b"), ok=(404,))

    async def close_all(self) -> None:
        """Nobody listens any more."""
        await asyncio.gather(*(self.close(n) for n in [*self._open]))

    def _id(self, n: int, kind: str) -> str:
        return str(Name(self._caller, self.token, n, kind))
