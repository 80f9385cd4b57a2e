"""Text to speech of vendors whose whole protocol is one request: Cartesia and Deepgram.

    Cartesia  POST /tts/bytes  {model_id, transcript, voice, output_format, language}
    Deepgram  POST /v1/speak?model=…&encoding=linear16&sample_rate=…  {text}

The answer is audio as it is made; closing it is how to give up a sentence. So no SDK is needed: the
bridge's own HTTP client does, with its connections kept open between sentences. The tests check
every request against the vendors' SDKs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from bridge.agent import Agent
from bridge.engines import vendor
from bridge.engines.base import Shared
from bridge.engines.tts_remote import RemoteTts
from bridge.errors import ConfigError, EngineError, EngineLost
from bridge.settings import build

RATE = 16_000
CONNECT_S, READ_S = 5.0, 20.0
CARTESIA_VERSION = "2026-08-14"
"""Of its API, which this code was written for."""


@dataclass(frozen=True)
class CartesiaSettings:
    """`[tts] provider = "cartesia"`."""

    voice: str = ""
    """The id of one of Cartesia's voices, or of your own."""
    model: str = "sonic-3"
    key_env: str = "CARTESIA_API_KEY"
    """The environment variable that holds the key."""
    url: str = "https://api.cartesia.ai"


@dataclass(frozen=True)
class DeepgramSettings:
    """`[tts] provider = "deepgram"`."""

    model: str = "aura-2-thalia-en"
    """The voice."""
    key_env: str = "DEEPGRAM_API_KEY"
    """The environment variable that holds the key."""
    url: str = "https://api.deepgram.com"


def cartesia(table: Mapping[str, Any], where: str, agent: Agent) -> HttpTts:
    """The part that `[tts]` asks for. Raises `ConfigError`."""
    own = build(CartesiaSettings, table, where)
    if not own.voice:
        raise ConfigError(f"{where}: 'voice' is missing: the id of a voice of Cartesia's")
    body = {
        "model_id": own.model,
        "voice": {"id": own.voice},
        "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE},
        "language": agent.language,
    }
    headers = {"Authorization": "Bearer {key}", "Cartesia-Version": CARTESIA_VERSION}
    return HttpTts("Cartesia", own.key_env, f"{own.url}/tts/bytes", {}, headers, body, "transcript")


def deepgram(table: Mapping[str, Any], where: str, agent: Agent) -> HttpTts:
    """The part that `[tts]` asks for. Raises `ConfigError`."""
    own = build(DeepgramSettings, table, where)
    query = {
        "model": own.model,
        "encoding": "linear16",
        "container": "none",
        "sample_rate": str(RATE),
    }
    headers = {"Authorization": "Token {key}"}
    return HttpTts("Deepgram", own.key_env, f"{own.url}/v1/speak", query, headers, {}, "text")


@dataclass(frozen=True)
class HttpTts:
    """A voice behind one request a sentence."""

    whose: str
    key_env: str
    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """`{key}` is the key."""
    body: Mapping[str, Any]
    text_name: str
    """What the sentence is called in the body."""

    async def prepare(self, shared: Shared) -> RemoteTts:
        """Raises `EngineMissing`: there is no key."""
        vendor.key(self.key_env, self.whose)
        session = await shared.get("http", _session)
        return RemoteTts(_Voice(self, session), RATE)


class _Voice:
    def __init__(self, what: HttpTts, session: aiohttp.ClientSession) -> None:
        self._what, self._session = what, session

    async def speak(self, text: str) -> AsyncGenerator[tuple[int, bytes], None]:
        """Audio of one sentence. Raises `EngineError`."""
        what = self._what
        key = vendor.key(what.key_env, what.whose)
        headers = {name: value.format(key=key) for name, value in what.headers.items()}
        body = {**what.body, what.text_name: text}
        try:
            async with self._session.post(
                what.url, params=what.query, headers=headers, json=body
            ) as response:
                if response.status != 200:
                    raise _refusal(what, response.status, await response.text())
                async for data in response.content.iter_any():
                    yield RATE, data
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            reason = vendor.line(error)
            raise EngineLost(f"no connection to {what.whose} at {what.url}: {reason}") from error


def _refusal(what: HttpTts, status: int, body: str) -> EngineError:
    try:
        found = json.loads(body)
    except ValueError:
        found = body
    if isinstance(found, dict):
        words = ("message", "err_msg", "detail", "error", "title")
        found = next((found[word] for word in words if found.get(word)), body)
    reason = str(found).strip().splitlines()
    said = reason[0][:200] if reason else "without a word"
    return vendor.refused(what.whose, status, what.key_env, said)


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session
