"""The tools `mcp`: those of an MCP server, which a program of the operator's is or a URL leads to.

One task owns each server and its client (`bridge.toolbox.mcp_process`, a process of its own):

    start ─▶ lists its tools: up ─▶ ends, hangs, floods ─▶ a moment, longer each time ─▶ start

Until a server has listed its tools, models aren't told of them: their schemas are its own. One that
went down since is still told of; a call of it waits a little for the next start, and then fails by
one line, as it does when the server ends under it. Nothing is ever sent twice.

A worker has one of each server, for all calls and agents that declare it alike. One ends when no
agent declares it any more (`keep`). All end with the worker, however that ends: their input does,
and Linux sees to the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import importlib.util
import itertools
import json
import logging
import shutil
import sys
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bridge import __version__, secrets
from bridge.errors import ConfigError, ToolError
from bridge.toolbox.base import ToolContext
from bridge.tooltables import McpTool

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S, STEADY_S = 0.3, 60.0, 60.0
"""Before the next start: twice as long each time, until one has lived for a while."""
UP_S = 2.0
"""How long a call waits at most for a server that is about to start."""
MOST_LINE = 6_000_000
"""Bytes: more than all tools that are told of."""
ANSWER_S = 4.0
"""A server that doesn't say within that which tools it has is started again."""
END_S = 1.0
"""A process that was told to end may take so long."""

_NAMESPACE = uuid.UUID("0f6a3c1e-6a0d-4a58-9d86-6f5f4f6a3b55")
"""Of the keys: any constant will do (RFC 9562 section 6.6)."""

Told = Mapping[str, Mapping[str, Any]]
"""What a server says of each tool: `description`, `parameters`, `again`."""


class Server:
    """One server, while it is needed."""

    def __init__(self, name: str, table: McpTool, home: Path) -> None:
        """Nothing is started yet. Raises `ConfigError` with the cure."""
        if importlib.util.find_spec("mcp") is None:
            raise ConfigError("type = 'mcp' needs the extra: pip install 'ari-bridge[mcp]'")
        self.name, self._table, self._home = name, table, home
        if table.command and not _program(table.command[0], home):
            raise ConfigError(
                f"'command': there is no program '{table.command[0]}'; install it, or give its path"
            )
        self._config()
        self.tools: Told = {}
        """Those that it has, or had when it was last up."""
        self.up, self.tried = asyncio.Event(), asyncio.Event()
        """Whether it is there; whether that was found out once."""
        self.why = "it is being started"
        """It isn't there."""
        self._over = False
        self._process: asyncio.subprocess.Process | None = None
        self._owner: asyncio.Task[None] | None = None
        self._open: dict[int, asyncio.Future[str]] = {}
        self._numbers = itertools.count(1)
        self._said: set[str] = set()

    def start(self) -> None:
        """Have it running from now on, unless it was ended."""
        if self._owner is None and not self._over:
            self._owner = asyncio.create_task(self._own())

    async def close(self) -> None:
        """End it, for good."""
        self._over, self.why = True, "no agent declares it any more"
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner])
            self._owner = None

    def expect(self, tools: Iterable[str], where: str) -> None:
        """Say once for each that it hasn't, but should have; `where` names them."""
        for tool in tools:
            line = f"{where}: {self.name} has no tool '{tool}'; {_cure(tool, self.tools)}"
            if self.up.is_set() and tool not in self.tools and line not in self._said:
                self._said.add(line)
                log.error("%s", line)

    async def call(self, tool: str, arguments: Mapping[str, Any], key: str, within_s: float) -> str:
        """The answer's text. Raises `ToolError`."""
        self.start()
        try:
            async with asyncio.timeout(min(UP_S, within_s / 2)):
                await self.up.wait()
        except TimeoutError:
            raise ToolError(f"{self.name} isn't there: {self.why}") from None
        number = next(self._numbers)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._open[number] = answer
        order = {"id": number, "tool": tool, "arguments": dict(arguments), "key": key}
        self._send({**order, "within_s": within_s})
        try:
            return await answer
        except asyncio.CancelledError:
            self._send({"cancel": number})
            raise
        finally:
            self._open.pop(number, None)

    # How ------------------------------------------------------------------------------------------

    def _config(self) -> dict[str, Any]:
        """The first line to the process."""
        table, ours = self._table, {"answer_s": ANSWER_S, "version": __version__}
        if table.url:
            return {**ours, "url": table.url, "headers": _revealed(table.headers)}
        program, *arguments = table.command
        command = [_program(program, self._home), *arguments]
        own = {"command": command, "env": _revealed(table.env), "folder": str(self._home)}
        return {**ours, **own}

    async def _own(self) -> None:
        clock = asyncio.get_running_loop().time
        wait_s = FIRST_WAIT_S
        while True:
            began, said = clock(), self.why
            try:
                self.why = await self._live()
            except (OSError, ConfigError) as error:  # a secret that has gone, no more processes
                self.why = str(error)
            except ValueError:  # no line of ours, or one without an end
                self.why = "its client is out of order"
            self.tried.set()
            if clock() - began > STEADY_S:
                wait_s = FIRST_WAIT_S
            if said != self.why:
                log.warning("%s isn't there: %s; it is tried again", self.name, self.why)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _live(self) -> str:
        """From its start to its end; why it ended."""
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(Path(__file__).with_name("mcp_process.py"))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C is the worker's to handle
            limit=MOST_LINE,
        )
        try:
            self._send(self._config())
            return await self._listen(process)
        finally:
            self.up.clear()
            self._process = None
            for answer in self._open.values():
                if not answer.done():
                    lost = f"{self.name} ended; it is not known whether it was done"
                    answer.set_exception(ToolError(lost))
            await _ended(process)

    async def _listen(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout
        async for line in process.stdout:
            message = json.loads(line)
            if "ended" in message:
                return str(message["ended"])
            if "tools" in message:
                self.tools = message["tools"]
                self.up.set()
                self.tried.set()
                log.info("%s is there, with the tools %s", self.name, ", ".join(self.tools))
            elif (answer := self._open.get(message["id"])) and not answer.done():
                if message["ok"]:
                    answer.set_result(message["value"])
                else:
                    answer.set_exception(ToolError(message["value"]))
        return "its client ended"

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(message, default=str).encode() + b"\n")


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Returns when it has."""
    assert process.stdin
    process.stdin.close()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
    finally:  # also when we are told to end meanwhile
        if process.returncode is None:
            process.kill()
            await process.wait()


def _cure(tool: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(tool, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(known) or 'none'}"


def _program(name: str, home: Path) -> str | None:
    """Where it is; a path is relative to the agent's file."""
    return shutil.which(str(home / name) if "/" in name else name)


