"""The Wyoming protocol: speech to text and text to speech of servers in the same house.

By its own library, one TCP connection an utterance or sentence; a connection that is closed before
its end is how a server learns that nobody wants the rest. Any server of the protocol will do:
`wyoming-faster-whisper`, `wyoming-piper` and others.

    stt  transcribe, audio-start, audio-chunk…, audio-stop  ─▶  transcript
    tts  synthesize  ─▶  audio-start, audio-chunk…, audio-stop
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bridge.agent import Agent
from bridge.engines import vendor
from bridge.engines.base import Pcm, Shared
from bridge.engines.stt_queue import SttQueue
from bridge.engines.tts_remote import RemoteTts
from bridge.errors import ConfigError, EngineError, EngineLost
from bridge.settings import build

if TYPE_CHECKING:
    from wyoming.client import AsyncClient
    from wyoming.event import Event

EXTRA = "wyoming"
RATE = 16_000
CONNECT_S, ANSWER_S, CLOSE_S = 5.0, 20.0, 0.5
CHUNK_MS = 100


@dataclass(frozen=True)
class WyomingSttSettings:
    """`[stt] provider = "wyoming"`."""

    url: str = "tcp://127.0.0.1:10300"
    model: str = ""
    """As the server names it; "" is its own choice."""


@dataclass(frozen=True)
class WyomingTtsSettings:
    """`[tts] provider = "wyoming"`."""

    url: str = "tcp://127.0.0.1:10200"
    voice: str = ""
    """As the server names it; "" is its own choice."""
    speaker: str = ""


def stt(table: Mapping[str, Any], where: str, agent: Agent) -> WyomingStt:
    """The part that `[stt]` asks for. Raises `ConfigError`."""
    settings = build(WyomingSttSettings, table, where)
    _check(settings.url, where)
    return WyomingStt(settings, agent.language)


def tts(table: Mapping[str, Any], where: str, agent: Agent) -> WyomingTts:
    """The part that `[tts]` asks for. Raises `ConfigError`."""
    settings = build(WyomingTtsSettings, table, where)
    _check(settings.url, where)
    return WyomingTts(settings)


class WyomingStt:
    """Speech to text at a server, one utterance at a time: that is taken for one of your own."""

    def __init__(self, settings: WyomingSttSettings, language: str) -> None:
        """What to ask for."""
        self._settings, self._language = settings, language

    async def prepare(self, shared: Shared) -> SttQueue:
        """Raises `EngineError`: it isn't there."""
        await vendor.load("wyoming.client", EXTRA)
        async with _connection(self._settings.url):
            pass

        @contextlib.asynccontextmanager
        async def make() -> AsyncIterator[SttQueue]:
            queue = SttQueue(self.transcribe, RATE)
            try:
                yield queue
            finally:
                await queue.close()

        return await shared.get(("wyoming", self._settings, self._language), make)

    async def transcribe(self, pcm: Pcm) -> str:
        """The words of int16 (n,) at 16 kHz. Raises `EngineError`."""
        from wyoming.asr import Transcribe, Transcript
        from wyoming.audio import AudioChunk, AudioStart, AudioStop

        shape = {"rate": RATE, "width": 2, "channels": 1}
        data, step = pcm.astype("<i2").tobytes(), RATE * CHUNK_MS // 1000 * 2
        async with _connection(self._settings.url) as client, asyncio.timeout(ANSWER_S):
            ask = Transcribe(name=self._settings.model or None, language=self._language)
            await client.write_event(ask.event())
            await client.write_event(AudioStart(**shape).event())
            for at in range(0, len(data), step):
                await client.write_event(AudioChunk(audio=data[at : at + step], **shape).event())
            await client.write_event(AudioStop().event())
            while True:
                event = await _next(client)
                if Transcript.is_type(event.type):
                    return Transcript.from_event(event).text.strip()


class WyomingTts:
    """Text to speech at a server."""

    def __init__(self, settings: WyomingTtsSettings) -> None:
        """What to ask for."""
        self._settings = settings

    async def prepare(self, shared: Shared) -> RemoteTts:
        """Raises `EngineError`: it isn't there."""
        await vendor.load("wyoming.client", EXTRA)
        async with _connection(self._settings.url):
            pass
        return RemoteTts(self, RATE)

    async def speak(self, text: str) -> AsyncGenerator[tuple[int, bytes], None]:
        """Audio of one sentence. Raises `EngineError`."""
        from wyoming.audio import AudioChunk, AudioStop
        from wyoming.tts import Synthesize, SynthesizeVoice

        own = self._settings
        voice = SynthesizeVoice(name=own.voice, speaker=own.speaker or None) if own.voice else None
        async with _connection(own.url) as client:
            async with asyncio.timeout(ANSWER_S):
                await client.write_event(Synthesize(text=text, voice=voice).event())
            while True:
                async with asyncio.timeout(ANSWER_S):
                    event = await _next(client)
                if AudioChunk.is_type(event.type):
                    chunk = AudioChunk.from_event(event)
                    if (chunk.width, chunk.channels) != (2, 1):
                        raise EngineError(
                            f"the Wyoming server at {own.url} gives audio of {chunk.channels} "
                            f"channels, {8 * chunk.width} bits; a call takes one of 16"
                        )
                    yield chunk.rate, chunk.audio
                elif AudioStop.is_type(event.type):
                    return


def _check(url: str, where: str) -> None:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if not (parts.scheme == "unix" or (parts.scheme == "tcp" and parts.hostname and port)):
        raise ConfigError(f"{where}: 'url' is '{url}'; it takes tcp://host:port or unix:///path")


async def _leave(client: AsyncClient) -> None:
    """Close it; a server that doesn't read isn't waited for."""
    writer = client._writer
    try:
        async with asyncio.timeout(CLOSE_S):
            await client.disconnect()
    except (OSError, TimeoutError):
        if writer is not None:
            writer.transport.abort()


async def _next(client: AsyncClient) -> Event:
    from wyoming.error import Error

    event = await client.read_event()
    if event is None:
        raise EOFError("the connection ended early, or what came isn't Wyoming")
    if Error.is_type(event.type):
        raise EngineError(f"the Wyoming server says: {Error.from_event(event).text}")
    return event


@contextlib.asynccontextmanager
async def _connection(url: str) -> AsyncIterator[AsyncClient]:
    """A connection to the server, and its exceptions translated."""
    from wyoming.client import AsyncClient

    client = AsyncClient.from_uri(url, connect_timeout=CONNECT_S)
    try:
        await client.connect()
        try:
            yield client
        finally:
            await _leave(client)
    except (OSError, EOFError) as error:  # TimeoutError is an OSError
        reason = vendor.line(error)
        raise EngineLost(f"no connection to the Wyoming server at {url}: {reason}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__} {vendor.line(error)}"
        raise EngineError(f"the Wyoming server at {url} sent nonsense: {reason}") from error
