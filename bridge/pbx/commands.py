"""What is asked of Asterisk for one call: the gate through which all of it goes.

Once the call is another worker's, nothing goes through any more. What must be undone is asked for
again and again while Asterisk is away, for a bounded time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from bridge.errors import PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx.ari import Ari
from bridge.pbx.backoff import Backoff
from bridge.pbx.base import Owner
from bridge.pbx.events import channel
from bridge.pbx.settings import AsteriskSettings

log = logging.getLogger(__name__)


class Commands:
    """One call's."""

    def __init__(
        self, ari: Ari, settings: AsteriskSettings, call_id: str, owner: Owner | None
    ) -> None:
        """`owner` says whether the call is still ours; None: it always is."""
        self._ari, self._settings, self._call_id = ari, settings, call_id
        self._owner = owner
        self.forgotten = False
        """The call is another worker's."""

    async def do(self, operation: str, **parameters: Any) -> Any:
        """See `Ari.call`. Raises `PbxGone` as well if the call is another worker's."""
        if self._owner is not None:
            await self._owner.sure()
        if self.forgotten:
            raise PbxGone("another worker owns the call")
        return await self._ari.call(operation, **parameters)

    async def listened(self, within_s: float) -> None:
        """Wait until our application's events flow, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._ari.listened.wait()

    async def still_ours(self, channel_id: str, *, moved: bool) -> bool:
        """Whether what was made for a call that seems to be over is ours to take away.

        Args:
            channel_id: the caller's.
            moved: he left our application though nobody hung up and we did not ask for it. He may
                be in Stasis() all the same: then another worker has moved him, whatever Redis
                says (it may be away for us alone).
        """
        if self.forgotten or self._owner is None:
            return not self.forgotten
        if not await self._owner.mine(self._call_id):
            return False
        if moved:
            try:
                found = await self._ari.call("channels.get", channelId=channel_id, ok=(404,))
            except (PbxGone, PbxRefused, PbxUnreachable):
                return True
            if found is not None:
                where = channel(found)
                app = where.application_data.partition(",")[0]
                return not (where.application == "Stasis" and app == self._settings.app)
        return True

    def removal(self, operation: str, **thing: Any) -> Callable[[], Awaitable[None]]:
        """Taking a thing away, for `persist`; it may be gone already."""
        return lambda: self.do(operation, ok=(404,), **thing)

    async def persist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, again and again while Asterisk does not answer; what is left then is swept."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._settings.release_timeout_s
        backoff = Backoff(self._settings.reconnect_first_s, self._settings.reconnect_most_s)
        while True:
            try:
                return await work()
            except PbxGone:
                return None
            except PbxRefused as error:
                log.warning("call %s: %s", self._call_id, error)
                return None
            except PbxUnreachable as error:
                wait_s = backoff.next_s()
                if clock() + wait_s > until:
                    log.warning(
                        "call %s: what we made for it stays until Asterisk is back: %s",
                        *(self._call_id, error),
                    )
                    return None
                await asyncio.sleep(wait_s)


async def do_all(*work: Awaitable[Any]) -> list[Any]:
    """Do all at once and wait for all; raise the first error, none of them half done."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)
