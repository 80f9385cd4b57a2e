"""The engines of this process: loaded before the first call, and made for each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bridge import agent
from bridge.agent import Agent
from bridge.engines import supervisor
from bridge.engines.base import Engine
from bridge.engines.registry import Engines
from bridge.errors import BridgeError

log = logging.getLogger(__name__)


class Minds:
    """Agents by name, each with its engine and what stands in for that."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        """`folder` tells where the agents' files are now."""
        self._folder = folder
        self._engines = Engines()

    async def prepare(self) -> None:
        """Load every agent's engine now: no caller waits. One that can't be loaded isn't fatal."""
        folder = self._folder()
        for path in sorted(folder.glob("*.toml")):
            try:
                await self._engines.prepare(agent.chain(folder, path.stem)[0])
            except BridgeError as error:
                log.error("%s", error)

    async def make(self, name: str) -> tuple[Agent, Engine]:
        """The agent of that name and an engine for it. Raises `ConfigError`, `EngineError`."""
        agents = agent.chain(self._folder(), name)
        minds = [supervisor.Mind(a, partial(self._engines.create, a)) for a in agents]
        return await supervisor.begin(minds)

    async def close(self) -> None:
        """Let go of all that was loaded."""
        await self._engines.close()
