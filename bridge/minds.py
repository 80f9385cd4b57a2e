"""The engines of this process: loaded before the first call, and made for each.

An agent's file is looked at for each call, so that a change counts at once; it is read again only
if it has changed (a long one takes 10 ms, and all calls wait meanwhile). A file that can't be
understood any more (it is being written, or somebody has mistyped) changes nothing: its agent stays
as it was, and the log says why. One that is gone is gone. A server of tools that no file declares
any more is ended once a call, or a reload, shows that and no call that began before needs it.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bridge import agent, toolbox
from bridge.agent import Agent
from bridge.engines import supervisor
from bridge.engines.base import Engine
from bridge.engines.registry import Engines
from bridge.errors import BridgeError, ConfigError, EngineMissing

log = logging.getLogger(__name__)

SERVERS_S = 3.0
"""How long the first call is put off for servers of tools."""
_SETTLED_S = 1.0
"""A file written so long ago gets another time when it is written again, whatever its clock."""


class Minds:
    """Agents by name, each with its engine and what stands in for that."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        """`folder` tells where the agents' files are now."""
        self._folder = folder
        self._engines = Engines()
        self._good: dict[str, Agent] = {}  # as they last had an engine
        self._said: dict[str, str] = {}  # what is wrong with their files now
        self._files: dict[Path, tuple[tuple[int, ...], Agent]] = {}  # as they were read
        self._used: list[weakref.ref[Agent]] = []  # by calls, as their files were then

    async def prepare(self) -> None:
        """Load every agent's engine now: no caller waits. One that can't be loaded isn't fatal."""
        for path in sorted(self._folder().glob("*.toml")):
            try:
                fresh = self._load(path.stem)
                await toolbox.prepare(fresh)
                await self._engines.prepare(fresh)
                self._good[fresh.name] = fresh
            except BridgeError as error:
                log.error("%s", error)
        waits = (toolbox.servers(one, SERVERS_S) for one in self._good.values())
        await asyncio.gather(*waits)  # while engines were loaded, they have come
        self._keep_servers()

    async def make(self, name: str) -> tuple[Agent, Engine]:
        """The agent of that name and an engine for it. Raises `ConfigError`, `EngineError`."""
        agents = agent.chain(self._load, name)
        self._used += map(weakref.ref, agents)
        for one in agents:
            await toolbox.servers(one)
        minds = [supervisor.Mind(a, partial(self._engines.create, a)) for a in agents]
        found, engine = await supervisor.begin(minds)
        self._good[found.name] = found
        self._keep_servers()
        return found, engine

    async def close(self) -> None:
        """Let go of all that was loaded."""
        await self._engines.close()
        await toolbox.close()

    def _keep_servers(self) -> None:
        there = {path.stem for path in self._folder().glob("*.toml")}
        self._good = {name: one for name, one in self._good.items() if name in there}
        self._used = [ref for ref in self._used if ref() is not None]
        used = (one for ref in self._used if (one := ref()) is not None)
        toolbox.keep([*self._good.values(), *used])

    def _load(self, name: str) -> Agent:
        """As its file is now or, where that can't be understood, as it was."""
        good = self._good.get(name)
        try:
            fresh = self._read(name)
            toolbox.check(fresh)
            if good is not None:
                self._engines.check(fresh)
        except (ConfigError, EngineMissing) as error:
            if good is None or not (self._folder() / f"{name}.toml").is_file():
                raise
            if self._said.get(name) != str(error):
                self._said[name] = str(error)
                log.error("%s; agent '%s' stays as it was", error, name)
            return good
        self._said.pop(name, None)
        return fresh

    def _read(self, name: str) -> Agent:
        path = self._folder() / f"{name}.toml"
        known = self._files.pop(path, None)
        try:
            found = path.stat()
        except OSError:
            return agent.load(self._folder(), name)  # says what there is
        stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
        if known is None or known[0] != stamp:
            known = stamp, agent.load(self._folder(), name)
        if time.time() - max(found.st_mtime, found.st_ctime) > _SETTLED_S:
            self._files[path] = known
        return copy.copy(known[1])  # its own for each call: `_used` tells which of them live
