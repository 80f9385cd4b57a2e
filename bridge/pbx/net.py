"""The net under every call: Asterisk itself ends it if all of us are dead.

`TIMEOUT(absolute)` of the caller's channel is set where the dialplan's own limit is longer or
missing, and given back when the caller leaves us: our net must not cut a call that is not ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from bridge.errors import PbxRefused

log = logging.getLogger(__name__)

NET: Final = "TIMEOUT(absolute)"
NO_RECORD: Final = {"CDR_PROP(disable)": "1"}
"""For channels that are ours and nobody's call: Asterisk writes no call detail record of them."""
# Our dialplan fragment sets NET itself, notes it here, and takes it away again when the call comes
# back to it; a transferred call does not come back.
_DIALPLAN_NET: Final = "ARI_BRIDGE_NET"


class Net:
    """One call's."""

    def __init__(
        self,
        get: Callable[[str], Awaitable[str | None]],
        put: Callable[[str, str], Awaitable[None]],
        limit_s: int,
    ) -> None:
        """Read and set the caller's channel variables by `get` and `put`."""
        self._get, self._put, self._limit_s = get, put, limit_s
        self._before: tuple[float, float] | None = None

    @property
    def before_s(self) -> float | None:
        """The limit that there was before ours, s (0: none); None if ours isn't set."""
        return None if self._before is None else self._before[0]

    def inherit(self, before_s: float) -> None:
        """A former owner of the call has spread it."""
        self._before = (before_s, asyncio.get_running_loop().time())

    async def spread(self, left_s: float | None = None) -> None:
        """Have Asterisk end the call if we can't, but no later than the dialplan would.

        `left_s`: the limit that there is (0: none), if it is known already.
        """
        try:
            if left_s is None:
                left_s = float(await self._get(NET) or 0)
            if 0 < left_s <= self._limit_s:
                return
            self._before = (left_s, asyncio.get_running_loop().time())
            await self._put(NET, str(self._limit_s))
        except PbxRefused as error:
            log.warning("a call has no time limit: load func_timeout.so (%s)", error)

    async def take_away(self) -> None:
        """Give the dialplan its own limit back."""
        if self._before is None:
            return
        (left_s, then), self._before = self._before, None
        if left_s:
            left_s = max(1.0, left_s - (asyncio.get_running_loop().time() - then))
        await self._put(NET, f"{left_s:.3f}" if left_s else "0")

    async def take_dialplans_away(self) -> None:
        """What our dialplan fragment has set; for a call that does not come back to it."""
        if await self._get(_DIALPLAN_NET) not in (None, "", "0"):
            await self._put(NET, "0")
