"""The worker process: takes calls from the PBX, and owns them until they end.

start   Redis, media process and PBX are reached in turn; what is merely not there yet is waited
        for (one line in the log), what only the operator can mend ends the process at once
serve   one task a call, one for the PBX's events, one for the session writer, one for our leases.
        Whoever holds the front door gives each new call to the least-loaded worker; when a worker
        dies, the others take its calls over (`bridge.reconcile`)
stop    on SIGTERM: no new calls; those that are left are handed over to other workers or, where
        there are none (or all stop: SIGINT), go on for `drain_s`, then in the dialplan
        (ARI_BRIDGE_RESULT=shutdown); the session writer finishes
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import signal
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bridge import agent, logs
from bridge.audio.codecs import missing_libraries
from bridge.call import Call, Outcome
from bridge.config import Config
from bridge.engines import supervisor
from bridge.engines.base import Engine
from bridge.engines.registry import Engines
from bridge.errors import (
    BridgeError,
    MediaUnreachable,
    PbxGone,
    PbxUnreachable,
    StoreUnreachable,
)
from bridge.media.client import MediaClient
from bridge.pbx.asterisk import AsteriskPbx
from bridge.pbx.base import Leg
from bridge.recall import Memory
from bridge.reconcile import Reconciler, takers
from bridge.sessions.lease import RedisLeases
from bridge.sessions.progress import NOTE_S
from bridge.sessions.redis import RedisStore

log = logging.getLogger(__name__)

_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 5.0
# A stop takes at most their sum, whatever is away; the launcher waits a little longer.
_END_CALLS_S, _FLUSH_S, _CLOSE_S = 3.0, 2.5, 1.5
_PASS_ON_S = 1.0
_LOOK_S = 2.0
_NOT_THERE_YET = (StoreUnreachable, MediaUnreachable, PbxUnreachable)
_T = TypeVar("_T")


class Worker:
    """One process' calls."""

    def __init__(self, config: Config, active: int = 0) -> None:
        """`active`: how many workers take new calls; the youngest beyond that are spares."""
        self.config = config
        # A restarted container has the host name and process id of the one that died.
        self.name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(2)}"
        self._started = time.time()
        self._active = active
        self._takes = False
        self._hands_over = True
        self._store = RedisStore(config.redis)
        self._leases = RedisLeases(self._store.server, self.name, self._about)
        self._pbx = AsteriskPbx(config.asterisk, worker=self.name, owner=self)
        self._reconciler = Reconciler(self._leases, self._store, self._pbx, self._begin, active)
        self._engines = Engines()
        self._media: MediaClient | None = None
        self._calls: dict[str, tuple[Call, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent: Counter[str] = Counter()  # calls passed on since the last beat

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            BridgeError: what only the operator can mend, or the media process ended.
        """
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, asked.set)

        def all_stop() -> None:
            self._hands_over = False
            asked.set()

        loop.add_signal_handler(signal.SIGINT, all_stop)
        serving = asyncio.create_task(self._serve())
        asking = asyncio.create_task(asked.wait())
        await asyncio.wait({serving, asking}, return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        if not serving.done():
            serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    async def _serve(self) -> None:
        background: list[asyncio.Task[None]] = []
        try:
            await _until_there(self._store.connect)
            writer = asyncio.create_task(self._store.run())
            background.append(writer)
            folder = Path(self.config.media.runtime_dir)
            self._media = await _until_there(lambda: MediaClient.connect(folder, self.name))
            await _until_there(self._pbx.connect)
            await self._prepare()
            log.info(
                "ready: Asterisk %s, Redis %s, agents from %s",
                *(self._pbx.version, self._store.version, self.config.agents.folder),
            )
            events = asyncio.create_task(self._pbx.run(self._take, self._pbx_up))
            try:
                vital = {events, writer, self._media.lost}
                await asyncio.wait(vital, return_when=asyncio.FIRST_COMPLETED)
                for task in (events, writer):  # each serves until it is cancelled
                    if task.done():
                        await task
                raise MediaUnreachable("the media process ended")
            finally:
                await self._drain()
                events.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await events
        finally:
            if background and not await self._store.flush(_FLUSH_S):
                log.error("Redis is away: what was not yet written of the last calls is lost")
            for task in (*background, *self._tasks):
                task.cancel()
            with contextlib.suppress(StoreUnreachable):
                await self._leases.leave()
            if self._media is not None:
                await self._media.close()
            await self._pbx.close(_CLOSE_S)
            await self._store.close()
            await self._engines.close()

    async def _prepare(self) -> None:
        """Load every agent's engine now: no caller waits. One that can't be loaded isn't fatal."""
        for why in missing_libraries():
            log.warning("%s; until then such callers are taken in the next best codec", why)
        folder = Path(self.config.agents.folder)
        for path in sorted(folder.glob("*.toml")):
            try:
                await self._engines.prepare(agent.chain(folder, path.stem)[0])
            except BridgeError as error:
                log.error("%s", error)

    def _pbx_up(self, up: bool) -> None:
        if not up:
            log.warning("Asterisk is away")
            return
        log.info("Asterisk is up")
        if not self._takes:  # for the first time: now we can be given calls
            self._takes = True
            self._join()

    def _join(self) -> None:
        """Be one of the workers."""
        assert self._media is not None
        self._store.on_lost = self._lost
        leases = self._leases
        leases.on_beat, leases.on_unsure = self._beat, self._make_sure
        for work in (leases.run(), self._note()):
            self._spawn(work)
        if not self.config.worker.takeover:
            return
        self._media.on_left = self._left
        leases.on_dead = self._reconciler.dead
        self._spawn(self._look_around())
        for worker in set(self._media.orphans().values()) - {""}:
            self._reconciler.dead(worker)  # who had died before we began

    # Who is there ---------------------------------------------------------------------------------

    def _about(self) -> dict[str, object]:
        return {"started": self._started, "load": len(self._calls), "takes": self._takes}

    def _beat(self) -> None:
        self._sent.clear()
        self._pbx.door(self._leases.holds_door)

    def _left(self, worker: str) -> None:
        """A worker of this host has died (or has stopped, and left nothing)."""
        self._reconciler.dead(worker)
        self._leases.nudge()

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._reconciler.unknown()

    async def _note(self) -> None:
        """How far each conversation has got, for whoever takes it up."""
        while True:
            await asyncio.sleep(NOTE_S)
            for call, _ in list(self._calls.values()):
                call.note()

    async def _make_sure(self) -> None:
        """Which calls are still ours? Raises `StoreUnreachable`."""
        ours = list(self._calls)
        owners = await self._leases.owners(ours) if ours else {}
        for call_id in ours:
            if owners.get(call_id, self.name) != self.name:
                self._lost(call_id)

    def _lost(self, call_id: str) -> None:
        if call_id in self._calls:
            log.warning("call %s is another worker's now: letting it go", call_id)
            self._calls[call_id][0].let_go()

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
        return owners.get(call_id, self.name) == self.name

    # Calls ----------------------------------------------------------------------------------------

    def _take(self, leg: Leg) -> None:
        if leg.incoming.resumed:
            self._spawn(self._found(leg))
            return
        target = self._target()
        self._sent[target] += 1
        if target == self.name:
            self._begin(leg, None)
        else:
            self._spawn(self._pass_on(leg, target))

    def _target(self) -> str:
        """The least-loaded worker that takes calls."""
        able = takers(self._leases.members.values(), self._active)
        if not able:
            return self.name
        return min(able, key=lambda m: (m.load + self._sent[m.name], m.name != self.name)).name

    async def _pass_on(self, leg: Leg, target: str) -> None:
        """Give a new call to another worker; noted first, so that it is never nobody's."""
        call_id = leg.incoming.call_id
        self._store.begin(call_id)
        self._store.put(
            call_id,
            worker=target,
            state="setup",
            started=time.time(),
            caller=leg.incoming.caller_number,
            dialed=leg.incoming.dialed,
            codec=leg.incoming.codec,
            agent=leg.incoming.args[0] if leg.incoming.args else "",
        )
        await self._store.flush(_PASS_ON_S)
        self._store.forget(call_id)
        try:
            await leg.pass_on(target)
        except PbxGone:
            self._store.begin(call_id)
            self._store.put(call_id, worker=self.name, state="ended", result="hung-up")
        except BridgeError as error:
            log.warning("%s; keeping it", error)
            self._begin(leg, None)

    async def _found(self, leg: Leg) -> None:
        """A caller whom we didn't expect: whose is he?"""
        call_id = leg.incoming.call_id
        try:
            record = await self._store.load(call_id)
        except StoreUnreachable as error:
            log.warning("call %s is under way, and taken without its past: %s", call_id, error)
            record = None
        if record is None or record.state == "ended":
            self._begin(leg, None)
            return
        leg.forget()
        if record.worker == self.name:
            return  # we are taking it over this very moment
        member = self._leases.members.get(record.worker)
        if member is not None and member.alive:
            await self._pbx.send_home(call_id, record.worker)
        else:
            self._reconciler.dead(record.worker)

    def _begin(self, leg: Leg, memory: Memory | None) -> None:
        assert self._media is not None
        call_id = leg.incoming.call_id
        call = Call(leg, self._media, self._store, self._mind, worker=self.name, memory=memory)
        task = asyncio.create_task(self._hold(call), name=f"call {call_id}")
        self._calls[call_id] = (call, task)

    async def _hold(self, call: Call) -> None:
        logs.call_id.set(call.id)
        try:
            await call.run()
        finally:
            if call.id in self._calls and self._calls[call.id][0] is call:
                del self._calls[call.id]

    async def _mind(self, name: str) -> tuple[agent.Agent, Engine]:
        """The agent of that name and an engine for it. Raises `ConfigError`, `EngineError`."""
        agents = agent.chain(Path(self.config.agents.folder), name)
        minds = [supervisor.Mind(a, partial(self._engines.create, a)) for a in agents]
        return await supervisor.begin(minds)

    # Stopping -------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Hand our calls over; where there is nobody, let them go on for a while, then end them."""
        self._takes = self._leases.wants_door = False
        await self._reconciler.close()
        with contextlib.suppress(StoreUnreachable):
            await self._leases.beat()
            self._pbx.door(False)
        others = [m for m in takers(self._leases.members.values()) if m.name != self.name]
        if self._hands_over and others and self._calls and self._media is not None:
            await self._hand_over()
        elif self._calls and self.config.worker.drain_s:
            log.info("waiting for %d calls to end", len(self._calls))
            await asyncio.wait(self._running(), timeout=self.config.worker.drain_s)
        await self._end_calls()

    async def _hand_over(self) -> None:
        """Leave all calls as if we had died, at a moment when all is written."""
        assert self._media is not None
        log.info("handing %d calls over", len(self._calls))
        for call, _ in self._calls.values():
            call.note()
        if not await self._store.flush(_FLUSH_S):
            return
        for call, _ in list(self._calls.values()):
            call.let_go()
        await self._media.close()  # the others are told, and come for them

    def _running(self) -> set[asyncio.Task[None]]:
        return {task for _, task in self._calls.values()}

    async def _end_calls(self) -> None:
        tasks = self._running()
        for call, _ in self._calls.values():
            call.end(Outcome("shutdown", "the bridge is stopping"))
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_END_CALLS_S)
            for task in late:
                log.error("%s did not end within %.0f s", task.get_name(), _END_CALLS_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a task of the worker failed", exc_info=error)


async def _until_there(reach: Callable[[], Awaitable[_T]]) -> _T:
    """Try until it is there; says why it waits once for each reason."""
    wait_s, said = _FIRST_RETRY_S, ""
    while True:
        try:
            return await reach()
        except _NOT_THERE_YET as error:
            if str(error) != said:
                log.warning("%s; trying again", error)
                said = str(error)
        await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(wait_s * 2, _LONGEST_RETRY_S)
