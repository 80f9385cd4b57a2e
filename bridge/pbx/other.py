"""Somebody whom we ring for a caller: the other channel of a transfer.

    "" ─▶ ringing ─▶ answered ─▶ given        given: the caller's own now, we let go of him
             └──────────┴──────▶ ""           ended, or hung up by us; the next one is n + 1

He is originated into our own application, so nothing of the dialplan's runs on his channel, and he
is in nobody's mixing bridge until we put him into one. Asterisk itself ends his ringing a little
after `ring_s`, and his channel after `max_call_s`, in case we die. An application that nobody
listens to takes nobody: if he answers while we are dead, Asterisk hangs up on him.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal

from bridge.errors import PbxGone, PbxRefused
from bridge.pbx.base import Callee
from bridge.pbx.commands import Commands
from bridge.pbx.destinations import endpoint_of, why
from bridge.pbx.names import Name
from bridge.pbx.net import NET, NO_RECORD
from bridge.pbx.settings import AsteriskSettings

_LONGER_S = 5
"""Than we let ring, Asterisk would."""


class Other:
    """One call's."""

    def __init__(
        self,
        commands: Commands,
        settings: AsteriskSettings,
        caller: str,
        home: str,
        token: Callable[[], str],
        check: Callable[[], None],
        whole: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]],
    ) -> None:
        """Nobody is rung yet.

        Args:
            commands: how Asterisk is asked.
            settings: the operator's.
            caller: the caller's channel id.
            home: our application.
            token: of the call's leg.
            check: raises `PbxGone` when the call has ended.
            whole: carries work out to its end, also if it isn't waited for any more.
        """
        self._whole = whole
        self._commands, self._settings, self._check = commands, settings, check
        self._caller, self._home, self._token = caller, home, token
        self.n = 0
        self.state: Literal["", "ringing", "answered", "given"] = ""
        self.name = ""
        """Asterisk's name of his channel, once he has answered."""
        self._to, self._cause = "", 0
        self._changed = asyncio.Event()

    def id(self, kind: str = "t") -> str:
        """Of his channel."""
        return str(Name(self._caller, self._token(), self.n, kind))

    @property
    def is_there(self) -> bool:
        """Whether he has a channel that is ours."""
        return self.state in ("ringing", "answered")

    def wake(self) -> None:
        """Something happened to the call: look again."""
        self._changed.set()

    def started(self, n: int, name: str) -> None:
        """He has answered: his channel is in our application."""
        if n == self.n and self.is_there:
            self.state, self.name = "answered", name
            self._changed.set()

    def ended(self, n: int, cause: int = 0) -> bool:
        """His channel is gone. Returns whether he had answered."""
        if n != self.n or not self.is_there:
            return False
        answered, self.state = self.state == "answered", ""
        if cause not in (0, 16) or not self._cause:  # else Dial()'s word says more
            self._cause = cause
        self._changed.set()
        return answered

    def failed(self, cause: int) -> None:
        """He won't answer."""
        if self.state == "ringing":
            self._cause = cause

    def plan(self) -> None:
        """The next number, so that it is known before it is used."""
        self.n += 1
        self.state, self._cause = "ringing", 0

    async def ring(self, callee: Callee, caller_id: str) -> None:
        """Ring him, and wait until he has answered. Raises `PbxRefused` with why he hasn't."""
        endpoint = endpoint_of(callee.to, callee.context, callee.via)
        self._to = callee.to
        await self._commands.listened(self._settings.media_timeout_s)
        self._check()
        making = self._commands.do(
            "channels.originateWithId",
            again=False,
            channelId=self.id(),
            otherChannelId=self.id("f"),
            endpoint=endpoint,
            app=self._home,
            appArgs="callee",
            callerId=caller_id,
            originator=self._caller,
            timeout=int(callee.ring_s) + _LONGER_S,
            variables={NET: str(self._settings.max_call_s), **NO_RECORD},
        )
        try:
            await self._whole(making)
        except PbxRefused as error:
            self.state = ""
            if "with 500" not in str(error):
                raise
            raise PbxRefused(
                "not reachable: its phone is not registered, or Asterisk has no such endpoint "
                f"({endpoint.partition('/sip')[0]})"
            ) from None
        try:
            async with asyncio.timeout(callee.ring_s):
                await self.is_up()
        except TimeoutError:
            await self.remove()
            raise PbxRefused(f"nobody answered within {callee.ring_s:g} s") from None

    async def is_up(self) -> None:
        """Wait until he has answered. Raises `PbxRefused` with why he hasn't."""
        while self.state != "answered":
            self._check()
            if self.state != "ringing":
                raise PbxRefused(why(self._cause, self._to))
            self._changed.clear()
            await self._changed.wait()

    async def remove(self) -> None:
        """Hang up on him."""
        if self.is_there:
            self.state = ""
            self._changed.set()
            await self._commands.do("channels.hangup", channelId=self.id(), ok=(404,))

    def inherit(self, name: Name, state: str) -> None:
        """A former owner of the call has rung him."""
        assert name.n is not None
        self.n = name.n
        self.state = "answered" if state == "answered" else "ringing"

    async def fetch(self) -> bool:
        """Bring him, who has answered, over to our application. Returns False if he is gone."""
        self.state = "ringing"  # until he arrives
        try:
            await self._commands.do(
                "channels.move", channelId=self.id(), app=self._home, appArgs="resume"
            )
            async with asyncio.timeout(self._settings.move_timeout_s):
                await self.is_up()
        except (PbxGone, PbxRefused, TimeoutError):
            return False
        return True
