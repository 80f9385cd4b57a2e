"""Tools by name: what an agent may do in the world besides `transfer` and `hang_up`.

Theory of operation. Whatever its kind, a tool is an async function with what `bridge.toolbox.base`
says of it; whoever runs it (`bridge.tools`) or tells a model of it (`bridge.engines.functions`)
knows nothing else. `named` finds it, in this order:

    declared   `[tool.NAME]` in the agent's file (`bridge.tooltables`), made here by its `type`
    built in   `bridge.toolbox.builtin`, if the agent's `tools` name it
    installed  an entry point `ari_bridge.tools`, if the agent's `tools` name it

    [project.entry-points."ari_bridge.tools"]
    book_table = "my_package.tools:book_table"

    async def book_table(call: ToolContext, *, day: str, persons: int) -> str: ...

The arguments are the engine's; what is returned (or raised, as one line) is told to the engine, so
it must be what JSON knows.

A tool that had begun when its process died may have had its effect: it is not run again, and the
engine is told that nobody knows. One that may safely run twice, because it gives `call.key` to a
service that knows idempotency keys, says so: `book_table.again = True`.
"""

from __future__ import annotations

import difflib
import functools
from importlib.metadata import entry_points
from pathlib import Path

from bridge.agent import BUILT_IN, Agent
from bridge.errors import ConfigError
from bridge.toolbox import builtin
from bridge.toolbox.base import Function as Function
from bridge.toolbox.base import Recorded as Recorded
from bridge.toolbox.base import ToolContext as ToolContext
from bridge.toolbox.http import Http
from bridge.toolbox.knowledge import Knowledge
from bridge.tooltables import HttpTool, KnowledgeTool, ToolTable

GROUP = "ari_bridge.tools"

TIMEOUT_S = 10.0
"""Of a tool that says nothing else."""


def named(name: str, agent: Agent) -> Function:
    """The agent's tool of that name. Raises `ConfigError` with the cure."""
    if name in agent.tool:
        return _made(name, agent.tool[name], Path(agent.file).parent)
    if name not in agent.tools:
        allowed = agent.every_tool
        near = difflib.get_close_matches(name, allowed, n=1)
        have = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed) or 'none'}"
        raise ConfigError(f"there is no tool '{name}' in the agent's 'tools'; {have}")
    if name in BUILT_IN:
        return builtin.made(name, agent.variables)
    return _load(name)


async def prepare(agent: Agent) -> None:
    """Have what its tools need ready, so that no caller waits for it. Raises `ConfigError`."""
    check(agent)
    for name, table in agent.tool.items():
        if isinstance(tool := _made(name, table, Path(agent.file).parent), Knowledge):
            await tool.prepare()


def check(agent: Agent) -> None:
    """Whether what its file declares can be used. Raises `ConfigError` with the cure."""
    for name in agent.tool:
        try:
            named(name, agent)
        except ConfigError as error:
            raise ConfigError(f"{agent.file} [tool.{name}]: {error}") from error


def may_run_again(name: str, agent: Agent) -> bool:
    """Whether a tool that had begun may run once more."""
    try:
        return bool(getattr(named(name, agent), "again", False))
    except ConfigError:
        return False


def timeout_s(function: Function) -> float:
    """How long it may take."""
    return float(getattr(function, "timeout_s", TIMEOUT_S))


def _made(name: str, table: ToolTable, home: Path) -> Http | Knowledge:
    match table:
        case HttpTool():
            return Http(name, table)
        case KnowledgeTool():
            return Knowledge(name, table, home)


@functools.cache
def _load(name: str) -> Function:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        have = ", ".join(sorted(points)) or "none"
        raise ConfigError(
            f"tool '{name}' is not installed (entry point {GROUP}); there are: {have}"
        )
    try:
        found: Function = points[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"tool '{name}' can't be loaded: {error}") from error
    return found