def _revealed(secret: Mapping[str, str]) -> dict[str, str]:
    return {name: secrets.reveal(text) for name, text in secret.items()}


_servers: dict[str, Server] = {}


_ending: set[asyncio.Task[None]] = set()


def _key(table: McpTool, home: Path) -> str:
    return repr((str(home), table.command, table.url, table.env, table.headers))


def server_of(name: str, table: McpTool, home: Path) -> Server:
    """The one server of such tables. Raises `ConfigError` with the cure."""
    key = _key(table, home)
    if key not in _servers:
        _servers[key] = Server(f"the MCP server '{name}'", table, home)
    return _servers[key]


async def up(servers: Iterable[Server], within_s: float) -> None:
    """Start those that aren't, and wait until it is known of each whether it is there."""
    waiting = []
    for server in servers:
        server.start()
        if not server.tried.is_set():
            waiting.append(asyncio.ensure_future(server.tried.wait()))
    if waiting:
        _, left = await asyncio.wait(waiting, timeout=within_s)
        for task in left:
            task.cancel()


def keep(tables: Iterable[tuple[McpTool, Path]]) -> None:
    """End the servers of all others, each with the home of its agent; nobody waits for that."""
    kept = {_key(table, home) for table, home in tables}
    for key in [key for key in _servers if key not in kept]:
        server = _servers.pop(key)
        log.info("%s ends: no agent declares it any more", server.name)
        task = asyncio.create_task(server.close())
        _ending.add(task)
        task.add_done_callback(_ending.discard)


async def close() -> None:
    """End them all."""
    servers = [*_servers.values()]
    _servers.clear()
    await asyncio.gather(*(server.close() for server in servers), *_ending)


class Mcp:
    """One tool of a server."""

    def __init__(self, server: Server, tool: str, table: McpTool) -> None:
        """`tool` is its name there."""
        told = server.tools.get(tool, {})
        self._server, self._tool = server, tool
        self.__name__ = tool
        self.known = bool(told)
        """Whether the server has told of it: only then can a model be."""
        self.description = told.get("description", "")
        self.parameters = told.get("parameters", {"type": "object"})
        self.again = bool(told.get("again")) if table.idempotent is None else table.idempotent
        self.timeout_s = table.timeout_s

    async def __call__(self, call: ToolContext, /, **arguments: Any) -> str:
        """What the server says. Raises `ToolError`."""
        key = str(uuid.uuid5(_NAMESPACE, call.key))
        return await self._server.call(self._tool, arguments, key, self.timeout_s)
