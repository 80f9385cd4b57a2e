"""Text to speech that a server does: its stream at the cascade's rate, and what is always said.

A `Voice` is what a vendor's adapter has to do. Its audio goes on as it comes; what every caller
hears (the greeting, the filler) is asked for once, before there are callers.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Protocol

import numpy as np

from bridge.audio.resample import RATES
from bridge.engines.base import Marks, Pcm
from bridge.engines.rates import RateStream, resample

PIECE_MS = 200
"""What was rendered before goes to the call in pieces of this length."""


class Voice(Protocol):
    """A vendor's."""

    def speak(self, text: str) -> AsyncGenerator[tuple[int, bytes], None]:
        """Audio of one sentence: sample rate in Hz, and 16-bit little-endian samples cut anywhere.

        Closed before its end, it gives up the request. Raises `EngineError`.
        """


class RemoteTts:
    """A `Tts` made of a voice."""

    def __init__(self, voice: Voice, rate: int) -> None:
        """`rate` in Hz is the cascade's."""
        self.rate = rate
        self._voice = voice
        self._ready: dict[str, Pcm] = {}

    async def say(self, text: str, first: bool) -> AsyncIterator[Pcm]:
        """Audio of one sentence, int16 pieces. Raises `EngineError`."""
        pcm = self._ready.get(text)
        if pcm is not None:
            step = self.rate * PIECE_MS // 1000
            for start in range(0, len(pcm), step):
                yield pcm[start : start + step]
            return
        stream = _Stream(self.rate)
        async with contextlib.aclosing(self._voice.speak(text)) as pieces:
            async for rate, data in pieces:
                if len(some := stream.take(rate, data)):
                    yield some
        if len(rest := stream.end()):
            yield rest

    def words(self, text: str) -> Marks:
        """Nobody tells."""
        return ()

    async def prepare(self, texts: Sequence[str]) -> None:
        """Render these. Raises `EngineError`."""
        for text in texts:
            parts = [pcm async for pcm in self.say(text, first=True)]
            self._ready[text] = np.concatenate(parts) if parts else np.zeros(0, np.int16)


class _Stream:
    """Bytes at a vendor's rate, to samples at ours."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._source = 0
        self._half = b""
        self._odd: list[Pcm] = []  # at a rate that streams can't have, such as 22050
        self._change: RateStream | None = None

    def take(self, rate: int, data: bytes) -> Pcm:
        if not self._source:
            self._source = rate
            if rate != self._rate and rate in RATES:
                self._change = RateStream(rate, self._rate)
        data = self._half + data
        whole = len(data) & ~1
        self._half = data[whole:]
        pcm: Pcm = np.frombuffer(data[:whole], "<i2").astype(np.int16)
        if self._change is not None:
            return self._change.take(pcm)
        if self._source == self._rate:
            return pcm
        self._odd.append(pcm)
        return pcm[:0]

    def end(self) -> Pcm:
        if self._change is not None:
            return self._change.flush()
        if self._odd:
            return resample(np.concatenate(self._odd), self._source, self._rate)
        return np.zeros(0, np.int16)
