"""Tools by name: what an agent may do in the world besides `transfer` and `hang_up`.

Theory of operation. Whatever its kind, a tool is an async function with what `bridge.toolbox.base`
says of it; whoever runs it (`bridge.tools`) or tells a model of it (`bridge.engines.functions`)
knows nothing else. `named` finds it, in this order:

    declared   `[tool.NAME]` in the agent's file (`bridge.tooltables`), made here by its `type`;
               of `mcp`, what the server brings
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
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from bridge.agent import BUILT_IN, Agent
from bridge.errors import ConfigError
from bridge.toolbox import builtin, mcp
from bridge.toolbox.base import Function as Function
from bridge.toolbox.base import Recorded as Recorded
from bridge.toolbox.base import ToolContext as ToolContext
from bridge.toolbox.http import Http
from bridge.toolbox.knowledge import Knowledge
from bridge.toolbox.mcp import Mcp
from bridge.tooltables import HttpTool, KnowledgeTool, McpTool

GROUP = "ari_bridge.tools"

TIMEOUT_S = 10.0
"""Of a tool that says nothing else."""


NEW_SERVERS_S = 1.0
"""How long a call waits for servers of tools that nobody has started before."""


def named(name: str, agent: Agent) -> Function:
    """The agent's tool of that name. Raises `ConfigError` with the cure."""
    if name in (served := agent.served):
        table, tool = served[name]
        return _brought(agent, table, tool)
    if name in agent.tool and not isinstance(agent.tool[name], McpTool):
        return _made(name, agent)
    if name not in agent.tools:
        allowed = agent.every_tool
        near = difflib.get_close_matches(name, allowed, n=1)
        have = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(allowed) or 'none'}"
        raise ConfigError(f"there is no tool '{name}' in the agent's 'tools'; {have}")
    if name in BUILT_IN:
        return builtin.made(name, agent.variables)
    return _load(name)


def known(agent: Agent) -> list[str]:
    """Names of those of its tools that a model can be told of now: of a server that hasn't listed
    its own, nothing is known yet. Raises `ConfigError`."""
    of_servers = agent.served
    return [
        name
        for name in agent.every_tool
        if name not in of_servers or _brought(agent, *of_servers[name]).known
    ]


def knowledge_of(name: str, agent: Agent) -> Knowledge:
    """The agent's documents that its table of that name declares. Raises `ConfigError`."""
    tables = [table for table, one in agent.tool.items() if isinstance(one, KnowledgeTool)]
    if name not in tables:
        have = ", ".join(tables) or "none"
        raise ConfigError(f"no [tool.{name}] with type = 'knowledge'; there are: {have}")
    tool = _made(name, agent)
    assert isinstance(tool, Knowledge)
    return tool


async def prepare(agent: Agent) -> None:
    """Have what its tools need ready, so that no caller waits for it. Raises `ConfigError`.

    Its servers are started, and not waited for: that does `servers`.
    """
    check(agent)
    for name, table in agent.tool.items():
        if isinstance(table, KnowledgeTool):
            await knowledge_of(name, agent).prepare()
    await servers(agent, 0)


async def servers(agent: Agent, within_s: float = NEW_SERVERS_S) -> None:
    """Have its servers of tools running, and waited for if they are new. Raises `ConfigError`."""
    tables = {name: one for name, one in agent.tool.items() if isinstance(one, McpTool)}
    if tables:
        home = Path(agent.file).parent
        every = {name: mcp.server_of(name, table, home) for name, table in tables.items()}
        await mcp.up(every.values(), within_s)
        for name, server in every.items():
            server.expect(tables[name].tools, f"{agent.file} [tool.{name}]")


def keep(agents: Iterable[Agent]) -> None:
    """End the servers of tools that none of these has."""
    mcp.keep(
        (table, Path(agent.file).parent)
        for agent in agents
        for table in agent.tool.values()
        if isinstance(table, McpTool)
    )


async def close() -> None:
    """End what was started for tools."""
    await mcp.close()


def check(agent: Agent) -> None:
    """Whether what its file declares can be used. Raises `ConfigError` with the cure."""
    of_servers = agent.served
    for name in agent.every_tool:
        table = of_servers[name][0] if name in of_servers else name
        if table not in agent.tool:
            continue
        try:
            named(name, agent)
        except ConfigError as error:
            raise ConfigError(f"{agent.file} [tool.{table}]: {error}") from error


def may_run_again(name: str, agent: Agent) -> bool:
    """Whether a tool that had begun may run once more."""
    try:
        return bool(getattr(named(name, agent), "again", False))
    except ConfigError:
        return False


def timeout_s(function: Function) -> float:
    """How long it may take."""
    return float(getattr(function, "timeout_s", TIMEOUT_S))


def _made(name: str, agent: Agent) -> Http | Knowledge:
    table = agent.tool[name]
    assert not isinstance(table, McpTool)
    match table:
        case HttpTool():
            return Http(name, table)
        case KnowledgeTool():
            return Knowledge(name, table, Path(agent.file).parent)


def _brought(agent: Agent, table: str, tool: str) -> Mcp:
    """The one of that name at that table's server."""
    one = agent.tool[table]
    assert isinstance(one, McpTool)
    return Mcp(mcp.server_of(table, one, Path(agent.file).parent), tool, one)


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
