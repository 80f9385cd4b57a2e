"""A Redis server of the lab's own: private port and directory, loopback only, gone when stopped."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.lab.root import LabError, free_port, program

_START_S = 20.0


class Redis:
    """`with Redis() as redis: redis.url` gives a server of your own.

    Args:
        persist: write an append-only file with every command, so that `restart()` finds what was
            written before; without it a restarted server is empty.
        port: TCP port on 127.0.0.1; by default a free one.
    """

    def __init__(self, *, persist: bool = False, port: int | None = None) -> None:
        self.port = port or free_port()
        self._persist = persist
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def version(self) -> str:
        """Such as `8.0.6`, said by the running server."""
        for line in self.command("INFO", "server").splitlines():
            if line.startswith("redis_version:"):
                return line.partition(":")[2].strip()
        raise LabError("Redis did not say its version")

    def __enter__(self) -> Redis:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="ari-bridge-redis-"))
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._directory),
            "save": "",
            "appendonly": "yes" if self._persist else "no",
            "appendfsync": "always",
            "logfile": str(self._directory / "redis.log"),
            "daemonize": "no",
        }
        arguments = [text for key, value in options.items() for text in (f"--{key}", value)]
        self._process = subprocess.Popen(
            [program("redis-server"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C is for us, who then stop it in order
        )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if self.command("PING") == "PONG":
                    return
            except OSError:
                time.sleep(0.02)
        said = self._last_words()
        self.close()
        raise LabError(f"Redis did not start on port {self.port}: {said}")

    def stop(self) -> None:
        """End the server in order; what was written stays for `start()` where `persist` is set."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9` the server."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop and remove every file."""
        self.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def command(self, *words: str) -> str:
        """Send one command over a connection of its own and return its simple or bulk reply.

        For readiness and facts only; tests talk to the server through the bridge or redis-py.
        """
        request = f"*{len(words)}\r\n" + "".join(
            f"${len(word.encode())}\r\n{word}\r\n" for word in words
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request.encode())
            with connection.makefile("rb") as stream:
                head = stream.readline().decode().rstrip("\r\n")
                if head.startswith("$"):
                    return stream.read(int(head[1:])).decode()
                if head.startswith("-") or not head:
                    raise OSError(f"Redis said {head!r}")
                return head[1:]

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _last_words(self) -> str:
        assert self._directory is not None
        log = self._directory / "redis.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return lines[-1] if lines else "it left no log"
