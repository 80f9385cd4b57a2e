"""Speech to text with moonshine (tiny, English), whose weights come inside its package.

The model is called for a whole utterance, behind our own endpointing. Its own detector of speech
is switched off (`vad_threshold` 0): left on, it splits off the first syllables of a phone call's
utterance as a segment of their own and makes words of them ("You", "It'"), and takes a third
longer.

One model a worker, called in one thread: the library lets go of the interpreter lock while it works
(measured: the event loop is late by no more than on an idle machine), and uses all cores itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from bridge.engines.base import Pcm, Shared
from bridge.engines.stt_queue import SttQueue
from bridge.errors import EngineError, EngineMissing

SHORT_MS, QUIET_MS = 1000, 200
"""Behind a short utterance the model wants to hear that nothing follows: with so much silence added
it got 71 of 120 single words right, instead of 54 ("Hey" was "Okay")."""


class Moonshine:
    """The model, and the thread in which it works."""

    rate: int = 16000

    def __init__(self, model: Any, thread: ThreadPoolExecutor) -> None:
        self._model = model
        self._thread = thread

    async def transcribe(self, pcm: Pcm) -> str:
        """The words of int16 (n,) at 16 kHz."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, pcm)

    def _work(self, pcm: Pcm) -> str:
        from moonshine_voice.errors import MoonshineError

        if len(pcm) < self.rate * SHORT_MS // 1000:
            pcm = np.pad(pcm, (0, self.rate * QUIET_MS // 1000))
        samples = (pcm.astype(np.float32) / 32768).tolist()
        try:
            transcript = self._model.transcribe_without_streaming(samples, self.rate)
        except MoonshineError as error:
            raise EngineError(f"moonshine: {error}") from error
        return " ".join(line.text.strip() for line in transcript.lines).strip()


@contextlib.asynccontextmanager
async def _running() -> AsyncIterator[SttQueue]:
    with ThreadPoolExecutor(1, "moonshine") as thread:
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(thread, _load)
        try:
            stt = Moonshine(model, thread)
            await stt.transcribe(np.zeros(16000, np.int16))  # the first run allocates
            queue = SttQueue(stt.transcribe, stt.rate)
            try:
                yield queue
            finally:
                await queue.close()
        finally:
            await loop.run_in_executor(thread, model.close)


def _load() -> Any:
    from moonshine_voice.errors import MoonshineError
    from moonshine_voice.moonshine_api import ModelArch
    from moonshine_voice.transcriber import Transcriber
    from moonshine_voice.utils import get_model_path

    path = get_model_path("tiny-en")
    if not path.is_dir():
        raise EngineMissing(
            "moonshine's weights are missing: "
            "pip install --force-reinstall 'moonshine-voice==0.1.0'"
        )
    try:
        return Transcriber(
            str(path), ModelArch.TINY, options={"vad_threshold": "0", "return_audio_data": "false"}
        )
    except (MoonshineError, OSError) as error:
        raise EngineMissing(f"moonshine can't be loaded: {error}") from error


async def moonshine(shared: Shared) -> SttQueue:
    """The worker's moonshine, which all its calls share. Raises `EngineMissing`."""
    return await shared.get("moonshine", _running)
