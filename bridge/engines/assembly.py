"""The engine `cascade`: parts that the operator chooses, put together.

    engine = "cascade"
    [stt]
    provider = "moonshine"
    [llm]
    provider = "openai"
    url = "http://127.0.0.1:8080/v1"
    [tts]
    provider = "piper"

What else stands in a table is its provider's to understand. A provider is a line in `PROVIDERS`;
its module is imported when an agent names it, its SDK when the agent is prepared.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from bridge.agent import Agent
from bridge.engines.base import Engine, Shared
from bridge.engines.cascade import Cascade, CascadeSettings
from bridge.engines.parts import Model, StreamingStt, Stt, Tts
from bridge.engines.sentences import sentences
from bridge.errors import ConfigError
from bridge.settings import build

RATE = 16_000
"""Of a cascade's audio, Hz: what recognizers want."""

PROVIDERS: dict[str, dict[str, str]] = {
    "stt": {
        "deepgram": "bridge.engines.stt_deepgram:provider",
        "moonshine": "bridge.engines.parts_local:stt",
        "openai": "bridge.engines.speech_openai:stt",
        "wyoming": "bridge.engines.wyoming:stt",
    },
    "llm": {
        "anthropic": "bridge.engines.llm_anthropic:provider",
        "openai": "bridge.engines.llm_openai:provider",
    },
    "tts": {
        "cartesia": "bridge.engines.tts_http:cartesia",
        "deepgram": "bridge.engines.tts_http:deepgram",
        "openai": "bridge.engines.speech_openai:tts",
        "piper": "bridge.engines.parts_local:tts",
        "wyoming": "bridge.engines.wyoming:tts",
    },
}
"""Each a function `(table, where, agent)`; see `Part`."""


class Part(Protocol):
    """What a provider makes of its table (and raises `ConfigError` for what it can't make out)."""

    async def prepare(self, shared: Shared) -> Any:
        """The `Stt`, `Model` or `Tts`, ready for calls. Raises `EngineError`."""


@dataclass(frozen=True)
class AssemblySettings(CascadeSettings):
    """The tables `[cascade]`, `[stt]`, `[llm]` and `[tts]`."""

    begin: Literal["pause", "eager", "end"] = "pause"
    stt: dict[str, Any] = field(default_factory=dict)
    llm: dict[str, Any] = field(default_factory=dict)
    tts: dict[str, Any] = field(default_factory=dict)


class Assembly:
    """What the calls of one agent share."""

    def __init__(self, agent: Agent, shared: Shared) -> None:
        """Raises `ConfigError`."""
        self._agent, self._shared = agent, shared
        self._settings = build(AssemblySettings, agent.options, f"{agent.file}: [cascade]")
        self._parts = {kind: self._part(kind) for kind in PROVIDERS}
        self._stt: Stt | StreamingStt | None = None
        self._model: Model | None = None
        self._tts: Tts | None = None

    async def prepare(self) -> None:
        """Load what is here and render the greeting; raises `EngineError`."""
        self._stt = await self._parts["stt"].prepare(self._shared)
        self._model = await self._parts["llm"].prepare(self._shared)
        tts: Tts = await self._parts["tts"].prepare(self._shared)
        self._tts = tts
        agent = self._agent
        back = [agent.rejoin_greeting] if agent.rejoin_s else []
        texts = [agent.greeting, *back, agent.filler]
        await tts.prepare([s for text in texts for s in sentences(text)])

    def create(self) -> Engine:
        """A cascade for one call."""
        assert self._stt is not None, "prepared before"
        assert self._model is not None, "prepared before"
        assert self._tts is not None, "prepared before"
        return Cascade(self._stt, self._model, self._tts, self._settings)

    async def close(self) -> None:
        """Nothing of its own to let go of: the worker ends what is shared."""

    def _part(self, kind: str) -> Part:
        where = f"{self._agent.file}: [{kind}]"
        table: Mapping[str, Any] = getattr(self._settings, kind)
        name = table.get("provider")
        known = PROVIDERS[kind]
        if not isinstance(name, str) or name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            cure = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
            said = f"no provider {name!r}" if name is not None else "'provider' is missing"
            raise ConfigError(f"{where}: {said}; {cure}")
        module, _, attribute = known[name].partition(":")
        rest = {key: value for key, value in table.items() if key != "provider"}
        part: Part = getattr(importlib.import_module(module), attribute)(rest, where, self._agent)
        return part


def provider(agent: Agent, shared: Shared) -> Assembly:
    """The registry's entrance."""
    return Assembly(agent, shared)
