"""Who owns which call, brought in line with who is alive: takeover of the dead's calls.

    a worker's socket to media ends ┐            claim each call in    move its channels to us,
    its lease or its host's ran out ├─▶ `dead` ─▶ Redis (one of us  ─▶ and the conversation
    a worker says that it leaves    │            wins)                 goes on
    a live call's owner is unknown  ┘

The living share a dead worker's calls out among themselves: each works out the same list from the
same registry and takes its own part at once; what nobody has taken after a grace, anybody takes. It
doesn't matter if two differ about the list, because a claim succeeds only once. Workers of the
dead one's host come first, for its audio flows there. Without Redis nobody takes anything.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from bridge.errors import BridgeError, PbxError, PbxGone, PbxUnreachable, StoreUnreachable
from bridge.pbx.base import Incoming, Leg, Outgoing, Pbx
from bridge.recall import Memory
from bridge.sessions.base import Leases, Member, Store
from bridge.sessions.model import Record

log = logging.getLogger(__name__)

GRACE_S = 0.25
"""After so long, a dead worker's call that its heir has not taken is anybody's: of two who had to
take calls a moment ago, each may think that the other had none."""
RETRY_S, PATIENCE_S = 0.25, 30.0
"""A call whose PBX does not answer is tried again so often, for so long."""
_AT_ONCE = 16


def takers(members: Iterable[Member]) -> list[Member]:
    """Who takes calls now: on each host the eldest, as many as it is to have; others are spares.

    Those whose launcher has died come last: its successor's are there to replace them.
    """
    hosts: dict[str, list[Member]] = defaultdict(list)
    for one in sorted(members, key=lambda m: (not m.kept, m.started, m.name)):
        if one.alive and one.takes:
            hosts[one.place].append(one)
    return [
        one for able in hosts.values() for one in able[: max(m.active for m in able) or len(able)]
    ]


def heirs(worker: str, members: Mapping[str, Member]) -> list[Member]:
    """Who shares a dead worker's calls out: those of his host, else all others."""
    able = takers(m for m in members.values() if m.name != worker)
    place = members[worker].place if worker in members else ""
    return [m for m in able if m.place == place] or able


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


async def _nothing(call_id: str) -> None:
    return None


