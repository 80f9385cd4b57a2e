"""The callers: our handle on `rtpgen`, and what they said and heard as arrays."""

from __future__ import annotations

import ipaddress
import mmap
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from tests.bench.machine import compiled, cores, on_core
from tests.lab.capture import PCMU, TABLES, Pcm
from tests.lab.root import LabError

FRAME = 160
FRAME_MS = 20
STRIDE = 151
"""Frames between the places where two neighbouring callers begin the same recording."""
_HEAD = np.dtype([(n, "u8") for n in ("calls", "packets", "received", "start_ns", "cpu_ns")])
_RECORD = np.dtype(
    [("ns", "u8"), ("stream", "u4"), ("timestamp", "u4"), ("ssrc", "u4"), ("seq", "u2"),
     ("kind", "u1"), ("size", "u1"), ("payload", "u1", FRAME)]
)  # fmt: skip
_FIRST = int(ipaddress.IPv4Address("127.1.0.0"))

Destination = tuple[str, int]


def address(stream: int) -> str:
    """Where a stream speaks from."""
    return str(ipaddress.IPv4Address(_FIRST + stream))


@dataclass
class Heard:
    """What a run gave."""

    sent_ns: npt.NDArray[np.uint64]
    """(packets, streams); 0 where a packet was left out."""
    records: npt.NDArray[np.void]
    """Received, in order of arrival."""
    start_ns: int
    cpu_s: float
    audio: npt.NDArray[np.uint8]

    @property
    def streams(self) -> int:
        """How many there are."""
        return int(self.sent_ns.shape[1])

    def said(self, stream: int) -> Pcm:
        """What a stream said, lost packets included."""
        frames = self.audio.reshape(-1, FRAME)
        at = (stream * STRIDE + np.arange(len(self.sent_ns))) % len(frames)
        return TABLES[PCMU][frames[at]].reshape(-1)

    def late_ms(self) -> float:
        """How late the generator itself was, p99."""
        packets, streams = self.sent_ns.shape
        due = self.start_ns + np.arange(packets * streams) * (FRAME_MS * 1e6 / streams)
        sent = self.sent_ns.reshape(-1).astype(np.float64)
        return float(np.percentile((sent - due)[sent > 0], 99)) / 1e6


class Generator:
    """`with Generator(...) as g:`, then `g.port`, `g.go(...)`, `g.wait()`."""

    def __init__(
        self, streams: int, seconds: float, audio: npt.NDArray[np.uint8], *, loss: float = 0.0,
        seed: int = 1,
    ) -> None:  # fmt: skip
        """`audio`: PCMU, whole frames, that all streams speak in a loop."""
        self._folder = tempfile.TemporaryDirectory(prefix="ari-bench-", dir=_memory())
        self._audio = audio
        folder = Path(self._folder.name)
        self._out, self._list = folder / "heard", folder / "destinations"
        (folder / "audio").write_bytes(audio.tobytes())
        self.streams = streams
        words = [streams, seconds, loss, seed, folder / "audio", STRIDE, self._out]
        self._process = subprocess.Popen(
            [str(compiled("rtpgen")), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=on_core(cores()[1], first=True),
        )
        said = self._line().split()
        if len(said) != 2 or said[0] != "ready":
            raise LabError("the generator did not start: is 127.0.0.0/8 on interface lo?")
        self.port = int(said[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._folder.cleanup()

    def go(self, destinations: Destination | list[Destination]) -> None:
        """Begin to speak, all to one place or each to its own."""
        if isinstance(destinations, tuple):
            destinations = [destinations] * self.streams
        rows = [(int(ipaddress.IPv4Address(ip)), port) for ip, port in destinations]
        self._list.write_bytes(np.array(rows, "u4").tobytes())
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._list}\n")
        self._process.stdin.flush()

    def wait(self) -> Heard:
        """Until it is done."""
        if self._line().strip() != "done":
            raise LabError("the generator ended too early")
        with self._out.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        head = np.frombuffer(memory, _HEAD, 1)[0]
        shape = int(head["packets"]), int(head["calls"])
        sent = np.frombuffer(memory, "u8", shape[0] * shape[1], _HEAD.itemsize)
        records = np.frombuffer(
            memory, _RECORD, int(head["received"]), _HEAD.itemsize + sent.nbytes
        )
        return Heard(
            sent.reshape(shape), records, int(head["start_ns"]), int(head["cpu_ns"]) / 1e9,
            self._audio,
        )  # fmt: skip

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def _memory() -> str | None:
    """A folder in memory, where there is one: no disk works beside what is measured."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
