"""The embedded agent: moonshine, rules and piper in a cascade; no key, no network. English only.

The table `[offline]` of an agent file names the parts and holds what the rules brain knows; the
demo agent's file describes it for operators.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge import toolbox
from bridge.agent import Agent
from bridge.engines.base import Engine, Shared, filled
from bridge.engines.cascade import Cascade, CascadeSettings
from bridge.engines.rules import Intent, Rules, RulesBrain
from bridge.engines.sentences import sentences
from bridge.engines.stt_moonshine import moonshine
from bridge.engines.stt_queue import SttQueue
from bridge.engines.tts_piper import Piper, piper
from bridge.errors import ConfigError
from bridge.settings import build

RATE = 16000
"""What moonshine wants; above the telephone band, so that nothing is lost on the way either."""


@dataclass(frozen=True)
class OfflineSettings:
    """The table `[offline]`."""

    voice: str = "joe"
    """A packaged voice's name, or the path of a piper voice (.onnx, its .json beside it)."""
    inter_digit_ms: int = CascadeSettings.inter_digit_ms
    """Silence after a key that ends a number."""
    sentence_gap_ms: int = CascadeSettings.sentence_gap_ms
    """Pause between two sentences."""
    knowledge: str = ""
    """Which [tool.NAME] of type "knowledge" answers what no intent does."""
    facts: dict[str, str] = field(default_factory=dict)
    """What {name} stands for in texts; a variable of that name that the dialplan passes goes
    before it."""
    intents: tuple[Intent, ...] = ()
    replies: Rules = field(default_factory=Rules)


class OfflineProvider:
    """What the calls of one agent share."""

    def __init__(self, agent: Agent, shared: Shared) -> None:
        """Raises `ConfigError` for a table that can't be understood."""
        where = f"{agent.file}: [offline]"
        self._settings = build(OfflineSettings, agent.options, where)
        if agent.language != "en":
            raise ConfigError(f"{where}: the offline engine speaks only English, language = 'en'")
        settings = self._settings
        try:
            known = toolbox.knowledge_of(settings.knowledge, agent) if settings.knowledge else None
        except ConfigError as error:
            raise ConfigError(f"{where}: 'knowledge': {error}") from error
        self._brain = RulesBrain(
            *(settings.intents, settings.facts, settings.replies, where),
            find=known.find if known else None,
        )
        for intent in settings.intents:
            tools = ("transfer", "hang_up", *agent.every_tool)
            for tool in (intent.tool, intent.lookup.tool if intent.lookup else ""):
                if tool and tool not in tools:
                    raise ConfigError(
                        f"{where}: intent '{intent.name}' calls the tool '{tool}', which the "
                        f"agent's 'tools' don't allow: {', '.join(tools)}"
                    )
            if intent.tool == "transfer":
                try:
                    agent.transfer.find(intent.extension)
                except ConfigError as error:
                    raise ConfigError(f"{where}: intent '{intent.name}': {error}") from None
        self._agent = agent
        self._shared = shared
        self._stt: SttQueue | None = None
        self._tts: Piper | None = None

    async def prepare(self) -> None:
        """Load the models and render the greeting; the other fixed sentences follow."""
        self._stt = await moonshine(self._shared)
        self._tts = await piper(self._shared, self._settings.voice, RATE)
        agent = self._agent
        back = [agent.rejoin_greeting] if agent.rejoin_s else []
        greeting = filled(agent.greeting, self._settings.facts)
        own = [greeting, *back, *agent.fillers.values()]
        texts = [*own, *self._brain.fixed(), agent.go_on if agent.max_reply_s else ""]
        await self._tts.prepare([s for text in texts for s in sentences(text)])

    def create(self) -> Engine:
        """A cascade for one call."""
        assert self._stt is not None, "prepared before"
        assert self._tts is not None, "prepared before"
        settings = CascadeSettings(self._settings.inter_digit_ms, self._settings.sentence_gap_ms)
        return Cascade(self._stt, self._brain, self._tts, settings)

    async def close(self) -> None:
        """Nothing of its own to let go of: the worker ends what is shared."""


def provider(agent: Agent, shared: Shared) -> OfflineProvider:
    """The registry's entrance."""
    return OfflineProvider(agent, shared)
