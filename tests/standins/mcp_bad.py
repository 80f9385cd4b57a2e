"""An MCP server that knows how to misbehave: the least that can be called one, on stdio.

`MANNERS` in its environment says how it is at the beginning: `silent` answers nothing, `crash` ends
with a line on stderr, `loop` lists its tools without an end; else it is good until a tool is
called, whose name says what it does then.
"""

import json
import os
import sys
import time

TOOLS = ("good", "garbage", "endless", "flood", "hang", "wrong", "huge")
SCHEMA = {"type": "object", "properties": {}}
NOTICE = {"jsonrpc": "2.0", "method": "notifications/message"}
LOG = {**NOTICE, "params": {"level": "info", "data": "x" * 200}}


def put(message) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(request, result) -> None:
    put({"jsonrpc": "2.0", "id": request["id"], "result": result})


def call(request) -> None:
    match request["params"]["name"]:
        case "garbage":
            for _ in range(2000):
                os.write(1, b"{{{ \xff\xfe no message\n")
        case "endless":
            while True:
                os.write(1, b"x" * 65536)
        case "flood":
            while True:
                put(LOG)
        case "hang":
            time.sleep(3600)
        case "wrong":
            answer(request, {"content": "none"})
            return
        case "huge":
            answer(request, {"content": [{"type": "text", "text": "word " * 2_000_000}]})
            return
    answer(request, {"content": [{"type": "text", "text": "fine"}]})


def main() -> None:
    manners = os.environ.get("MANNERS")
    if manners == "crash":
        sys.exit("no licence was found")
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request or manners == "silent":
            continue
        match request["method"]:
            case "initialize":
                version = request["params"]["protocolVersion"]
                info = {"name": "bad", "version": "0"}
                able = {"tools": {}}
                answer(
                    request, {"protocolVersion": version, "capabilities": able, "serverInfo": info}
                )
            case "tools/list":
                tools = [{"name": name, "inputSchema": SCHEMA} for name in TOOLS]
                more = {"nextCursor": "again"} if manners == "loop" else {}
                answer(request, {"tools": tools, **more})
            case "tools/call":
                call(request)
            case _:
                error = {"code": -32601, "message": "unknown"}
                put({"jsonrpc": "2.0", "id": request["id"], "error": error})


if __name__ == "__main__":
    main()
