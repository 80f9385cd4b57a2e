"""A worker's calls, and whether they are still its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bridge import logs
from bridge.agent import Agent
from bridge.call import Call
from bridge.ears import Ears
from bridge.engines.base import Engine
from bridge.errors import BridgeError, StoreUnreachable
from bridge.media.base import Media
from bridge.pbx.base import Leg
from bridge.recall import Memory
from bridge.sessions.base import Leases, Store
from bridge.tools import Outcome

log = logging.getLogger(__name__)


class Calls:
    """Every call of this worker, from `begin` to its end; the `Owner` that the PBX asks."""

    def __init__(
        self,
        leases: Leases,
        media: Media,
        store: Store,
        mind: Callable[[str], Awaitable[tuple[Agent, Engine]]],
        ears: Ears | None = None,
    ) -> None:
        """No calls yet; `mind` gives the agent of a name and an engine for it, `ears` tell voices
        from noises."""
        self._ears = ears
        self._leases, self._media, self._store, self._mind = leases, media, store, mind
        self._calls: dict[str, tuple[Call, asyncio.Task[None]]] = {}
        self.ended = 0
        """Calls that are over; a worker sets it back."""

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call_id: object) -> bool:
        return call_id in self._calls

    def get(self, call_id: str) -> Call | None:
        """The call of that id, if it is ours."""
        found = self._calls.get(call_id)
        return found[0] if found is not None else None

    def begin(self, leg: Leg, memory: Memory | None) -> None:
        """A call is ours; with a memory, its conversation goes on."""
        call = Call(
            *(leg, self._media, self._store, self._mind),
            worker=self._leases.name,
            memory=memory,
            ears=self._ears,
        )
        task = asyncio.create_task(self._hold(call), name=f"call {call.id}")
        self._calls[call.id] = (call, task)

    async def _hold(self, call: Call) -> None:
        logs.call_id.set(call.id)
        try:
            await call.run()
        except BridgeError as error:  # what it gives back at its end, to whom is not there
            log.warning("%s", error)
        finally:
            if call.id in self._calls and self._calls[call.id][0] is call:
                del self._calls[call.id]
            self.ended += 1

    def note(self, part: int = 0, parts: int = 1) -> None:
        """Write down how far each conversation has got, of one part of the calls."""
        for call, _ in [*self._calls.values()]:
            if call.number % parts == part:
                call.note()

    # Whose is it? ---------------------------------------------------------------------------------

    async def sure(self) -> None:
        """See `bridge.pbx.base.Owner`."""
        await self._leases.sure()

    async def mine(self, call_id: str) -> bool:
        """See `bridge.pbx.base.Owner`."""
        await self._leases.sure()
        try:
            owners = await self._leases.owners([call_id])
        except StoreUnreachable:
            return True  # nobody takes a call over without Redis
        return owners.get(call_id, self._leases.name) == self._leases.name

    async def make_sure(self) -> None:
        """Which calls are still ours? Raises `StoreUnreachable`."""
        ours = list(self._calls)
        owners = await self._leases.owners(ours) if ours else {}
        for call_id in ours:
            if owners.get(call_id, self._leases.name) != self._leases.name:
                self.lost(call_id)

    def lost(self, call_id: str) -> None:
        """A call is another worker's now."""
        if call_id in self._calls:
            log.warning("call %s is another worker's now: letting it go", call_id)
            self._calls[call_id][0].let_go()

    def let_go(self) -> None:
        """Leave all calls to others, untouched."""
        for call, _ in [*self._calls.values()]:
            call.let_go()

    # The end --------------------------------------------------------------------------------------

    async def wait(self, timeout_s: float) -> None:
        """Wait for them to end."""
        if self._calls:
            await asyncio.wait(self._running(), timeout=timeout_s)

    async def end(self, outcome: Outcome, within_s: float) -> None:
        """End all that are left."""
        running = self._running()
        for call, _ in self._calls.values():
            call.end(outcome)
        if running:
            _, late = await asyncio.wait(running, timeout=within_s)
            for task in late:
                log.error("%s did not end within %.0f s", task.get_name(), within_s)

    def _running(self) -> set[asyncio.Task[None]]:
        return {task for _, task in self._calls.values()}
