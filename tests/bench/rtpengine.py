"""Debian's rtpengine in userspace, told of calls by its own protocol ("ng": bencode over UDP)."""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Self

from tests.bench.generator import Destination, address
from tests.bench.machine import cores, on_core
from tests.lab.root import REPOSITORY, LabError, free_port

_ADDRESS = "127.0.0.2"
"""Of loopback too, and nobody else's: all of its ports are free."""


class Rtpengine:
    """`with Rtpengine() as r: here, there = r.call(0, generator.port)`."""

    def __init__(self) -> None:
        program = REPOSITORY / ".lab-bench" / "bin" / "rtpengine"
        if not program.exists():
            raise LabError(
                "rtpengine is not set up: run 'make bench' (or tests/lab/setup.sh bench)"
            )
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._ng = ("127.0.0.1", free_port(socket.SOCK_DGRAM))
        self._process = subprocess.Popen(
            [
                str(program), "--config-file=none", "--table=-1", "--foreground", "--log-stderr",
                "--log-level=4", f"--listen-ng=127.0.0.1:{self._ng[1]}", f"--interface={_ADDRESS}",
                "--port-min=10000", "--port-max=60000",
            ],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            preexec_fn=on_core(cores()[0]),
        )  # fmt: skip
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(0.5)
        self._number = 0
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                said = self._log.read().decode(errors="replace").strip().splitlines()
                self.__exit__(None, None, None)
                raise LabError(f"rtpengine did not start: {said[-1] if said else '?'}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()
        self._log.close()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def call(self, stream: int, port: int) -> tuple[Destination, Destination]:
        """Join two streams of the generator; where the one and the other send to."""
        names: dict[str, object] = {
            "call-id": f"bench-{stream}-{secrets.token_hex(4)}",
            "from-tag": "a",
        }
        rest: dict[str, object] = {"ICE": "remove", "replace": ["origin"]}
        offer = self._ask({"command": "offer", "sdp": _sdp(stream, port), **names, **rest})
        answer = {"command": "answer", "sdp": _sdp(stream + 1, port), "to-tag": "b"}
        return self._place(self._ask({**answer, **names, **rest})), self._place(offer)

    def _place(self, reply: bytes) -> Destination:
        found = re.search(rb"m=audio (\d+)", reply)
        if found is None:
            raise LabError(f"rtpengine gave no port: {reply[:200]!r}")
        return _ADDRESS, int(found.group(1))

    def _answers(self) -> bool:
        try:
            return b"pong" in self._ask({"command": "ping"})
        except (TimeoutError, ConnectionRefusedError):
            time.sleep(0.1)
            return False

    def _ask(self, message: dict[str, object]) -> bytes:
        self._number += 1
        cookie = f"{self._number} ".encode()
        for _ in range(4):
            self._socket.sendto(cookie + _bencode(message), self._ng)
            try:
                reply = self._socket.recv(65536)
                while not reply.startswith(cookie):
                    reply = self._socket.recv(65536)
            except TimeoutError:
                if message["command"] == "ping":
                    raise
                continue
            else:
                return reply
        raise LabError(f"rtpengine does not answer to '{message['command']}'")


def _sdp(stream: int, port: int) -> str:
    return (
        f"v=0\r\no=- 1 1 IN IP4 {address(stream)}\r\ns=-\r\nc=IN IP4 {address(stream)}\r\n"
        f"t=0 0\r\nm=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )


def _bencode(value: object) -> bytes:
    match value:
        case str():
            data = value.encode()
            return f"{len(data)}:".encode() + data
        case list():
            return b"l" + b"".join(map(_bencode, value)) + b"e"
        case dict():
            pairs = (_bencode(key) + _bencode(value[key]) for key in sorted(value))
            return b"d" + b"".join(pairs) + b"e"
    raise TypeError(type(value))
