"""A Redis server of the lab's own: private port and directory, loopback only, gone when stopped."""

from __future__ import annotations

import socket
import time

from tests.lab.root import LabError, free_port, program
from tests.lab.server import Server

_START_S = 20.0


class Redis(Server):
    """`with Redis() as redis: redis.url` gives a server of your own.

    Args:
        persist: write an append-only file with every command, so that `restart()` finds what was
            written before; without it a restarted server is empty.
        port: TCP port; by default a free one.
        bind: the address that it listens on.
    """

    def __init__(
        self, *, persist: bool = False, port: int | None = None, bind: str = "127.0.0.1"
    ) -> None:
        super().__init__("redis")
        self.bind = bind
        self.port = port or free_port()
        self._persist = persist

    @property
    def url(self) -> str:
        return f"redis://{self.bind}:{self.port}/0"

    @property
    def version(self) -> str:
        """Such as `8.0.6`, said by the running server."""
        for line in self.command("INFO", "server").splitlines():
            if line.startswith("redis_version:"):
                return line.partition(":")[2].strip()
        raise LabError("Redis did not say its version")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._make_directory()
        options = {
            "bind": self.bind,
            "protected-mode": "no",
            "port": str(self.port),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self._persist else "no",
            "appendfsync": "always",
            "daemonize": "no",
        }
        arguments = [text for key, value in options.items() for text in (f"--{key}", value)]
        process = self._launch([program("redis-server"), *arguments])
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                if self.command("PING") == "PONG":
                    return
            except OSError:
                time.sleep(0.02)
        said = self._last_words()
        self.close()
        raise LabError(f"Redis did not start on port {self.port}: {said}")

    def command(self, *words: str) -> str:
        """Send one command over a connection of its own and return its simple or bulk reply.

        For readiness and facts only; tests talk to the server through the bridge or redis-py.
        """
        request = f"*{len(words)}\r\n" + "".join(
            f"${len(word.encode())}\r\n{word}\r\n" for word in words
        )
        with socket.create_connection((self.bind, self.port), timeout=5) as connection:
            connection.sendall(request.encode())
            with connection.makefile("rb") as stream:
                head = stream.readline().decode().rstrip("\r\n")
                if head.startswith("$"):
                    return stream.read(int(head[1:])).decode()
                if head.startswith("-") or not head:
                    raise OSError(f"Redis said {head!r}")
                return head[1:]

    def _last_words(self) -> str:
        lines = (self.directory / "console").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it left no word"
