"""A voice that can die: a process of its own, which speaks tones faster than they are heard.

    request   a line of JSON: [id, Hz, ms]
    answer    <u32 id> <u32 length> int16 at RATE Hz; several, the last one of no length

It ends when stdin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from bridge.engines.base import Pcm
from bridge.errors import EngineError

RATE = 8000
AWAY = "voice-away"
"""While a file of that name is there, no voice can be started."""
_PIECE_MS, _TAKES_MS = 200, 160


def tone(hz: int, ms: int) -> Pcm:
    """A sine, int16 (n,) at `RATE` Hz."""
    wave = 8000 * np.sin(2 * np.pi * hz * np.arange(ms * RATE // 1000) / RATE)
    return wave.astype(np.int16)


class Voice:
    """A worker's; started when it is needed."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where `AWAY` may be."""
        self._folder = folder
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Queue[bytes | None]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def say(self, hz: int, ms: int) -> AsyncIterator[Pcm]:
        """A tone in pieces. Raises `EngineError` when the process dies."""
        await self.start()
        assert self._process
        assert self._process.stdin
        mine = next(self._ids)
        answers = self._asked[mine] = asyncio.Queue()
        try:
            self._process.stdin.write(json.dumps([mine, hz, ms]).encode() + b"\n")
            while (piece := await answers.get()) is not None:
                if not piece:
                    return
                yield np.frombuffer(piece, np.int16)
        finally:
            del self._asked[mine]
        raise EngineError("the voice died")

    async def start(self) -> None:
        """Start it, if it doesn't run. Raises `EngineError`."""
        async with self._lock:
            if self._reader is not None and not self._reader.done():
                return
            if (self._folder / AWAY).exists():
                raise EngineError("there is no voice")
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.drill.voice"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            self._reader = asyncio.create_task(self._read(self._process), name="voice")

    async def close(self) -> None:
        """End it."""
        if self._process is not None and self._reader is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                who, length = struct.unpack("<II", await process.stdout.readexactly(8))
                piece = await process.stdout.readexactly(length)
                if who in self._asked:
                    self._asked[who].put_nowait(piece)
        await process.wait()
        for queue in self._asked.values():
            queue.put_nowait(None)


async def _speak(who: int, hz: int, ms: int) -> None:
    pcm = tone(hz, ms)
    pieces = np.array_split(pcm, max(1, ms // _PIECE_MS))
    for piece in pieces:
        os.write(1, struct.pack("<II", who, piece.nbytes) + piece.tobytes())
        await asyncio.sleep(_TAKES_MS / 1000)
    os.write(1, struct.pack("<II", who, 0))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    source = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(source), sys.stdin)
    async with asyncio.TaskGroup() as tasks:
        while line := await source.readline():
            tasks.create_task(_speak(*json.loads(line)))


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_serve())
