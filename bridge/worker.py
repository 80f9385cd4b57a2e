"""The worker process: takes calls from the PBX, and owns them until they end.

start   Redis, media process and PBX are reached in turn; what is merely not there yet is waited
        for (one line in the log), what only the operator can mend ends the process at once
serve   one task a call, one for the PBX's events, one for the session writer
stop    on SIGTERM or SIGINT: no new calls; the dialplan goes on with those that are left
        (ARI_BRIDGE_RESULT=shutdown), and the session writer finishes
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from bridge import agent, logs
from bridge.audio.codecs import missing_libraries
from bridge.call import Call, Outcome
from bridge.config import Config
from bridge.engines.base import Engine
from bridge.engines.registry import Engines
from bridge.errors import BridgeError, MediaUnreachable, PbxUnreachable, StoreUnreachable
from bridge.media.client import MediaClient
from bridge.pbx.asterisk import AsteriskPbx
from bridge.pbx.base import Leg
from bridge.sessions.redis import RedisStore

log = logging.getLogger(__name__)

_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 5.0
# A stop takes at most their sum, whatever is away; the launcher waits a little longer.
_END_CALLS_S, _FLUSH_S, _CLOSE_S = 4.0, 3.0, 2.0
_NOT_THERE_YET = (StoreUnreachable, MediaUnreachable, PbxUnreachable)
_T = TypeVar("_T")


class Worker:
    """One process' calls."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._store = RedisStore(config.redis)
        self._pbx = AsteriskPbx(config.asterisk)
        self._engines = Engines()
        self._media: MediaClient | None = None
        self._calls: dict[asyncio.Task[None], Call] = {}

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            BridgeError: what only the operator can mend, or the media process ended.
        """
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        serving = asyncio.create_task(self._serve())
        asking = asyncio.create_task(asked.wait())
        await asyncio.wait({serving, asking}, return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        if not serving.done():
            serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    async def _serve(self) -> None:
        writer: asyncio.Task[None] | None = None
        try:
            await _until_there(self._store.connect)
            writer = asyncio.create_task(self._store.run())
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
                await self._end_calls()
                events.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await events
        finally:
            if writer is not None:
                if not await self._store.flush(_FLUSH_S):
                    log.error("Redis is away: what was not yet written of the last calls is lost")
                writer.cancel()
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
                await self._engines.prepare(agent.load(folder, path.stem))
            except BridgeError as error:
                log.error("%s", error)

    # Calls ----------------------------------------------------------------------------------------

    def _take(self, leg: Leg) -> None:
        assert self._media is not None
        call = Call(leg, self._media, self._store, self._mind, worker=self.name)
        task = asyncio.create_task(self._hold(call), name=f"call {leg.incoming.call_id}")
        self._calls[task] = call
        task.add_done_callback(self._calls.pop)

    async def _hold(self, call: Call) -> None:
        logs.call_id.set(call.id)
        await call.run()

    async def _mind(self, name: str) -> tuple[agent.Agent, Engine]:
        """The agent of that name and an engine for it. Raises `ConfigError`, `EngineError`."""
        character = agent.load(Path(self.config.agents.folder), name)
        return character, await self._engines.create(character)

    async def _end_calls(self) -> None:
        tasks = set(self._calls)
        for call in self._calls.values():
            call.end(Outcome("shutdown", "the bridge is stopping"))
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_END_CALLS_S)
            for task in late:
                log.error("%s did not end within %.0f s", task.get_name(), _END_CALLS_S)

    def _pbx_up(self, up: bool) -> None:
        log.log(
            *((logging.INFO, "Asterisk is up") if up else (logging.WARNING, "Asterisk is away"))
        )


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
