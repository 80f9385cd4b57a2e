"""The worker process: takes calls from the PBXs, and owns them until they end.

start   Redis, media process and a PBX are reached in turn; what is merely not there yet is waited
        for (one line in the log), what only the operator can mend ends the process at once
serve   one task a call (`bridge.calls`), one for each PBX's events, one for the session writer, one
        for our leases. Whoever holds the front door shares new calls out (`bridge.door`); when a
        worker dies, the others take its calls over (`bridge.reconcile`)
reload  on SIGHUP: settings and agents are read anew (`bridge.config.reload` says which count)
stop    on SIGTERM: no new calls; those that are left are handed over to other workers (on SIGINT,
        when all of this host stop: to other hosts') or, where there are none, go on for `drain_s`,
        then in the dialplan (ARI_BRIDGE_RESULT=shutdown); the session writer finishes

A worker whose launcher was killed goes on, and is replaced by the next launcher's: as soon as
enough of those take calls it stops as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import math
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import redis.exceptions

from bridge import keeper, logs, metrics, notify, tracing
from bridge.audio.codecs import missing_libraries
from bridge.calls import Calls
from bridge.config import Config, reload
from bridge.door import Door
from bridge.ears import Ears
from bridge.engines import faults
from bridge.errors import (
    ConfigError,
    MediaUnreachable,
    PbxUnreachable,
    StoreUnreachable,
)
from bridge.media.client import MediaClient
from bridge.media.memory import give_back
from bridge.minds import Minds
from bridge.orders import Orders
from bridge.pbx.asterisk import AsteriskPbx
from bridge.reconcile import Reconciler, takers
from bridge.relay.client import RelayClient
from bridge.sessions.lease import RedisLeases
from bridge.sessions.members import BEAT_S
from bridge.sessions.orders import Inbox, Order
from bridge.sessions.outbound import OutboundBook
from bridge.sessions.progress import NOTE_S
from bridge.sessions.reader import Reader
from bridge.sessions.redis import RedisStore
from bridge.sessions.webhook import Webhook
from bridge.tools import Outcome

log = logging.getLogger(__name__)

_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 5.0
# A stop takes at most their sum, whatever is away; the launcher waits a little longer.
_END_CALLS_S, _FLUSH_S, _CLOSE_S = 3.0, 2.5, 1.5
_LOOK_S = 2.0
_NOTE_PARTS = 4
"""So many parts of the calls are noted one after the other: 150 at once take some 10 ms."""
_ORPHAN_LOOK_S = 0.5
_SUCCESSORS_S = 10.0
"""How long an orphan waits for the last of its successors once the first is there."""
_TELL_S = 0.15
"""So long workers that are to stop at the same time have to find that out of each other."""
_DOOR_S = 1.5
"""So long we keep the front door open for the next who holds it."""
_HEARD_OF_S = 2 * BEAT_S
"""Who was heard of since then may live."""
_FOUND_AGAIN_S = 0.5
_MEASURE_S = 1.0
_COLLECT = 700, 10, 100
"""Full collections ten times as seldom as usual: with 150 calls each holds all of them up for
70 ms, and it came every 8 s."""
_TIDY_CALLS = 50, 150
"""After so many calls the holes that they leave in memory are given back. At random between these:
workers that get every other call would all stop at the same moment."""
_COLLECT_TIDIED = 10
"""A full collection after so many times: what is left of a call goes away by itself (measured:
nothing stays of the offline agent's and the echo's), but an engine of somebody else's may have
parts that know each other."""
_TAKEN_S, _TAKEN_LOOK_S = 2.0, 0.2
_NOT_THERE_YET = (StoreUnreachable, MediaUnreachable, PbxUnreachable)
_T = TypeVar("_T")


class Worker:
    """One process."""

    def __init__(self, config: Config, active: int = 0, path: Path | None = None) -> None:
        """Nothing happens before `run`.

        Args:
            config: the operator's.
            active: how many workers of this host take new calls; the youngest beyond are spares.
            path: the configuration's file, for reloading it.
        """
        self.config, self._path = config, path
        # A restarted container has the host name and process id of the one that died.
        self.name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(2)}"
        self._started, self._active = time.time(), active
        self._takes = self._left = self._stopping = False
        self._neighbours_stay = True
        self._ears = Ears()
        self._minds = Minds(lambda: Path(self.config.agents.folder))
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            BridgeError: what only the operator can mend, or the media process ended.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._asked.set)
        loop.add_signal_handler(signal.SIGINT, self._all_stop)
        hang_up = self._all_stop if keeper.has_terminal() else self._reload
        loop.add_signal_handler(signal.SIGHUP, hang_up)
        serving = asyncio.create_task(self._serve())
        asking = asyncio.create_task(self._asked.wait())
        await asyncio.wait({serving, asking}, return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        if not serving.done() and not self._stopping:  # else it is about to end by itself
            serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    def _all_stop(self) -> None:
        self._neighbours_stay = False
        self._asked.set()

    async def _serve(self) -> None:
        config = self.config
        tracing.set_up(config.telemetry, self.name)
        self._store = store = RedisStore(
            config.redis, self.name, tell=bool(config.history.webhook_url)
        )
        writer = asyncio.create_task(store.run())
        media: MediaClient | None = None
        self._pbxs: dict[str, AsteriskPbx] = {}
        try:
            await _until_there(store.connect)
            folder = Path(config.media.runtime_dir)
            media = self._media = await _until_there(lambda: MediaClient.connect(folder, self.name))
            self._assemble(media)
            reaching = [asyncio.create_task(_until_there(p.connect)) for p in self._pbxs.values()]
            try:
                done, _ = await asyncio.wait(reaching, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task
            finally:
                for task in reaching:
                    task.cancel()  # `AsteriskPbx.run` goes on trying
            for why in missing_libraries():
                log.warning("%s; until then such callers are taken in the next best codec", why)
            self._ears.load()
            media.tap(self._ears.hear)
            await self._minds.prepare()
            # A full collection that walks through every loaded library holds all calls up: 80 to
            # 190 ms when measured. What is there before the first call stays.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_COLLECT)
            self._spawn(self._measure())
            log.info(
                "ready: Asterisk %s, Redis %s, agents from %s",
                ", ".join(p.version or f"at {p.url} is away" for p in self._pbxs.values()),
                *(store.version, config.agents.folder),
            )
            notify.ready("serves")
            events = [
                asyncio.create_task(pbx.run(self._door.take, self._pbx_up))
                for pbx in self._pbxs.values()
            ]
            try:
                vital = {*events, writer, media.lost}
                await asyncio.wait(vital, return_when=asyncio.FIRST_COMPLETED)
                for task in (*events, writer):  # each serves until it is cancelled
                    if task.done():
                        await task
                raise MediaUnreachable("the media process ended")
            finally:
                self._stopping = True
                await self._drain()
                for task in events:
                    task.cancel()
                await asyncio.gather(*events, return_exceptions=True)
        finally:
            self._stopping = True
            _clean_up()
            if not await store.flush(_FLUSH_S):
                log.error("Redis is away: what was not yet written of the last calls is lost")
            for task in (writer, *self._tasks):
                task.cancel()
            if media is not None:
                if not self._left:
                    with contextlib.suppress(StoreUnreachable):
                        await self._leases.leave()
                await media.close()
            closing = (pbx.close(_CLOSE_S) for pbx in self._pbxs.values())
            await asyncio.gather(*closing, tracing.close(_CLOSE_S))
            await store.close()
            await self._minds.close()

    def _assemble(self, media: MediaClient) -> None:
        store, config = self._store, self.config
        self._leases = leases = RedisLeases(store.server, self.name, self._about)
        self._calls = Calls(leases, media, store, self._minds.make, self._ears)
        folder = Path(config.media.runtime_dir)
        for one in config.asterisk:
            relay = RelayClient(folder, one.name, lambda: media.address)
            self._pbxs[one.name] = AsteriskPbx(one, self.name, self._calls, relay)
        self._reconciler = Reconciler(
            *(leases, store, self._pbxs),
            begin=self._calls.begin,
            held=self._calls.__contains__,
            over=media.give_up,
        )
        self._door = Door(
            *(leases, store, self._pbxs, self._calls, self._reconciler, self._spawn),
            takeover=config.worker.takeover,
            ready=self._remembers,
            per_minute=config.worker.calls_per_caller_per_minute,
        )

        self._orders = Orders(
            *(self._calls, self._pbxs),
            settings=lambda: self.config.outbound,
            place=self._place,
            ready=lambda: self.ready,
        )

    @property
    def ready(self) -> bool:
        """Whether we take new calls."""
        return self._takes and not self._stopping and self._remembers()

    def _remembers(self) -> bool:
        """Whether what has to be remembered of a new call can be."""
        return not self.config.sessions.required or (self._store.up and self._leases.up)

    def _pbx_up(self, up: bool) -> None:
        if not up:
            log.warning("Asterisk is away")
            return
        log.info("Asterisk is up")
        if not self._takes and not self._stopping:  # for the first time: now we can be given calls
            self._takes = True
            self._join()

    def _join(self) -> None:
        """Be one of the workers."""
        self._store.on_lost = self._calls.lost
        leases = self._leases
        leases.on_beat, leases.on_unsure = self._beat, self._calls.make_sure
        leases.on_forgotten = self._store.refresh
        inbox = Inbox(self._store.server, self.name, self._carry_out)
        for work in (leases.run(), self._note(), self._watch_launcher(), inbox.run()):
            self._spawn(work)
        if self.config.history.webhook_url:
            reader = Reader(self.config.redis)
            self._spawn(Webhook(self.config.history, reader, self.name).run())
        if not self.config.worker.takeover:
            return
        self._media.on_left = self._neighbour_left
        leases.on_dead = self._reconciler.dead
        self._spawn(self._look_around())
        self._spawn(self._dead_before_us())

    async def _carry_out(self, order: Order) -> Mapping[str, Any]:
        return await self._orders.carry_out(order.verb, order.call_id, order.arguments)

    async def _place(self, call_id: str) -> bool:
        """Whether a call of ours may be placed: the first worker that asks may, once."""
        try:
            return await OutboundBook(self._store.server).place(call_id, self.name)
        except (redis.exceptions.RedisError, OSError) as error:
            raise StoreUnreachable(f"Redis: {error}") from error

    # Who is there ---------------------------------------------------------------------------------

    def _about(self) -> dict[str, object]:
        return {
            "started": self._started,
            "load": len(self._calls),
            "takes": self._takes,
            "place": self._media.place,
            "active": self._active,
            "left": self._left,
            "kept": not keeper.orphaned(),
            "faults": faults.told(),
        }

    def _beat(self) -> None:
        if not self._stopping:
            self._door.beat(self._leases.holds_door)

    def _neighbour_left(self, worker: str) -> None:
        """A worker of this host has died (or has stopped, and left nothing)."""
        self._reconciler.dead(worker)
        self._leases.nudge()

    async def _dead_before_us(self) -> None:
        """Take the calls of this host's workers that had died before we began.

        A media process that has itself just begun finds its living workers again at once.
        """
        left = set(self._media.orphans().values()) - {""}
        with contextlib.suppress(StoreUnreachable):
            await self._leases.beat()
        members = self._leases.members
        alive = {w for w in left if w in members and members[w].idle_s < _HEARD_OF_S}
        for worker in left - alive:
            self._reconciler.dead(worker)
        if alive:
            await asyncio.sleep(_FOUND_AGAIN_S)
            for worker in alive & set(self._media.orphans().values()):
                self._reconciler.dead(worker)

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._reconciler.unknown()

    async def _note(self) -> None:
        """How far each conversation has got, for whoever takes it up."""
        for part in itertools.cycle(range(_NOTE_PARTS)):
            await asyncio.sleep(NOTE_S / _NOTE_PARTS)
            self._calls.note(part, _NOTE_PARTS)

    async def _measure(self) -> None:
        """Say once a second how we are."""
        clock = asyncio.get_running_loop().time
        each_s = notify.interval_s() or math.inf
        alive = clock() + each_s
        tidy, tidied = random.randint(*_TIDY_CALLS), 0
        while True:
            due = clock() + _MEASURE_S
            await asyncio.sleep(_MEASURE_S)
            if clock() >= alive:
                notify.alive()
                alive = clock() + each_s
            metrics.health(
                calls=len(self._calls),
                ready=self.ready,
                redis=self._store.up,
                asterisks={name or "asterisk": pbx.up for name, pbx in self._pbxs.items()},
                faults=faults.count,
                lag_s=clock() - due,
            )
            if self._calls.ended >= tidy:
                self._calls.ended, tidy = 0, random.randint(*_TIDY_CALLS)
                tidied += 1
                if tidied % _COLLECT_TIDIED == 0:
                    gc.collect()
                give_back()

    async def _watch_launcher(self) -> None:
        """Without a launcher, make room for the next one's workers."""
        folder = Path(self.config.media.runtime_dir)
        since = 0.0
        while True:
            await asyncio.sleep(_ORPHAN_LOOK_S)
            if not keeper.orphaned() or keeper.holder(folder) is None:
                continue
            successors = sum(
                m.alive and m.takes and m.kept and m.place == self._media.place
                for m in self._leases.members.values()
            )
            if successors and not since:
                since = time.monotonic()
            waited = since and time.monotonic() - since > _SUCCESSORS_S
            if successors and (successors >= self._active or waited):
                log.warning("another launcher's workers are there: making room for them")
                self._asked.set()
                return

    # Reload and stop ------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Read the settings anew; agents are read for every call anyway."""
        try:
            self.config, ignored = reload(self.config, self._path)
        except ConfigError as error:
            log.error("not reloaded: %s", error)
            return
        logs.set_up(self.config.log.level, self.config.log.format)
        log.info("settings reloaded")
        for key in ignored:
            log.warning("%s has changed, which takes a restart", key)
        self._spawn(self._minds.prepare())

    async def _drain(self) -> None:
        """Hand our calls over; where there is nobody, let them go on for a while, then end them."""
        _clean_up()
        notify.stopping()
        self._takes = self._leases.wants_door = False
        self._door.stopping = True
        await self._reconciler.close()
        if not (await self._others() and await self._hand_over()):
            for pbx in self._pbxs.values():
                pbx.door(False)
            if len(self._calls) and self.config.worker.drain_s:
                log.info("waiting for %d calls to end", len(self._calls))
                await self._calls.wait(self.config.worker.drain_s)
        await self._calls.end(Outcome("shutdown", "the bridge is stopping"), _END_CALLS_S)

    async def _others(self) -> list[str]:
        """Who else takes calls, and will: some may have been told to stop when we were."""
        try:
            await self._leases.beat()
            await asyncio.sleep(_TELL_S)
            await self._leases.beat()
        except StoreUnreachable:
            return []
        able = [m for m in takers(self._leases.members.values()) if m.name != self.name]
        here = self._media.place
        return [m.name for m in able if self._neighbours_stay or m.place != here]

    async def _hand_over(self) -> bool:
        """Leave all calls as if we had died, at a moment when all is written; False: none came."""
        log.info("handing %d calls over", len(self._calls))
        self._calls.note()
        if not await self._store.flush(_FLUSH_S):
            log.warning("Redis is slow or away: nobody could go on with our calls, so we keep them")
            return False
        for pbx in self._pbxs.values():
            pbx.hand_over(self._store.pass_key)
        self._calls.let_go()
        # Before a call's clean-up gives its slot back. Those of our own host are told by this, and
        # come for their calls; those of others see it at their next beat.
        await self._media.close()
        self._left = True
        with contextlib.suppress(StoreUnreachable):
            await self._leases.beat()
        # Nobody is refused: the next holder of the door takes it from us. What callers press until
        # they are fetched is passed on. And our media process, if it is to stop as well, plays on
        # until the calls' audio flows elsewhere.
        taken = [] if self._neighbours_stay else [self._taken()]
        await asyncio.gather(
            *(pbx.door_taken(_DOOR_S) for pbx in self._pbxs.values()),
            *(pbx.fetched(_DOOR_S) for pbx in self._pbxs.values()),
            *taken,
        )
        return True

    async def _taken(self) -> None:
        """Wait, but not for long, until our calls are others'."""
        with contextlib.suppress(StoreUnreachable, TimeoutError):
            async with asyncio.timeout(_TAKEN_S):
                ours = True
                while ours:
                    ours = self.name in (await self._leases.live()).values()
                    await asyncio.sleep(_TAKEN_LOOK_S)  # what is claimed isn't moved yet

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a task of the worker failed", exc_info=error)


def _clean_up() -> None:
    """This task has been cancelled; from here on it works like any other.

    Else, up to Python 3.11.2 (Debian 12 has that), each time-out that runs out in it is taken for
    another cancellation (gh-102780), and redis-py lets one run out in every command.
    """
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


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
