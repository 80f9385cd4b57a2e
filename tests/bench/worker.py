"""A worker that echoes: the caller's frames out of the slots' rings, and back into them.

Uses the very client that the real worker uses, at the demo's 16 kHz, and hands audio back in pieces
of 200 ms as the demo's voice does. A program of its own:

    python -m tests.bench.worker '{"runtime_dir": ..., "calls": ..., "port": ...}'

Prints `ready`, then obeys lines on its standard input: `speak N` plays N single frames into an
empty queue and notes when; `end` writes what was recorded and leaves.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bridge.media.base import Up
from bridge.media.client import MediaClient
from bridge.media.handle import Slot
from tests.bench.generator import FRAME_MS, address

_SETTLE_S = 1.5


@dataclass
class Task:
    """What a worker has to do."""

    runtime_dir: str
    calls: int
    port: int
    """Of the generator."""
    first: int = 0
    """Its first stream."""
    rate: int = 16_000
    piece_ms: int = 200
    echo: bool = True
    record: int = 0
    """Calls whose frames are kept, spread over all."""
    stall_ms: int = 0
    """Runs Python without a pause for so long, every 200 ms."""
    out: str = ""
    codec: str = "PCMU"
    kept: list[int] = field(default_factory=list)


class Echo:
    """One call."""

    def __init__(self, slot: Slot, piece: int, later: int) -> None:
        """`later`: samples by which its pieces come after another call's: calls are not in step."""
        self._slot, self._piece = slot, piece
        self._have: list[np.ndarray] = []
        self._samples = 0
        self._lead = 2 * piece + later  # an engine runs ahead: 400 ms before the first word

    def __call__(self, up: Up) -> None:
        """Take frames; give back a piece when there is one."""
        self._have.append(up.pcm)
        self._samples += len(up.pcm)
        if self._samples >= max(self._piece, self._lead):
            whole = np.concatenate(self._have)
            self._have.clear()
            self._samples = self._lead = 0
            self._slot.play(1, whole)


class Recorder:
    """One call whose frames are kept with the times at which they were handed up."""

    def __init__(self, stream: int, then: Echo | None) -> None:
        self.stream, self._then = stream, then
        self.at: list[tuple[int, int, int]] = []
        self.pcm: list[np.ndarray] = []

    def __call__(self, up: Up) -> None:
        """Keep, then go on."""
        self.at.append((time.monotonic_ns(), up.at_ms, len(up.speech)))
        self.pcm.append(up.pcm.copy())
        if self._then is not None:
            self._then(up)


async def main(task: Task) -> None:
    """Until told to end."""
    client = await MediaClient.connect(Path(task.runtime_dir), f"bench-{task.first}")
    slots: list[Slot] = []
    recorders: list[Recorder] = []
    listeners: list[Callable[[Up], None]] = []
    piece = task.rate * task.piece_ms // 1000
    every = max(1, task.calls // task.record) if task.record else 0
    for i in range(task.calls):
        stream = task.first + i
        remote = (address(stream), task.port)
        slot = await client.open(f"bench-{stream}", remote, task.codec, task.rate)
        slots.append(slot)
        later = i % (task.piece_ms // FRAME_MS) * (task.rate * FRAME_MS // 1000)
        echo = Echo(slot, piece, later) if task.echo else None
        if every and i % every == 0 and len(recorders) < task.record:
            recorder = Recorder(stream, echo)
            recorders.append(recorder)
            listeners.append(recorder)
        else:
            listeners.append(echo or _ignore)
    for slot in slots:
        slot.on_frames = _ignore
    await asyncio.sleep(_SETTLE_S)  # what has waited in the rings meanwhile is nobody's
    for slot, listener in zip(slots, listeners, strict=True):
        slot.on_frames = listener
    stalling = asyncio.create_task(_stall(task.stall_ms)) if task.stall_ms else None
    print("ready", flush=True)
    lines = await _stdin()
    spoken: list[int] = []
    while (line := (await lines.readline()).split()) and line[0] != b"end":
        if line[0] == b"speak":
            spoken = await _speak(slots[0], task.rate, int(line[1]))
            print("spoken", flush=True)
    if stalling is not None:
        stalling.cancel()
    if task.out:
        _save(task, recorders, spoken)
    print("ended", flush=True)
    await client.close()


def _ignore(up: Up) -> None:
    """Frames that nobody wants."""


async def _stall(ms: int) -> None:
    """What a bad engine does: pure Python, the interpreter lock held, the loop stopped."""
    while True:
        until = time.monotonic() + ms / 1000
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0.2 - ms / 1000)


async def _speak(slot: Slot, rate: int, count: int) -> list[int]:
    """Single frames of a tone, each into an empty queue; when each was handed over, ns."""
    tone = np.round(8000 * np.sin(2 * np.pi * 1000 / rate * np.arange(rate // 50)))
    frame = tone.astype(np.int16)
    spoken, chance = [], random.Random(count)
    for item in range(1, count + 1):
        await asyncio.sleep(0.14 + chance.random() * 0.02)  # anywhere in the 20 ms
        spoken.append(time.monotonic_ns())
        slot.play(item, frame)
        slot.done(item)
    return spoken


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _save(task: Task, recorders: list[Recorder], spoken: list[int]) -> None:
    arrays: dict[str, np.ndarray] = {"spoken": np.array(spoken, np.int64)}
    for recorder in recorders:
        arrays[f"at_{recorder.stream}"] = np.array(recorder.at, np.int64).reshape(-1, 3)
        arrays[f"pcm_{recorder.stream}"] = np.concatenate(recorder.pcm or [np.zeros(0, np.int16)])
    np.savez(task.out, **arrays)


if __name__ == "__main__":
    asyncio.run(main(Task(**json.loads(sys.argv[1]))))
