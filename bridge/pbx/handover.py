"""A caller set aside, and whom we rang for him, until the two are together or he is back.

    ring ───────▶ the caller out of the mixing bridge, ringing or music for him; originate the other
    talk ───────▶ the other into the mixing bridge
    connect ────▶ the caller goes on in the dialplan with Bridge(the other's channel): both leave us
    take_back ──▶ DELETE the other; the caller into the mixing bridge

The dialplan's `ari-bridge-join` does the Bridge(): a mixing bridge of Asterisk's own, which needs
none of us. The other's channel is in Stasis() until then; in between it is in nobody's bridge for
some milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from bridge.errors import PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx.base import Callee, CalleeState
from bridge.pbx.commands import Commands, do_all
from bridge.pbx.destinations import QUEUES, no_queue, place_of
from bridge.pbx.names import Name, parse_name
from bridge.pbx.net import NET, Net
from bridge.pbx.other import Other

_TAKEN_S: Final = (0.0, 0.02, 0.1, 0.3, 0.6)
"""When it is looked whether the dialplan has put them together; usual: after 3 ms."""
JOIN: Final = "s", "ari-bridge-join"
_PEER: Final = "ARI_BRIDGE_PEER"
"""Where the dialplan puts two together, and the variable that names the other."""


class Handover:
    """One call's."""

    def __init__(
        self,
        commands: Commands,
        net: Net,
        other: Other,
        channel: str,
        bridge_id: Callable[[], str],
        exists: Callable[[str, str], Awaitable[bool]],
        get: Callable[[str], Awaitable[str | None]],
        put: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """Nobody is rung yet.

        Args:
            commands: how Asterisk is asked.
            net: the caller's time limit.
            other: whom we ring.
            channel: the caller's.
            bridge_id: of our mixing bridge.
            exists: whether the dialplan has an extension in a context.
            get: reads a variable of the caller's, or a dialplan function.
            put: sets a variable of the caller's.
        """
        self.other = other
        self._commands, self._net, self._channel = commands, net, channel
        self._bridge_id, self._exists, self._get, self._put = bridge_id, exists, get, put
        self._aside = ""  # what the caller hears instead: `ring`, `moh`, `any`; "": he isn't

    @property
    def state(self) -> CalleeState:
        """Whether somebody was rung, or the caller is still set aside for it."""
        if self.other.state == "answered":
            return "answered"
        return "ringing" if self._aside or self.other.is_there else ""

    @property
    def handles(self) -> Mapping[str, str]:
        """What an heir has to know."""
        return {
            "callee": self.state,
            "callee_id": self.other.id() if self.other.is_there else "",
        }

    def inherit(self, handles: Mapping[str, str]) -> Name | None:
        """A former owner of the call has begun it; returns the name of whom it rang."""
        state = handles.get("callee", "")
        if state:
            self._aside = "any"
        name = parse_name(handles.get("callee_id", ""))
        if name is None or name.n is None:
            return None
        self.other.inherit(name, state)
        return name

    async def fetch(self) -> bool:
        """Bring over whom it had rung, if he has answered. Returns False if he is gone."""
        if self.other.state != "answered" or await self.other.fetch():
            return True
        self.other.state = ""
        return False

    async def ring(
        self, callee: Callee, caller_id: str, noted: Callable[[], Awaitable[None]]
    ) -> None:
        """See `Leg.ring`."""
        place = place_of(callee.to, callee.context)
        if place is not None and not await self._exists(*place):
            raise PbxRefused(
                f"the dialplan has no extension '{place[0]}' in context '{place[1]}': write it "
                "there, or take it out of the agent's [transfer]"
            )
        if place is not None and place[1] == QUEUES and not await self._has_queue(place[0]):
            raise PbxRefused(no_queue(place[0]))
        await self._can_join()
        await self.other.remove()
        self.other.plan()
        await noted()
        if not self._aside:
            await self._set_aside(callee.music)
        await self.other.ring(callee, caller_id)
        await noted()

    async def talk(self) -> None:
        """See `Leg.talk`."""
        self._is_there()
        try:
            await self._add(self.other.id())
        except PbxGone:
            await self._look_for_him()
            raise

    async def connect(self, go_on: Callable[[str, str], Awaitable[None]]) -> None:
        """See `Leg.connect`; `go_on` lets the caller go on at an extension of a context."""
        self._is_there()
        await self._can_join()
        other = self.other.id()
        try:
            await do_all(
                self.silence(),
                self._net.take_away(),
                self._put(_PEER, self.other.name),
                self._commands.do(
                    "channels.setChannelVar", channelId=other, variable=NET, value="0"
                ),
            )
        except PbxGone:
            await self._look_for_him()
            raise
        await self._net.take_dialplans_away()
        self.other.state = "given"
        try:
            await go_on(*JOIN)
        except BaseException:
            self.other.state = "answered"
            raise

    async def take_back(self) -> None:
        """See `Leg.take_back`."""
        await self.other.remove()
        if self._aside:
            await self.silence()
            await self._add(self._channel)
            self._aside = ""
            if self._net.before_s is None:  # it was given back to the dialplan, or never ours
                await self._net.spread()

    async def silence(self) -> None:
        """End what the caller hears while he is set aside; a former owner may have begun it."""
        if self._aside in ("ring", "any"):
            await self._commands.do("channels.ringStop", channelId=self._channel, ok=(412,))
        if self._aside in ("moh", "any"):
            await self._commands.do("channels.stopMoh", channelId=self._channel, ok=(412,))

    async def left_over(self) -> list[str]:
        """Channels of his to be hung up at the call's end."""
        if self.other.is_there:
            return [] if await self._is_given() else [self.other.id()]
        if self.other.state != "given":
            return []
        # The caller may have hung up on his way, and then nobody takes him.
        for wait_s in _TAKEN_S:
            await asyncio.sleep(wait_s)
            if await self._is_given():
                return []
        return [self.other.id()]

    async def _is_given(self) -> bool:
        """Whether he talks to the caller already: a former owner may have had no time to note
        that."""
        try:
            bridges = await self._commands.do("bridges.list")
        except (PbxGone, PbxRefused, PbxUnreachable):
            return True  # then he is swept, if it isn't so
        other = self.other.id()
        return any(other in b["channels"] and b["bridge_class"] != "stasis" for b in bridges)

    def _is_there(self) -> None:
        if self.other.state != "answered":
            raise PbxRefused("hung up meanwhile")

    async def _look_for_him(self) -> None:
        """Something is gone: raise `PbxRefused` if it is he, and not the caller."""
        if await self._commands.do("channels.get", channelId=self.other.id(), ok=(404,)) is None:
            self.other.state = ""
            raise PbxRefused("hung up meanwhile")

    async def _has_queue(self, name: str) -> bool:
        try:
            return await self._get(f"QUEUE_EXISTS({name})") == "1"
        except PbxRefused:  # without app_queue there is no such function
            return False

    async def _can_join(self) -> None:
        if not await self._exists(*JOIN):
            raise PbxRefused(
                f"the dialplan has no context '{JOIN[1]}', in which two are put together: take "
                "the present ari-bridge-extensions.conf in, and reload the dialplan"
            )

    async def _set_aside(self, music: str) -> None:
        # 409, 422: he isn't in it any more
        await self._commands.do(
            "bridges.removeChannel",
            bridgeId=self._bridge_id(),
            channel=self._channel,
            ok=(409, 422),
        )
        self._aside = "moh" if music else "ring"
        if music:
            await self._commands.do("channels.startMoh", channelId=self._channel, mohClass=music)
        else:
            await self._commands.do("channels.ring", channelId=self._channel)

    async def _add(self, channel: str) -> None:
        await self._commands.do("bridges.addChannel", bridgeId=self._bridge_id(), channel=channel)