class Reconciler:
    """Takes over what the dead have left."""

    def __init__(
        self,
        leases: Leases,
        store: Store,
        pbxs: Mapping[str, Pbx],
        begin: Callable[[Leg, Memory | None], None],
        held: Callable[[str], bool],
        over: Callable[[str], Awaitable[None]] = _nothing,
    ) -> None:
        """Nothing happens before `dead`.

        Args:
            leases: who is there.
            store: what is remembered.
            pbxs: where the callers are, by name.
            begin: given a call that is ours now; without a memory its conversation begins anew.
            held: whether a call is under way with us.
            over: told of a call that had ended by the time we came for it.
        """
        self._leases, self._store, self._pbxs = leases, store, pbxs
        self._begin, self._held, self._over = begin, held, over
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._taking: set[str] = set()
        self._strays: Mapping[str, str] = {}
        self._closed = False

    def dead(self, worker: str) -> None:
        """A worker is known to be dead: take our part of its calls."""
        if self._closed or worker == self._leases.name or worker in self._busy:
            return
        task = asyncio.create_task(self._inherit(worker), name=f"takeover of {worker}")
        self._busy[worker] = task
        task.add_done_callback(lambda _: self._busy.pop(worker))

    def stray(self, call_id: str, owner: str) -> None:
        """A caller was found whose owner is dead, or is us and we don't know him: take him."""
        name = f"call {call_id}"
        if self._closed or call_id in self._taking or self._held(call_id) or name in self._busy:
            return
        task = asyncio.create_task(self._take_one(call_id, owner), name=f"takeover of {name}")
        self._busy[name] = task
        task.add_done_callback(lambda _: self._busy.pop(name))

    async def unknown(self) -> None:
        """Look for calls that nobody looks after; what is so twice in a row is taken.

        Their owner was buried before all were taken, or it is us and we don't know them: Redis has
        come back with what it knew some time ago.
        """
        try:
            live = await self._leases.live()
        except StoreUnreachable:
            return
        if self._closed:
            return
        me, members = self._leases.name, self._leases.members
        strays = {
            call_id: owner
            for call_id, owner in live.items()
            if owner not in members
            or (owner == me and not self._held(call_id) and call_id not in self._taking)
        }
        again = {c: owner for c, owner in strays.items() if self._strays.get(c) == owner}
        self._strays = strays
        for worker in set(again.values()) - {me}:
            self.dead(worker)
        if mine := [call_id for call_id, owner in again.items() if owner == me]:
            log.warning("%d calls are said to be ours, and we don't know them", len(mine))
            try:
                await self._take_all(mine, me)
            except StoreUnreachable as error:
                log.warning("can't look after them now: %s", error)

    async def close(self) -> None:
        """Begin nothing more: we are leaving, and whoever leaves with us is others' to inherit."""
        self._closed = True
        for task in [*self._busy.values()]:
            task.cancel()

    async def _take_one(self, call_id: str, owner: str) -> None:
        try:
            live = await self._leases.live()
            if owner == self._leases.name or live.get(call_id) != owner:  # else `dead` finds it
                await self._take_all([call_id], owner)
        except StoreUnreachable as error:
            log.warning("can't look after call %s now: %s", call_id, error)

    async def _inherit(self, worker: str) -> None:
        try:
            await self._leases.beat()  # who is there now, and who has just left as well
            members = dict(self._leases.members)
            calls = await self._left_by(worker)
            await self._leases.bury(worker)
            if not calls:
                return
            shares = share_out(calls, heirs(worker, members))
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
                if call_id in self._taking:
                    return
                self._taking.add(call_id)
                try:
                    await self._take(call_id, worker)
                except BridgeError as error:
                    log.error("call %s could not be taken over: %s", call_id, error)
                finally:
                    self._taking.discard(call_id)

        await asyncio.gather(*(one(call_id) for call_id in calls))

    async def _take(self, call_id: str, worker: str) -> None:
        record = await self._leases.claim(call_id, worker)
        if record is None:
            return
        lines = await self._store.transcript(call_id)
        self._store.adopt(record, lines)
        try:
            leg = await self._fetch(record)
        except PbxGone as error:
            log.info("call %s can't be taken over: %s", call_id, error)
            if record.direction == "out" and record.state != "talking":
                self._lost(call_id, "its worker died before he answered", "failed")
            else:
                self._lost(call_id, "the caller hung up while his worker was dead")
            await self._over(call_id)
        except PbxError as error:
            self._lost(call_id, str(error))
            raise
        else:
            self._begin(leg, Memory(record, lines) if record.state == "talking" else None)

    async def _fetch(self, record: Record) -> Leg:
        pbx = self._pbxs.get(record.pbx)
        if pbx is None:
            raise PbxUnreachable(f"no [[asterisk]] of this worker is named '{record.pbx}'")
        near = record.place in ("", self._leases.place)  # the last version notes none
        near = near and record.state == "talking"  # else he is set up anew
        until = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            try:
                return await pbx.adopt(incoming_of(record), handles_of(record), near=near)
            except PbxUnreachable as error:
                if asyncio.get_running_loop().time() > until:
                    raise
                log.warning("call %s: %s; trying again", record.call_id, error)
            await asyncio.sleep(RETRY_S)

    def _lost(self, call_id: str, why: str, result: str = "hung-up") -> None:
        self._store.put(call_id, state="ended", result=result, reason=why)


def incoming_of(record: Record) -> Incoming:
    """What the PBX had said of a call."""
    return Incoming(
        call_id=record.call_id,
        args=(record.agent, *json.loads(record.variables or "[]")),
        caller_number=record.caller,
        caller_name="",
        dialed=record.dialed,
        language="",
        codec=record.codec,  # type: ignore[arg-type]
        resumed=True,
        pbx=record.pbx,
        outgoing=Outgoing(**json.loads(record.order)) if record.order else None,
    )


def handles_of(record: Record) -> Mapping[str, str]:
    """What was made for a call in the PBX."""
    names = ("bridge_id", "media_id", "media_port", "joined", "net_s", "callee", "callee_id")
    handles = {name: value for name in names if (value := getattr(record, name))}
    if record.state == "talking":  # the last version doesn't say that he was joined
        handles["joined"] = "1"
    return handles
