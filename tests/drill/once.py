"""The drill `tool_once`: workers are killed around the moment in which tools are asked for.

Half of the callers press the key of a tool in each round, which takes 0.6 s at a service that
writes down every request: those of extension 700 one that may not be done twice, those of 701 one
that may be asked for twice, because the service knows `Idempotency-Key`. The other half is being
spoken to. A worker dies by SIGKILL 0.4 to 1.5 s after a key was pressed; the request comes 0.65 s
after it.

Whose use a request was its key tells: there is one for each turn of a call. A use that comes by two
keys would be carried out twice by the best of services. `keys` counts uses, `keys_again` those that
were asked for again after a takeover, `unknown` those that weren't, because nobody could know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from bridge.toolbox import http
from tests.drill.deaths import in_blocks, kill
from tests.drill.records import Records, Transcript
from tests.drill.stage import Options, Stage
from tests.drill.tally import Tally
from tests.lab.redis import Redis

TAKES_S = 0.6
_TOOLS = """
[tool.{name}]
type = "http"
description = "Does something that counts."
url = "{url}/{name}"
method = "POST"
idempotent = {twice}

[drill]
tool = "{name}"
"""
_MOST_TURNS, _MOST_A_TURN = 200, 3


@dataclass
class Service:
    """Writes down every request, when it comes; a context manager."""

    requests: list[tuple[str, str]] = field(default_factory=list)
    """Of each, its path and its key."""

    def __enter__(self) -> Self:
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                requests.append((self.path, self.headers["Idempotency-Key"]))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                time.sleep(TAKES_S)
                with contextlib.suppress(OSError):  # who asked may be dead
                    self.send_response(200)
                    self.send_header("Content-Length", "4")
                    self.end_headers()
                    self.wfile.write(b"done")

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *arguments: object) -> None:
                pass  # whoever was killed breaks off

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class OnceRecords(Records):
    """Knows from the service's book how often the tool was used for each caller."""

    def __init__(self, redis: Redis, service: Service, tally: Tally) -> None:
        super().__init__(redis, Path())
        self.service, self.tally = service, tally
        self._whose: dict[str, int] = {}

    def take(self, numbers: Collection[int]) -> dict[int, Transcript]:
        """As it was; and whose the keys of these callers' calls would be."""
        self._whose = {
            key: number
            for number, (tag, _) in self.read(numbers).items()
            for key in _keys(tag.partition("{")[2].rstrip("}"))
        }
        found = super().take(numbers)
        unknown = sum(
            "it is not known whether it was done" in event
            for told in found.values()
            for event in told.events
        )
        self._add("unknown", unknown)
        return found

    def tools_used(self) -> Counter[int]:
        """Of each caller, the uses since the last time: each by a key of its own."""
        made, self.service.requests[:] = [*self.service.requests], []
        times = Counter(made)
        for (path, key), n in times.items():
            if path == "/once" and n > 1:
                self.tally.miss("tools_twice", f"{path} came {n} times with the key {key}")
            if key not in self._whose:
                self.tally.miss("tools_twice", f"{path} came with the key {key}, which is no use's")
        self._add("requests", len(made))
        self._add("keys", len(times))
        self._add("keys_again", sum(n > 1 for n in times.values()))
        return Counter(self._whose[key] for _, key in times if key in self._whose)

    def _add(self, what: str, n: int) -> None:
        self.tally.extra[what] = int(str(self.tally.extra.get(what, 0))) + n


def _keys(call_id: str) -> list[str]:
    """Every key that a use of a tool in that call could have."""
    found = []
    for name in ("once", "twice"):
        what = hashlib.sha256(f"{name} {json.dumps({})}".encode()).hexdigest()[:16]
        found += [
            str(uuid.uuid5(http.NAMESPACE, f"{call_id}:{turn}:{what}:{n}"))
            for turn in range(_MOST_TURNS)
            for n in range(1, _MOST_A_TURN + 1)
        ]
    return found


class OnceStage(Stage):
    """A stage whose agents use the service."""

    def prepare(self, started: contextlib.ExitStack) -> None:
        self.service = started.enter_context(Service())
        folder = Path(str(self.made["agents"]["folder"]))
        for agent, name, twice in (("demo", "once", "false"), ("echo", "twice", "true")):
            path = folder / f"{agent}.toml"
            tool = _TOOLS.format(name=name, url=self.service.url, twice=twice)
            path.write_text(path.read_text().replace('tools = ["count"]\n', "") + tool)

    def recorded(self, folder: Path) -> Records:
        return OnceRecords(self.stack.redis, self.service, self.tally)


def tool_once(options: Options) -> Tally:
    """`kill -9` of one of two workers, while half of all callers use a tool."""
    with OnceStage("tool_once", options) as stage:
        return in_blocks(
            stage,
            lambda: kill(stage.random.choice(stage.busy())),
            tool_users=options.calls,
            tool_spread=(0.4, 1.5),
            tool_s=3.0,
            round_s=6.5,
            spoken=False,
            early=False,
        )
