"""External media that ends by itself where a WebSocket carries it: the call gets another.

The relay has died, or the connection. The next one's RTP comes from where the last one's came from,
so the media process notices nothing but a pause, and the call goes on with its slot.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

from bridge.errors import PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx.backoff import Backoff
from bridge.pbx.settings import AsteriskSettings

log = logging.getLogger(__name__)

TRIED_S: Final = 10.0
"""So long it is tried."""
_SAME_LOSS_S: Final = 2.0
"""One that ends again so soon is the same loss: its time goes on."""


class Renewal:
    """One call's."""

    def __init__(
        self,
        settings: AsteriskSettings,
        call_id: str,
        over: Callable[[], bool],
    ) -> None:
        """Nothing happens before `run`.

        Args:
            settings: the operator's.
            call_id: for the log.
            over: whether the call is.
        """
        self.runs = False
        """It is being tried."""
        self.stopped = False
        """Somebody else makes one."""
        self._settings, self._call_id, self._over = settings, call_id, over
        self._until = self._renewed_at = -math.inf

    def stop(self) -> None:
        """Leave it to somebody else."""
        self.stopped = True

    async def run(self, make: Callable[[], Awaitable[bool]]) -> bool:
        """Try until there is another. False: there won't be by us.

        `make` makes it; returns whether it is there, or raises a `PbxError`.
        """
        clock = asyncio.get_running_loop().time
        if clock() - self._renewed_at > _SAME_LOSS_S:
            self._until = clock() + TRIED_S
        log.warning("call %s: its audio connection ended; making another", self._call_id)
        backoff = Backoff(self._settings.reconnect_first_s, self._settings.reconnect_most_s)
        self.runs, self.stopped = True, False
        try:
            while not (self._over() or self.stopped):
                try:
                    if await make():
                        self._renewed_at = clock()
                        return True
                except PbxGone:
                    pass  # the channel that was made; or the caller, and then it is over
                except (PbxRefused, PbxUnreachable) as error:
                    log.warning("call %s: %s", self._call_id, error)
                wait_s = backoff.next_s()
                if clock() + wait_s > self._until:
                    return False
                await asyncio.sleep(wait_s)
            return False
        finally:
            self.runs = False
