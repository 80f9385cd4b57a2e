"""How somebody is called: a channel of ours rings until he answers, or doesn't.

    made ─▶ in our application ─▶ rings ─▶ answered
                                    ├─▶ busy, congestion   (told by Dial; the channel still lives)
                                    └─▶ ended: why says its cause (Q.850)

Because it is in our application from the start, a channel that rings is taken over like any other
call when its worker dies: `move` works, and what comes of the ringing is told there (tried on
Asterisk 22.10). Asterisk itself ends it after `Outgoing.ring_s`, also when nobody is left to.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from bridge.errors import PbxGone, PbxNotAnswered, PbxRefused
from bridge.pbx.base import Outgoing
from bridge.pbx.commands import Commands
from bridge.pbx.destinations import why
from bridge.pbx.net import NET
from bridge.pbx.settings import AsteriskSettings

# Of Q.850's causes; all others: nobody can be reached there.
_RESULTS: Final = {
    17: "busy",
    **dict.fromkeys((18, 19, 26), "no-answer"),  # 26: answered elsewhere
    **dict.fromkeys((34, 38, 41, 42, 44, 58), "congestion"),
}
_NO_ANSWER: Final = 19
CAUSE_S: Final = 0.3
"""The cause of a channel's end comes a moment after its end, if it comes at all."""
_LATE_S: Final = 10.0
"""So long after Asterisk should have ended the ringing, we do."""


class Dialing:
    """One channel's."""

    def __init__(
        self,
        commands: Commands,
        settings: AsteriskSettings,
        channel: str,
        arrived: asyncio.Event,
    ) -> None:
        """Nothing happens before `make`.

        Args:
            commands: how Asterisk is asked.
            settings: the operator's.
            channel: the id that the channel has, or gets.
            arrived: set when the channel is in our application.
        """
        self._commands, self._settings = commands, settings
        self._channel, self._arrived = channel, arrived
        self._told: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.state: Literal["none", "asked", "made"] = "none"
        """Whether Asterisk was asked for the channel, and has made it."""

    @property
    def open(self) -> bool:
        """Whether it is not known yet what comes of it."""
        return not self._told.done()

    # What Asterisk tells: never waits.

    def answered(self) -> None:
        """He has answered."""
        if not self._told.done():
            self._told.set_result(None)

    def failed(self, cause: int) -> None:
        """He won't answer, or the channel is no more."""
        if not self._told.done():
            self._told.set_result(cause)

    def over(self) -> None:
        """The channel has left us, and nobody has told why."""
        self.failed(_NO_ANSWER)

    # What we do.

    async def make(self, out: Outgoing, app: str, args: str) -> None:
        """Make the channel, which is silent yet. Raises `PbxNotAnswered`."""
        variables = {**out.variables, NET: str(self._settings.max_call_s)}
        if out.caller_id:
            # What is shown is the far side's connected line; what the PBX logs, our caller id.
            variables |= {
                "CALLERID(num)": out.caller_id,
                "CONNECTEDLINE(num,i)": out.caller_id,
                "CONNECTEDLINE(pres)": "allowed",
            }
        await self._commands.listened(self._settings.media_timeout_s)
        self.state = "asked"
        try:
            await self._commands.do(
                "channels.create",
                ok=(409,),  # it was made by a try whose answer was lost
                channelId=self._channel,
                otherChannelId=f"{self._channel}-2",  # of a Local channel
                endpoint=out.endpoint,
                app=app,
                appArgs=args,
                variables=variables,
            )
        except PbxRefused as error:
            raise PbxNotAnswered(
                "unavailable", f"{error}: is there such an endpoint, and is it registered?"
            ) from error
        self.state = "made"

    async def ring(self, ring_s: int) -> None:
        """Let it ring, and return when it is answered. Raises `PbxNotAnswered`, `PbxGone`."""
        within_s = ring_s + _LATE_S
        try:
            async with asyncio.timeout(self._settings.media_timeout_s):
                await self._arrived.wait()
            # 409: it rings or is answered already, or has ended.
            await self._commands.do(
                "channels.dial", ok=(409, 412), channelId=self._channel, timeout=ring_s
            )
            await self.look()
            async with asyncio.timeout(within_s):
                cause = await asyncio.shield(self._told)
        except TimeoutError:
            cause = _NO_ANSWER
        except PbxGone:  # the channel has just ended, and why may follow
            cause = await self._why()
        if self._commands.forgotten:
            raise PbxGone("another worker owns the call")
        if cause is not None:
            raise PbxNotAnswered(_RESULTS.get(cause, "unavailable"), why(cause))

    async def look(self) -> None:
        """Whether it was answered while nobody told us."""
        if self._told.done():
            return
        found = await self._commands.do("channels.get", channelId=self._channel)
        if found.get("state") == "Up":
            self.answered()

    async def _why(self) -> int | None:
        try:
            async with asyncio.timeout(CAUSE_S):
                return await asyncio.shield(self._told)
        except TimeoutError:
            return 0
