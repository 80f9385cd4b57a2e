"""Is it an answering machine? Asterisk's AMD() listens, for whom we have called and who answered.

AMD is an application of the dialplan, so the channel goes there for a few seconds, to the context
`ari-bridge-machine` of our fragment, and comes back to our application with what it has found.
Meanwhile it is in nobody's application: its end is told because we subscribe to it. If we die it
can't be moved, nor told anything: then the dialplan brings it to the front door, where whoever has
taken the call over gets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from bridge.errors import PbxGone, PbxRefused
from bridge.pbx.commands import Commands

CONTEXT: Final = "ari-bridge-machine"
EXTENSION: Final = "listen"
MODULE: Final = "app_amd.so"
_APP: Final = "ARI_BRIDGE_APP"
_DOOR: Final = "ARI_BRIDGE_DOOR"
_WITHIN_S: Final = 20.0
"""AMD() itself gives up after `total_analysis_time` of amd.conf, 5 s."""

Found = Literal["yes", "no", "unsure"]
_FOUND: Final[dict[str, Found]] = {"MACHINE": "yes", "HUMAN": "no"}


class Machine:
    """One channel's."""

    def __init__(
        self,
        commands: Commands,
        channel: str,
        arrived: asyncio.Event,
        get: Callable[[str], Awaitable[str | None]],
        door: str,
    ) -> None:
        """Nothing happens before `check`.

        Args:
            commands: how Asterisk is asked.
            channel: whose.
            arrived: set when the channel enters our application, or has ended.
            get: reads one of its variables; raises `PbxGone` if it has ended.
            door: the application that dialplans name.
        """
        self._commands, self._channel = commands, channel
        self._arrived, self._get, self._door = arrived, get, door
        self.listening = False
        """The channel is in the dialplan, and comes back."""
        self.inherited = False
        """A former owner of the call may have let it listen."""

    async def check(self) -> None:
        """Whether Asterisk can. Raises `PbxRefused` with the cure."""
        module = await self._commands.do("asterisk.getModule", moduleName=MODULE, ok=(404, 409))
        if module is None or module.get("status") != "Running":
            raise PbxRefused(f"Asterisk can't tell an answering machine: load {MODULE}")

    async def listen(self, app: str) -> tuple[Found, str]:
        """Whether it is a machine, and by what AMD() has judged.

        Args:
            app: our application.

        Raises:
            PbxGone: he has hung up.
            PbxRefused: the dialplan lacks our fragment, or keeps the channel.
        """
        if self.inherited and (status := await self._get("AMDSTATUS")):
            return await self._found(status)
        commands, channel = self._commands, self._channel
        if await self._get(f"DIALPLAN_EXISTS({CONTEXT},{EXTENSION},1)") != "1":
            raise PbxRefused(
                f"the dialplan has no context {CONTEXT}: take in this version's "
                "ari-bridge-extensions.conf"
            )
        for variable, value in ((_APP, app), (_DOOR, self._door)):
            await commands.do(
                "channels.setChannelVar", channelId=channel, variable=variable, value=value
            )
        await self._subscribe(app)
        self._arrived.clear()
        self.listening = True
        try:
            await commands.do(
                "channels.continueInDialplan",
                channelId=channel,
                context=CONTEXT,
                extension=EXTENSION,
                priority=1,
            )
        except BaseException:
            self.listening = False
            raise
        await self.over()
        return await self._found(await self._get("AMDSTATUS") or "")

    async def inherit(self, app: str) -> bool:
        """Have it come to us when AMD() is done, if that listens for a worker that has died.
        Raises `PbxGone` if he has hung up."""
        commands, channel = self._commands, self._channel
        there = await commands.do("channels.get", channelId=channel)
        if there["dialplan"]["context"] != CONTEXT:
            return False
        self.listening = True
        await self._subscribe(app)
        return True

    async def over(self) -> None:
        """Returns when it is in our application again, or has ended. Raises `PbxRefused`."""
        try:
            async with asyncio.timeout(_WITHIN_S):
                await self._arrived.wait()
        except TimeoutError:
            raise PbxRefused(
                f"the dialplan's {CONTEXT} did not give the call back: take in this version's "
                "ari-bridge-extensions.conf"
            ) from None
        finally:
            self.listening = False

    async def _subscribe(self, app: str) -> None:
        await self._commands.do(
            "applications.subscribe", applicationName=app, eventSource=[f"channel:{self._channel}"]
        )

    async def _found(self, status: str) -> tuple[Found, str]:
        if status == "HANGUP":
            raise PbxGone("he hung up while AMD() listened")
        return _FOUND.get(status, "unsure"), await self._get("AMDCAUSE") or ""
