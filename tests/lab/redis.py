"""A Redis server of the lab's own: private port and directory, loopback only, gone when stopped."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.lab.root import LabError, free_port, program
from tests.lab.server import Server

_START_S = 20.0


class Redis(Server):
    """`with Redis() as redis: redis.url` gives a server of your own.

    Args:
        persist: write an append-only file with every command, so that `restart()` finds what was
            written before; without it a restarted server is empty.
        port: TCP port; by default a free one.
        options: more of redis.conf.
        bind: the address that it listens on.
    """

    def __init__(
        self,
        *,
        persist: bool = False,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
        bind: str = "127.0.0.1",
    ) -> None:
        super().__init__("redis")
        self._options = options or {}
        self.bind = bind
        self.port = port or free_port()
        self._persist = persist

    @property
    def url(self) -> str:
        return f"redis://{self.bind}:{self.port}/0"

    @property
    def served(self) -> int:
        """The port that its clients are to use: the one by TLS, where it has one."""
        return int(self._options.get("tls-port", self.port))

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
            **self._options,
        }
        arguments = [text for key, value in options.items() for text in (f"--{key}", value)]
        self._await(self._launch([program("redis-server"), *arguments]))

    def _await(self, process: subprocess.Popen[bytes]) -> None:
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


class Cramped(Redis):
    """One whose disk can be full: it is told so, and not killed for it."""

    def __init__(self) -> None:
        # With `always` it would end itself.
        super().__init__(persist=True, options={"appendfsync": "everysec"})

    def _launch(
        self, command: Sequence[object], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        words = ["sh", "-c", 'trap \'\' XFSZ; exec "$0" "$@"', *command]
        return super()._launch(words, environment)

    def full(self, disk: bool) -> None:
        """From now on no file can grow, or each can again."""
        _, most = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (1 if disk else most, most))


class Sentinel(Redis):
    """One Sentinel that watches `master` under the name `calls`, and is quick to judge.

    Args:
        master: whom it watches.
        options: more of its configuration; with `tls-port` that is the port that it knows others'
            by, too.
    """

    def __init__(self, master: Redis, options: Mapping[str, str] | None = None) -> None:
        super().__init__(options=options)
        self._master = master

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/calls"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._make_directory()
        file = self.directory / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n"
            + "".join(f"{key} {value}\n" for key, value in self._options.items())
            + f"sentinel monitor calls 127.0.0.1 {self._master.served} 1\n"
            "sentinel down-after-milliseconds calls 500\n"
            "sentinel failover-timeout calls 2000\n"
        )
        self._await(self._launch([program("redis-server"), file, "--sentinel"]))


@contextlib.contextmanager
def cluster(more: Callable[[], Mapping[str, str]] = dict) -> Iterator[list[Redis]]:
    """Three nodes that share the slots out among themselves, without replicas.

    Args:
        more: options of a node, asked for each.
    """
    options = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
    buses = [str(free_port()) for _ in range(3)]
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(Redis(options={**options, **more(), "cluster-port": bus}))
            for bus in buses
        ]
        for n, node in enumerate(nodes):
            first, last = n * 16384 // 3, (n + 1) * 16384 // 3 - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(n + 1))
        for node in nodes[1:]:
            node.command("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port), buses[0])
        deadline = time.monotonic() + _START_S
        while any("cluster_state:ok" not in node.command("CLUSTER", "INFO") for node in nodes):
            if time.monotonic() > deadline:
                raise LabError("the Redis Cluster did not come about")
            time.sleep(0.05)
        yield nodes
