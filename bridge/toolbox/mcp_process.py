"""One MCP server's client, in a process of its own: the only thing here that imports the SDK.

    worker ◀─ JSON lines ─▶ this process ◀─ MCP, by the official SDK ─▶ the server

What a server may do to its client (garbage without an end, an answer of a gigabyte, a schema whose
check takes minutes) it does to this process, and the worker's loop never sees it: what goes on to
there is bounded. This process is simple because it may end at any time. It ends when its input
does, when the server's connection does, when the server answers nothing any more, and when it has
grown too large; whoever started it starts it again. It is run as a file and imports nothing of
ours: a second less until a server is there.

    in    {"command": [...], "env": {...}, "folder": "..."} or {"url": ..., "headers": {...}}, and
          with it "version" (ours) and "answer_s" (so soon the server must answer when it is asked
          whether it is there): this is the first line
          {"id": 1, "tool": "...", "arguments": {...}, "key": "...", "within_s": 10}
          {"cancel": 1}                            nobody waits for it any more
    out   {"tools": {name: {"description", "parameters", "again"}}}   when it is there, and anew
          {"id": 1, "ok": true, "value": "..."}    an answer, or why there is none
          {"ended": "..."}                         why it ends, the last line
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Self, TextIO, cast

import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

KEY = "ari-bridge/idempotency-key"
CONNECT_S = 60.0
"""A server that is fetched first (npx, uvx) takes its time."""
BEAT_S = 30.0
"""So often a server is asked what tools it has."""
MOST_TOOLS, MOST_PAGES = 128, 16
MOST_TEXT, MOST_SCHEMA, MOST_VALUE, MOST_REASON = 1000, 8000, 8000, 300
"""Characters: of a description, a schema, an answer, and of why there is none."""
MOST_KB = 600_000
"""Of memory: three times what a client needs that has had an answer of ten megabytes."""
LOOK_S = 0.25
LAST_WORDS_S = 0.1

# The server ends when this process does, however that does: PR_SET_PDEATHSIG is 1.
_GUARD = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Watched:
    """A stream of the SDK's that tells when it is over."""

    def __init__(self, stream: Any, over: asyncio.Event) -> None:
        """`over` is set then."""
        self._stream, self._over = stream, over

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._over.set()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._stream.__aexit__(*error)


