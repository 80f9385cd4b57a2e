"""Who owns which call, brought in line with who is alive: takeover of the dead's calls.

    a worker's socket to media ends ┐            claim each call in    move its channels to us,
    its lease runs out              ├─▶ `dead` ─▶ Redis (one of us  ─▶ and the conversation
    a live call's owner is unknown  ┘            wins)                 goes on

The living share a dead worker's calls out among themselves: each works out the same list from the
same registry and takes its own part at once; what nobody has taken after a grace, anybody takes. It
doesn't matter if two differ about the list, because a claim succeeds only once. Without Redis
nobody takes anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from bridge.errors import BridgeError, PbxGone, StoreUnreachable
from bridge.pbx.base import Incoming, Leg, Pbx
from bridge.recall import Memory
from bridge.sessions.base import Leases, Member, Store
from bridge.sessions.model import Record

log = logging.getLogger(__name__)

GRACE_S = 1.0
"""After so long, a dead worker's call that its heir has not taken is anybody's."""
_AT_ONCE = 16


def takers(members: Iterable[Member], active: int = 0) -> list[Member]:
    """Who takes calls now: the eldest `active` (0: all) of those who live; the rest are spares."""
    able = sorted((m for m in members if m.alive and m.takes), key=lambda m: (m.started, m.name))
    return able[:active] if active else able


def share_out(calls: Collection[str], heirs: Collection[Member]) -> dict[str, str]:
    """An heir for each call, so that loads become even; the same wherever it is worked out."""
    loads = {m.name: m.load for m in heirs}
    shares: dict[str, str] = {}
    for call_id in sorted(calls):
        if not loads:
            break
        heir = min(loads, key=lambda name: (loads[name], name))
        loads[heir] += 1
        shares[call_id] = heir
    return shares


class Reconciler:
    """Takes over what the dead have left."""

    def __init__(
        self,
        leases: Leases,
        store: Store,
        pbx: Pbx,
        begin: Callable[[Leg, Memory | None], None],
        active: int = 0,
    ) -> None:
        """Nothing happens before `dead`.

        Args:
            leases: who is there.
            store: what is remembered.
            pbx: where the callers are.
            begin: given a call that is ours now; without a memory its conversation begins anew.
            active: how many workers take calls; more are spares.
        """
        self._leases, self._store, self._pbx = leases, store, pbx
        self._begin, self._active = begin, active
        self._busy: dict[str, asyncio.Task[None]] = {}

    def dead(self, worker: str) -> None:
        """A worker is known to be dead: take our part of its calls."""
        if worker == self._leases.name or worker in self._busy:
            return
        task = asyncio.create_task(self._inherit(worker), name=f"takeover of {worker}")
        self._busy[worker] = task
        task.add_done_callback(lambda _: self._busy.pop(worker))

    async def unknown(self) -> None:
        """Look for calls whose owner nobody knows: he was buried before all were taken."""
        try:
            owners = set((await self._leases.live()).values())
        except StoreUnreachable:
            return
        for worker in owners - set(self._leases.members):
            self.dead(worker)

    async def close(self) -> None:
        """Begin nothing more."""
        for task in [*self._busy.values()]:
            task.cancel()

    async def _inherit(self, worker: str) -> None:
        try:
            calls = await self._left_by(worker)
            await self._leases.bury(worker)
            if not calls:
                return
            heirs = [m for m in self._leases.members.values() if m.name != worker]
            shares = share_out(calls, takers(heirs, self._active))
            ours = [c for c in calls if shares.get(c, self._leases.name) == self._leases.name]
            log.warning("worker %s is dead: taking %d of its %d", worker, len(ours), len(calls))
            await self._take_all(ours, worker)
            if len(ours) < len(calls):
                await asyncio.sleep(GRACE_S)
                if rest := await self._left_by(worker):
                    log.warning("%d calls of %s are still nobody's: taking them", len(rest), worker)
                    await self._take_all(rest, worker)
        except StoreUnreachable as error:
            log.warning("can't take over the calls of %s now: %s", worker, error)

    async def _left_by(self, worker: str) -> list[str]:
        return sorted(c for c, owner in (await self._leases.live()).items() if owner == worker)

    async def _take_all(self, calls: Collection[str], worker: str) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(call_id: str) -> None:
            async with gate:
                try:
                    await self._take(call_id, worker)
                except BridgeError as error:
                    log.error("call %s could not be taken over: %s", call_id, error)

        await asyncio.gather(*(one(call_id) for call_id in calls))

    async def _take(self, call_id: str, worker: str) -> None:
        record = await self._leases.claim(call_id, worker)
        if record is None:
            return
        lines = await self._store.transcript(call_id)
        self._store.adopt(record, lines)
        try:
            leg = await self._pbx.adopt(incoming_of(record), handles_of(record))
        except PbxGone:
            self._store.put(
                call_id,
                state="ended",
                result="hung-up",
                reason="the caller hung up while his worker was dead",
            )
            return
        self._begin(leg, Memory(record, lines) if record.state == "talking" else None)


def incoming_of(record: Record) -> Incoming:
    """What the PBX had said of a call."""
    return Incoming(
        call_id=record.call_id,
        args=(record.agent,),
        caller_number=record.caller,
        caller_name="",
        dialed=record.dialed,
        language="",
        codec=record.codec,  # type: ignore[arg-type]
        resumed=True,
    )


def handles_of(record: Record) -> Mapping[str, str]:
    """What was made for a call in the PBX."""
    names = ("bridge_id", "media_id", "net_s")
    return {name: value for name in names if (value := getattr(record, name))}
