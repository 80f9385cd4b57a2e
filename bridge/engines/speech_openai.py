"""Speech to text and text to speech behind OpenAI's audio API, and servers that speak it.

Speech to text is asked for a whole utterance when its speaker has stopped, never while he speaks:
each request is paid for by the second of its audio. (`glimpses = true` is for a server of one's
own: then words are known early enough to tell an interruption from an "uh-huh".)
"""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.agent import Agent
from bridge.engines.base import Pcm, Shared
from bridge.engines.llm_openai import client, errors
from bridge.engines.stt_queue import Rank
from bridge.engines.tts_remote import RemoteTts
from bridge.settings import build

if TYPE_CHECKING:
    from openai import AsyncOpenAI

RATE = 16_000


@dataclass(frozen=True)
class SttSettings:
    """`[stt] provider = "openai"`."""

    url: str = ""
    """Of a compatible server, such as `http://127.0.0.1:8000/v1`; "" is OpenAI."""
    key_env: str = "OPENAI_API_KEY"
    model: str = "gpt-4o-mini-transcribe"
    prompt: str = ""
    """Names and words that callers may say."""
    glimpses: bool = False
    """Ask for his words also while the caller speaks."""


@dataclass(frozen=True)
class TtsSettings:
    """`[tts] provider = "openai"`."""

    url: str = ""
    """Of a compatible server; "" is OpenAI."""
    key_env: str = "OPENAI_API_KEY"
    model: str = "gpt-4o-mini-tts"
    voice: str = "alloy"
    instructions: str = ""
    """How to speak."""
    rate: int = 24_000
    """Of the server's audio, Hz."""


def stt(table: Mapping[str, Any], where: str, agent: Agent) -> OpenAiStt:
    """The part that `[stt]` asks for. Raises `ConfigError`."""
    return OpenAiStt(build(SttSettings, table, where), agent.language)


def tts(table: Mapping[str, Any], where: str, agent: Agent) -> OpenAiTts:
    """The part that `[tts]` asks for. Raises `ConfigError`."""
    return OpenAiTts(build(TtsSettings, table, where))


class OpenAiStt:
    """Speech to text; calls share it."""

    rate = RATE
    client: AsyncOpenAI

    def __init__(self, settings: SttSettings, language: str) -> None:
        """`client` is set before it is used."""
        self._settings, self._language = settings, language

    async def prepare(self, shared: Shared) -> OpenAiStt:
        """Raises `EngineMissing`."""
        self.client = await client(shared, self._settings.url, self._settings.key_env)
        return self

    async def transcribe(self, pcm: Pcm) -> str:
        """The words of int16 (n,) at 16 kHz. Raises `EngineError`."""
        own = self._settings
        more: dict[str, Any] = {"prompt": own.prompt} if own.prompt else {}
        with errors(own.url, own.key_env):
            found = await self.client.audio.transcriptions.create(
                file=("turn.wav", wav(pcm, RATE), "audio/wav"),
                model=own.model,
                language=self._language,
                response_format="json",
                **more,
            )
            return str(found.text).strip()

    async def glimpse(self, cut: Callable[[], Pcm | None], rank: Rank) -> str | None:
        """The words of somebody who may not be done; None: not asked for."""
        if rank >= Rank.LULL and not self._settings.glimpses:
            return None
        pcm = cut()
        return None if pcm is None else await self.transcribe(pcm)


class OpenAiTts:
    """Text to speech; calls share it."""

    client: AsyncOpenAI

    def __init__(self, settings: TtsSettings) -> None:
        """`client` is set before it is used."""
        self._settings = settings

    async def prepare(self, shared: Shared) -> RemoteTts:
        """Raises `EngineMissing`."""
        self.client = await client(shared, self._settings.url, self._settings.key_env)
        return RemoteTts(self, RATE)

    async def speak(self, text: str) -> AsyncGenerator[tuple[int, bytes], None]:
        """Audio of one sentence. Raises `EngineError`."""
        own = self._settings
        more: dict[str, Any] = {"instructions": own.instructions} if own.instructions else {}
        speech = self.client.audio.speech.with_streaming_response
        with errors(own.url, own.key_env):
            async with speech.create(
                input=text, model=own.model, voice=own.voice, response_format="pcm", **more
            ) as response:
                async for piece in response.iter_bytes():  # as it comes
                    yield own.rate, piece


def wav(pcm: Pcm, rate: int) -> bytes:
    """int16 (n,) as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(pcm.astype("<i2").tobytes())
    return file.getvalue()
