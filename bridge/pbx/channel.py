"""The caller's channel, as what the dialplan's functions and ARI's questions make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from bridge.errors import PbxGone
from bridge.pbx.commands import Commands
from bridge.pbx.destinations import DIALPLAN_WORD

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


class CallerChannel:
    """One call's."""

    def __init__(self, channel_id: str, commands: Commands, check: Callable[[], None]) -> None:
        """`check` raises `PbxGone` when the call has ended, and nothing is asked any more."""
        self._id = channel_id
        self._commands, self._check = commands, check

    async def do(self, operation: str, ok: tuple[int, ...] = (), **parameters: Any) -> Any:
        """Ask something of it: see `Commands.do`."""
        self._check()
        return await self._commands.do(operation, ok=ok, channelId=self._id, **parameters)

    async def get(self, name: str) -> str | None:
        """A variable or dialplan function's value; None if it has none."""
        try:
            answer = await self.do("channels.getChannelVar", variable=name)
        except PbxGone as gone:
            if "variable was not found" in str(gone):
                return None
            raise
        value = answer["value"]
        return value if isinstance(value, str) else None

    async def put(self, name: str, value: str) -> None:
        """Set a variable, or what a dialplan function sets."""
        await self.do("channels.setChannelVar", variable=name, value=value)

    async def extension_exists(self, extension: str, context: str) -> bool:
        """Whether the dialplan has it, with a priority 1."""
        if not (DIALPLAN_WORD.fullmatch(extension) and DIALPLAN_WORD.fullmatch(context)):
            return False
        return await self.get(f"DIALPLAN_EXISTS({context},{extension},1)") == "1"

    async def go_on(self, extension: str, context: str) -> None:
        """Send it to an extension."""
        await self.do(
            "channels.continueInDialplan", context=context, extension=extension, priority=1
        )

    async def send_dtmf(self, digits: str) -> None:
        """Send keys to the caller's side."""
        # Not twice: keys that were pressed can't be taken back.
        await self.do("channels.sendDTMF", dtmf=digits, again=False)

    async def statistics(self) -> Mapping[str, float]:
        """RTP statistics of the caller's own leg."""
        # 403: not an RTP channel (Local, DAHDI); 404: no RTP yet.
        table = await self.do("channels.rtpstatistics", ok=(403, 404)) or {}
        return {ours: float(table[name]) * by for name, ours, by in _STATISTICS if name in table}
