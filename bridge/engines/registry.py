"""Engines by name: a table of ours, and entry points `ari_bridge.engines` of others.

A name stands for `module:attribute`, an `Entrance`: `(agent, shared) -> Provider`. The module is
imported when an agent first asks for it, so that nobody pays for an engine that he doesn't use.

    [project.entry-points."ari_bridge.engines"]
    mine = "my_package.engine:provider"
"""

from __future__ import annotations

import asyncio
import difflib
import importlib
from importlib.metadata import entry_points

from bridge.agent import Agent
from bridge.engines.base import Engine, Entrance, Provider, Shared
from bridge.errors import ConfigError, EngineMissing

BUILTIN: dict[str, str] = {
    "cascade": "bridge.engines.assembly:provider",
    "echo": "bridge.engines.echo:provider",
    "offline": "bridge.engines.offline:provider",
    "openai-realtime": "bridge.engines.openai_realtime:provider",
    "twilio": "bridge.engines.twilio:provider",
    "websocket": "bridge.engines.websocket:provider",
}
"""Our own engines."""

EXTRAS: dict[str, str] = {
    "offline": "offline",
    "openai-realtime": "openai",
    "twilio": "websocket",
    "websocket": "websocket",
}
"""The extra that an engine of ours needs, by the engine's name."""

GROUP = "ari_bridge.engines"


def names() -> list[str]:
    """Every engine that can be named in an agent file."""
    return sorted({*BUILTIN, *(point.name for point in entry_points(group=GROUP))})


def entrance(name: str) -> Entrance:
    """Import the engine of that name.

    Raises:
        ConfigError: there is no such engine (with those that there are).
        EngineMissing: what it needs isn't installed (with the cure).
    """
    others = {point.name: point.value for point in entry_points(group=GROUP)}
    target = BUILTIN.get(name) or others.get(name)
    if target is None:
        near = difflib.get_close_matches(name, names(), n=1)
        cure = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names())}"
        raise ConfigError(f"no engine '{name}'; {cure}")
    module, _, attribute = target.partition(":")
    try:
        found: Entrance = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise missing(name, error) from error
    except (ImportError, AttributeError) as error:
        raise EngineMissing(f"engine '{name}' can't be loaded: {error}") from error
    return found


def missing(name: str, error: ModuleNotFoundError) -> EngineMissing:
    """What to tell an operator whose engine lacks a module."""
    if name in EXTRAS:
        cure = f"pip install 'ari-bridge[{EXTRAS[name]}]'"
        return EngineMissing(f"engine '{name}' needs the extra: {cure} (no module {error.name})")
    return EngineMissing(f"engine '{name}' needs a module that isn't installed: {error.name}")


class Engines:
    """The engines of one worker: a provider an agent, made when first asked for."""

    def __init__(self) -> None:
        self._shared = Shared()
        self._providers: dict[str, tuple[Agent, Provider]] = {}
        self._retired: list[Provider] = []  # of agent files that have changed since; calls use them
        self._locks: dict[str, asyncio.Lock] = {}  # an agent's: others' calls don't wait for it

    async def prepare(self, agent: Agent) -> None:
        """Load everything that the agent's calls need. Raises `EngineError`, `ConfigError`."""
        await self._provider(agent)

    def check(self, agent: Agent) -> None:
        """Whether the engine understands the agent's file. Raises `EngineError`, `ConfigError`."""
        known = self._providers.get(agent.name)
        if known is None or known[0] != agent:
            self._made(agent)

    async def create(self, agent: Agent) -> Engine:
        """An engine for one call of that agent. Raises `EngineError`, `ConfigError`."""
        return (await self._provider(agent)).create()

    async def close(self) -> None:
        """Let go of everything, when no call is left."""
        for provider in [*self._retired, *(p for _, p in self._providers.values())]:
            await provider.close()
        self._retired.clear()
        self._providers.clear()
        await self._shared.close()

    async def _provider(self, agent: Agent) -> Provider:
        # Two calls at once must not load the same model twice.
        async with self._locks.setdefault(agent.name, asyncio.Lock()):
            known = self._providers.get(agent.name)
            if known and known[0] == agent:
                return known[1]
            provider = self._made(agent)
            try:
                await provider.prepare()
            except ModuleNotFoundError as error:  # an engine's own late import
                raise missing(agent.engine, error) from error
            if known:
                self._retired.append(known[1])
            self._providers[agent.name] = (agent, provider)
            return provider

    def _made(self, agent: Agent) -> Provider:
        try:
            return entrance(agent.engine)(agent, self._shared)
        except ModuleNotFoundError as error:  # an engine's own late import
            raise missing(agent.engine, error) from error
