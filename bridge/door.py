"""The front door: whose a new caller becomes.

One worker at a time holds it, at every PBX. It gives each caller to the least-loaded worker; whom
it keeps itself is not moved at all. A caller whom nobody expected (found when the door opens, or
arriving out of turn) is sent home to his living owner, or his owner's calls are taken over.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from bridge.callrate import CallRate
from bridge.callrecord import about
from bridge.calls import Calls
from bridge.errors import BridgeError, PbxGone, StoreUnreachable
from bridge.pbx.base import Leg, Pbx
from bridge.reconcile import Reconciler, takers
from bridge.sessions.base import Leases, Store

log = logging.getLogger(__name__)

_NOTED_S = 1.0
_STALE_S = 5.0
"""So long after we were held up, news may be older than that."""
_AGAIN = {"ARI_BRIDGE_RESULT": "again", "ARI_BRIDGE_REASON": "the bridge is stopping"}
_TOO_MANY = {
    "ARI_BRIDGE_RESULT": "failed",
    "ARI_BRIDGE_REASON": "too many calls of this number in a minute",
}
_NO_STORE = {"ARI_BRIDGE_RESULT": "failed", "ARI_BRIDGE_REASON": "the session store is away"}


class Door:
    """Takes new callers in."""

    def __init__(
        self,
        leases: Leases,
        store: Store,
        pbxs: Mapping[str, Pbx],
        calls: Calls,
        reconciler: Reconciler,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        takeover: bool,
        ready: Callable[[], bool] = lambda: True,
        per_minute: int = 0,
    ) -> None:
        """Take nobody yet.

        Args:
            leases: who is there.
            store: where a caller is noted before he is passed on.
            pbxs: where callers come from, by name.
            calls: ours.
            reconciler: takes calls over.
            spawn: runs what takes time.
            takeover: whether calls of the dead are taken at all.
            ready: whether new calls may be taken (the session store may be away).
            per_minute: so many calls of one number; 0: as many as come.
        """
        self._leases, self._store, self._pbxs = leases, store, pbxs
        self._calls, self._reconciler, self._spawn = calls, reconciler, spawn
        self._takeover, self._ready = takeover, ready
        self._rate = CallRate(per_minute)
        self._sent: Counter[str] = Counter()  # calls passed on since the last beat
        self.stopping = False
        """We take no more calls ourselves."""

    def beat(self, holds: bool) -> None:
        """The registry was read: loads are known anew, and whether we hold the door."""
        self._sent.clear()
        for pbx in self._pbxs.values():
            pbx.door(holds)

    def take(self, leg: Leg) -> None:
        """A caller has come in."""
        if leg.incoming.resumed:
            self._spawn(self._found(leg))
        elif time.monotonic() - self._leases.woke < _STALE_S:
            self._spawn(self._take_if_ours(leg))
        else:
            self._take(leg)

    async def _take_if_ours(self, leg: Leg) -> None:
        """What we were told while we were held up may be old: another has taken the caller."""
        call_id = leg.incoming.call_id
        try:
            owner = (await self._leases.owners([call_id])).get(call_id, self._leases.name)
        except StoreUnreachable:
            owner = self._leases.name  # nobody takes a call over without Redis
        if owner == self._leases.name:
            self._take(leg)
        else:
            log.info("call %s was taken by another worker meanwhile", call_id)
            leg.forget()

    def _take(self, leg: Leg) -> None:
        if not self._ready():
            self._spawn(self._turn_away(leg, _NO_STORE))
            return
        caller = "" if leg.incoming.sent else leg.incoming.caller_number
        if not self._rate.allows(caller, time.monotonic()):
            self._spawn(self._turn_away(leg, _TOO_MANY))
            return
        sent = leg.incoming.sent and not self.stopping  # who has the door has chosen us
        target = self._leases.name if sent else self._target()
        if target == self._leases.name and self.stopping:
            self._spawn(self._turn_away(leg, _AGAIN))
            return
        self._sent[target] += 1
        if target == self._leases.name:
            self._calls.begin(leg, None)
        else:
            self._spawn(self._pass_on(leg, target))

    def _target(self) -> str:
        """The least-loaded worker that takes calls."""
        me = self._leases.name
        able = takers(self._leases.members.values())
        if self.stopping:
            able = [m for m in able if m.name != me]
        if not able:
            return me
        return min(able, key=lambda m: (m.load + self._sent[m.name], m.name != me)).name

    async def _turn_away(self, leg: Leg, why: Mapping[str, str]) -> None:
        """Let the dialplan go on with a caller whom we can't take."""
        log.warning("a caller goes on in the dialplan: %s", why["ARI_BRIDGE_REASON"])
        try:
            await leg.leave(why)
        except PbxGone:
            pass
        except BridgeError as error:
            log.warning("call %s: %s", leg.incoming.call_id, error)
        finally:
            await leg.release()

    async def _pass_on(self, leg: Leg, target: str) -> None:
        """Give a new call to another worker; noted first, so that it is never nobody's."""
        call_id = leg.incoming.call_id
        self._store.begin(call_id)
        self._store.put(call_id, **about(leg.incoming, target))
        await self._store.written(call_id, _NOTED_S)
        try:
            await leg.pass_on(target)
        except PbxGone:
            self._store.put(call_id, state="ended", ended=time.time(), result="hung-up")
        except BridgeError as error:
            if self.stopping:
                # Ended, so that whoever gets him when he comes again may write of him.
                self._store.put(call_id, state="ended", ended=time.time(), result="again")
                await self._turn_away(leg, _AGAIN)
                return
            log.warning("%s; keeping it", error)
            self._calls.begin(leg, None)
        else:
            self._store.forget(call_id)

    async def _found(self, leg: Leg) -> None:
        """A caller whom we didn't expect: whose is he?"""
        call_id = leg.incoming.call_id
        try:
            record = await self._store.load(call_id)
        except StoreUnreachable as error:
            log.warning("call %s is under way, and taken without its past: %s", call_id, error)
            record = None
        if record is None or record.state == "ended":
            if self.stopping:
                await self._turn_away(leg, _AGAIN)
            else:
                self._calls.begin(leg, None)
            return
        leg.forget()
        if record.worker == self._leases.name:
            # We are taking him over this very moment, or he was sent to us and never came.
            self._reconciler.stray(call_id, record.worker)
            return
        member = self._leases.members.get(record.worker)
        if member is not None and member.alive:
            await self._pbxs[leg.incoming.pbx].send_home(call_id, record.worker)
        elif self._takeover:
            self._reconciler.dead(record.worker)
            # His owner may have died before his call was on the list of those that go on.
            self._reconciler.stray(call_id, record.worker)