class Session:
    """With one server."""

    def __init__(self, config: dict[str, Any]) -> None:
        """`config`: the first line of our input."""
        self._config = config
        self._over = asyncio.Event()
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._told: dict[str, Any] = {}
        self._ill = asyncio.Event()
        self._last = ""
        self._reader: threading.Thread | None = None
        self._writer: TextIO

    async def run(self, lines: asyncio.StreamReader) -> None:
        """Serve until something ends, and tell what."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(CONNECT_S):
                    self._client = await stack.enter_async_context(await self._made(stack))
                    await self._list()
            except TimeoutError:
                tell({"ended": f"it doesn't answer within {CONNECT_S:.0f} s"})
                return
            except Exception as error:  # noqa: BLE001 - whatever the SDK raises: it is told
                tell({"ended": await self._last_words() or _reason(error)})
                return
            works = [self._obey(lines), self._beat(), self._gone(), _small()]
            tasks = [asyncio.ensure_future(work) for work in works]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            tell({"ended": next(task.result() for task in done)})
            for task in (*tasks, *self._calls.values()):
                task.cancel()

    # The server -----------------------------------------------------------------------------------

    async def _made(self, stack: contextlib.AsyncExitStack) -> Client:
        config = self._config
        if config.get("url"):
            limits = httpx2.Timeout(CONNECT_S, connect=5.0)
            http = httpx2.AsyncClient(headers=config["headers"], timeout=limits)
            await stack.enter_async_context(http)
            transport = streamable_http_client(config["url"], http_client=http)
        else:
            transport = stdio_client(
                StdioServerParameters(
                    command=sys.executable,
                    args=["-c", _GUARD, *config["command"]],
                    env=config["env"],
                    cwd=config["folder"],
                    encoding_error_handler="replace",
                ),
                errlog=self._errors(stack),
            )
        return Client(
            self._watched(transport),
            cache=None,
            client_info=types.Implementation(name="ari-bridge", version=config["version"]),
        )

    @contextlib.asynccontextmanager
    async def _watched(self, transport: Any) -> AsyncIterator[Any]:
        async with transport as (read, write):
            yield Watched(read, self._over), write

    def _errors(self, stack: contextlib.AsyncExitStack) -> Any:
        """What the server writes besides: its last line may say why it ended."""
        reader, writer = os.pipe()

        def read() -> None:
            rest = b""
            with os.fdopen(reader, "rb", buffering=0) as source:
                while piece := source.read(4096):
                    lines = (rest + piece).splitlines(keepends=True)
                    rest = b"" if lines[-1].endswith(b"\n") else lines.pop()[-4096:]
                    for line in lines:
                        self._last = _line(line.decode(errors="replace")) or self._last

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()
        self._writer = stack.enter_context(os.fdopen(writer, "w"))
        return self._writer

    async def _last_words(self) -> str:
        """What it wrote last."""
        if self._reader is not None:
            self._writer.close()  # then the pipe ends with the server
            await asyncio.to_thread(self._reader.join, LAST_WORDS_S)
        return self._last

    async def _list(self) -> None:
        """Ask it what it can do; tell, if that is new."""
        found: dict[str, Any] = {}
        cursor = None
        for _ in range(MOST_PAGES):
            page = await self._client.list_tools(cursor=cursor)
            for tool in page.tools[: MOST_TOOLS - len(found)]:
                if len(tool.name) <= 128 and (told := _told(tool)):
                    found[tool.name] = told
            cursor = page.next_cursor
            if not cursor or len(found) == MOST_TOOLS:
                break
        if found != self._told:
            self._told = found
            tell({"tools": found})

    async def _beat(self) -> str:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._ill.wait()
            self._ill.clear()
            try:
                async with asyncio.timeout(self._config["answer_s"]):
                    await self._list()
            except TimeoutError:
                return f"it answers nothing within {self._config['answer_s']:g} s"
            except Exception as error:  # noqa: BLE001 - as above
                return _reason(error)

    async def _gone(self) -> str:
        await self._over.wait()
        last = await self._last_words()
        return f"it ended; it wrote last: {last}" if last else "it ended"

    # The worker -----------------------------------------------------------------------------------

    async def _obey(self, lines: asyncio.StreamReader) -> str:
        async for line in lines:
            order = json.loads(line)
            if "cancel" in order:
                if task := self._calls.get(order["cancel"]):
                    task.cancel()
                continue
            task = asyncio.ensure_future(self._call(order))
            self._calls[order["id"]] = task
            task.add_done_callback(partial(self._answered, order["id"]))
        return "nobody needs it"

    def _answered(self, number: int, _: asyncio.Task[None]) -> None:
        del self._calls[number]

    async def _call(self, order: dict[str, Any]) -> None:
        if self._over.is_set():
            tell({"id": order["id"], "ok": False, "value": "the server isn't there any more"})
            return
        try:
            result = await self._client.call_tool(
                order["tool"],
                order["arguments"],
                order["within_s"],
                meta=cast("types.RequestParamsMeta", {KEY: order["key"]}),
            )
            ok, value = not result.is_error, _value(result)
        except asyncio.CancelledError:
            self._ill.set()  # too slow, most likely: is it there at all?
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._ill.set()
            ok, value = False, _reason(error)
        if not ok:
            value = _line(value) or "it failed, and doesn't say why"
        tell({"id": order["id"], "ok": ok, "value": value})


def tell(message: dict[str, Any]) -> None:
    """One line to the worker, if it is there."""
    line = json.dumps(message).encode() + b"\n"
    with contextlib.suppress(BrokenPipeError):
        while line:
            line = line[os.write(1, line) :]


async def _small() -> str:
    """Returns when we have grown too large."""
    while True:
        await asyncio.sleep(LOOK_S)
        if _most_kb() > MOST_KB:
            break
    return f"it sent more than {MOST_KB // 1000} MB have room for"


def _most_kb() -> int:
    """The most memory that this process has had; getrusage(2) would tell of the worker's, too."""
    with Path("/proc/self/status").open(encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def _told(tool: types.Tool) -> dict[str, Any] | None:
    """What a model and the worker have to know of it; None: it can't be used."""
    schema, hints = tool.input_schema, tool.annotations or types.ToolAnnotations()
    if schema.get("type") != "object" or len(json.dumps(schema)) > MOST_SCHEMA:
        return None
    return {
        "description": (tool.description or tool.title or "")[:MOST_TEXT],
        "parameters": {"properties": {}, **schema},
        "again": bool(hints.read_only_hint or hints.idempotent_hint),
    }


def _value(result: types.CallToolResult) -> str:
    """What of it a model can read."""
    parts = []
    for block in result.content:
        text = getattr(block, "text", None) or getattr(
            getattr(block, "resource", None), "text", None
        )
        parts.append(text or str(getattr(block, "uri", "")) or f"({block.type})")
    if not parts and result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    return "\n".join(parts)[:MOST_VALUE] or "done"


def _reason(error: BaseException) -> str:
    """One line: of a group, its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
        return "it gave no answer in time"
    if isinstance(error, ValidationError):
        return "what it answers isn't what the protocol has for that"
    if isinstance(error, MCPError) and error.code == types.CONNECTION_CLOSED:
        return "the server ended; it is not known whether it was done"
    text = error.message if isinstance(error, MCPError) else str(error)
    return _line(text) or type(error).__name__


def _line(text: str) -> str:
    return " ".join(text.split())[:MOST_REASON]


async def main() -> None:
    """Do what the first line says."""
    lines = asyncio.StreamReader(limit=1_000_000)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer)
    await Session(json.loads(await lines.readline())).run(lines)


if __name__ == "__main__":
    logging.disable()  # a line of garbage is a traceback to the SDK
    os.nice(5)
    asyncio.run(main())
