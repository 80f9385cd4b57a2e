"""A call's external-media channel: the audio between Asterisk and our media process.

    none ─▶ asked ─▶ coming ─▶ up ─▶ ended        asked: its POST is on the way
              ▲                        │          coming: answered, its StasisStart isn't there yet
              └────────────────────────┘          a new one takes the next number

A call may have several in its life, one after the other: Asterisk may end one, and a call that goes
on at another host gets a new one. The old one always goes first: there are never two voices in one
mixing bridge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from bridge.errors import PbxGone, PbxRefused
from bridge.pbx.ari import Dropped
from bridge.pbx.base import Address, Codec
from bridge.pbx.commands import Commands
from bridge.pbx.names import Name, new_token
from bridge.pbx.net import NET, NO_RECORD
from bridge.pbx.settings import AsteriskSettings
from bridge.pbx.transport import Transport


class External:
    """One call's external media."""

    def __init__(
        self,
        commands: Commands,
        settings: AsteriskSettings,
        caller: str,
        home: str,
        check: Callable[[], None],
        transport: Transport,
    ) -> None:
        """Nothing is made yet.

        Args:
            commands: how Asterisk is asked.
            settings: the operator's.
            caller: the caller's channel id.
            home: the application where it lives.
            check: raises `PbxGone` when the call has ended.
            transport: how the audio travels.
        """
        self.transport = transport
        self.port = 0
        """Where its RTP comes from; 0: not known."""
        self._commands, self._settings, self._check = commands, settings, check
        self._caller, self._home = caller, home
        self.token = new_token()
        self.n = 0
        self.state: Literal["none", "asked", "coming", "up", "ended"] = "none"
        self._changed, self._one = asyncio.Event(), asyncio.Lock()

    def id(self, n: int | None = None) -> str:
        """Id of the n-th one, by default of the present one."""
        return str(Name(self._caller, self.token, n or self.n))

    @property
    def made(self) -> bool:
        """Whether there is one now, as far as Asterisk has answered."""
        return self.state in ("coming", "up")

    def wake(self) -> None:
        """Something happened to the call: look again."""
        self._changed.set()

    def started(self, n: int) -> None:
        """The channel's own StasisStart came."""
        if n == self.n and self.state in ("asked", "coming"):
            self.state = "up"
            self._changed.set()

    def ended(self, n: int) -> bool:
        """A channel is gone. Returns whether it was the one that was there."""
        if n != self.n or self.state not in ("asked", "coming", "up"):
            return False
        self.state = "ended"
        self._changed.set()
        return True

    async def make(self, to: Address, codec: Codec, port: int = 0) -> Address:
        """Make one that sends to `to`, in the place of the one that there is.

        `port`: where its RTP is to come from, if that can be chosen; 0: anywhere.

        Returns:
            Where its RTP comes from.
        """
        async with self._one:  # else there'd be two
            await self.remove()
            made = await self._ask(to, codec)
            if self.state == "asked":
                self.state = "coming"
            address = await self.transport.address(made, to, codec, port)
            self.port = address[1]
            return address

    async def _ask(self, to: Address, codec: Codec) -> Any:
        for last in (False, True):
            self.n += 1
            self.state = "asked"
            await self._commands.listened(self._settings.media_timeout_s)
            try:
                return await self._commands.do(
                    "channels.externalMedia",
                    again=False,  # the same id twice is a 500: the next try takes the next id
                    channelId=self.id(),
                    app=self._home,
                    variables={NET: str(self._settings.max_call_s), **NO_RECORD},
                    **self.transport.request(to, codec),
                )
            except Dropped:
                if last:
                    raise
            except PbxRefused as error:
                raise self.transport.refused(error) from None
        raise AssertionError

    async def remove(self) -> None:
        """Hang up the one that there is."""
        if self.state not in ("none", "ended"):
            n = self.n
            self.state = "ended"  # its end is what we want: nobody is told of it
            await self._commands.do("channels.hangup", channelId=self.id(n), ok=(404,))

    def inherit(self, name: Name, port: int = 0) -> None:
        """A former owner of the call made one of this name, whose RTP comes from that port."""
        assert name.n is not None
        self.port = port
        self.token, self.n, self.state = name.token, name.n, "coming"

    async def fetch(self) -> bool:
        """Bring it over to our application. Returns False if it has ended."""
        try:
            await self._commands.do(
                "channels.move", channelId=self.id(), app=self._home, appArgs="resume"
            )
            await self.is_up()
        except (PbxGone, PbxRefused):
            return False
        return True

    async def is_up(self) -> None:
        """Wait until it may be put into a mixing bridge. Raises `PbxRefused`, `PbxGone`."""
        if self.state == "none":
            raise PbxRefused("there is no external media to join: open it first")
        try:
            async with asyncio.timeout(self._settings.media_timeout_s):
                while True:
                    self._check()
                    if self.state in ("up", "ended"):
                        break
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise PbxRefused(
                "Asterisk's external media did not come up within "
                f"{self._settings.media_timeout_s:g} s: see its log"
            ) from None
        if self.state == "ended":
            raise PbxRefused("Asterisk ended the external media: see its log")
