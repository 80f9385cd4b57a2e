"""A real MCP server, written with the official SDK.

    python mcp_server.py                stdio
    python mcp_server.py http PORT      streamable HTTP on the loopback

`DIARY` in its environment names a file that gets a line for each thing that is done.
"""

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("shop")


def note(what: str) -> None:
    if "DIARY" in os.environ:
        with Path(os.environ["DIARY"]).open("a") as file:
            print(what, file=file)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def stock(title: str) -> str:
    """How many copies of a book are there."""
    note(f"stock {title}")
    return f"seven copies of {title}"


@server.tool()
def reserve(title: str, copies: int = 1) -> dict[str, str]:
    """Reserve a book."""
    note(f"reserve {title}")
    return {"reserved": title, "copies": str(copies)}


@server.tool()
def key(context: Context) -> str:
    """Which key the call came with."""
    return str(context.request_context.meta)


@server.tool()
async def slow(seconds: float) -> str:
    """Take that long."""
    await asyncio.sleep(seconds)
    note("slow is done")
    return "done"


@server.tool()
def die() -> str:
    """End at once."""
    note("died")
    os._exit(3)


@server.tool()
def fail() -> str:
    """Raise."""
    raise ValueError("no such book\nand more lines")


@server.tool()
def much() -> str:
    """Answer at length."""
    return "word " * 200_000


@server.tool()
def secret() -> str:
    """What is in the environment."""
    return f"{os.environ.get('SHOP_KEY')} {os.environ.get('NOT_FOR_SERVERS')}"


if __name__ == "__main__":
    note(f"started {os.getpid()}")
    if sys.argv[1:2] == ["http"]:
        server.run("streamable-http", port=int(sys.argv[2]))
    else:
        server.run()
