"""An agent: the character that answers a call, as the operator writes it in `agents/NAME.toml`.

Everything that is common to all engines stands here as typed settings; what only one engine
understands stands in the table of that engine's name (`[offline]`, `[echo]`), checked by the
engine.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bridge.errors import ConfigError
from bridge.settings import build
from bridge.tooltables import McpTool, ToolTable, check_names, served
from bridge.transfertable import TransferSettings as TransferSettings

log = logging.getLogger(__name__)

ALWAYS = ("transfer", "connect", "take_back", "hang_up", "leave")
"""Tools that every agent has."""
BUILT_IN = (
    *("remember", "get_variable", "set_variable", "outcome", "send_dtmf"),
    *("pause_recording", "resume_recording"),
)
"""Tools that an agent has whose `tools` name them."""

_OWN_GREETING = ("echo", "twilio", "websocket")
_MS_PER_CHARACTER = 75
"""Of unhurried speech."""
PARTS = ("stt", "llm", "tts")
"""Tables of the engine `cascade`, beside its own."""


@dataclass(frozen=True)
class TurnSettings:
    """When somebody speaks, in the operator's words."""

    sensitivity: float = 0.5
    """Of the speech detector, 0 (deaf) to 1 (nervous)."""
    min_speech_ms: int = 100
    """Speech shorter than this while the agent is silent is no turn."""
    min_speech_while_speaking_ms: int = 800
    """Speech that is longer while the agent speaks interrupts it, whatever is said (half as long
    again, if all that could be made out is a mere "uh-huh"). The agent pauses at once; shorter
    speech interrupts if it holds another word."""
    resume_ms: int = 400
    """Silence after shorter speech after which the agent goes on, where no words were made out."""
    eager_silence_ms: int = 200
    """Silence after speech at which the engine begins to prepare its answer; 0: only at the end."""
    complete_silence_ms: int = 280
    """Silence that ends the caller's turn after a whole sentence."""
    end_silence_ms: int = 620
    """The same where nothing says whether the sentence is whole; engines without words: always."""
    incomplete_silence_ms: int = 1000
    """The same after half of a sentence, or where a number was asked for."""
    barge_in: Literal["auto", "engine", "off"] = "auto"
    """Who may cut the agent short: the bridge, only the engine, or nobody."""
    guard_greeting_ms: int = 0
    """So long from its beginning the greeting can't be interrupted by speech."""
    no_input_ms: int = 8000
    """Silence after which the agent asks whether the caller is still there."""
    no_input_prompts: int = 2
    """How often it asks; after that silence again, it takes leave."""
    after_no_input: Literal["goodbye", "dialplan"] = "goodbye"
    """How: the engine says goodbye and the call ends, or the dialplan goes on (ARI_BRIDGE_RESULT is
    then `no-input`)."""
    filler_after_ms: int = 800
    """Silence after the caller's words in which an answer should have come: it is bridged by a soft
    sound, and a longer one by the agent's `filler`; 0: never."""

    def __post_init__(self) -> None:
        if not 0 <= self.sensitivity <= 1:
            raise ValueError(f"'sensitivity' is {self.sensitivity}; it takes 0 to 1")
        for name in (
            "min_speech_ms",
            "min_speech_while_speaking_ms",
            "complete_silence_ms",
            "end_silence_ms",
            "incomplete_silence_ms",
        ):
            if getattr(self, name) < 20:
                raise ValueError(f"'{name}' is {getattr(self, name)}; the least is 20 (one frame)")
        least = min(self.complete_silence_ms, self.end_silence_ms, self.incomplete_silence_ms)
        if not 0 <= self.eager_silence_ms <= least:
            raise ValueError(
                f"'eager_silence_ms' is {self.eager_silence_ms}; it takes 0 to the least of "
                f"the silences that end a turn ({least})"
            )


@dataclass(frozen=True)
class VariableSettings:
    """Which channel variables (or dialplan functions) an agent may use."""

    read: tuple[str, ...] = ()
    """By the tool `get_variable`."""
    write: tuple[str, ...] = ()
    """By the tool `set_variable`."""


@dataclass(frozen=True)
class RecordingSettings:
    """Whether calls are recorded, and what becomes of the recordings."""

    enabled: bool = False
    folder: str = ""
    """Where they lie; relative to the agent's file."""
    format: Literal["wav", "opus", "mp3"] = "wav"
    """What they are once the call is over; all but WAV takes ffmpeg."""
    consent: str = ""
    """What the caller is told of it, before the greeting; it can't be interrupted by speech."""
    pause_keys: str = ""
    """Keys, such as "*7", by which the caller pauses the recording, and goes on."""
    retention_days: float = 0
    """After so long a recording is deleted; 0: never."""
    encrypt_key_file: str = ""
    """A file with 32 bytes in base64 that recordings are encrypted with; relative to the agent's
    file."""

    def __post_init__(self) -> None:
        if self.enabled and not self.folder:
            raise ValueError("[recording] is enabled; say where recordings lie by 'folder'")
        if not set(self.pause_keys) <= set("0123456789*#"):
            raise ValueError(f"'pause_keys' is {self.pause_keys!r}; it takes keys, such as \"*7\"")
        if self.retention_days < 0:
            raise ValueError(f"'retention_days' is {self.retention_days:g}; the least is 0")


@dataclass(frozen=True)
class Agent:
    """One agent file."""

    name: str
    engine: str = "offline"
    language: str = "en"
    greeting: str = ""
    filler: str = ""
    """What bridges a wait of several seconds, such as "One moment, please."; without it, a soft
    sound does, as it does before."""
    max_call_s: int = 1800
    max_reply_s: int = 30
    """A longer answer stops behind the sentence in which it gets so long, and the agent asks
    whether to go on; 0: never. An engine that speaks by itself is only told to keep to it."""
    go_on: str = "Shall I go on?"
    """How it asks."""
    voice_to_voice_ms: int = 1200
    """What a caller should wait at most from his last word to the answer's first sound: slower
    turns are counted, and an alert tells of too many."""
    fallback: str = ""
    """The agent (by its file's name) that goes on with the conversation if this one's engine can't
    be had; without one, the caller goes on in the dialplan."""
    engine_silent_s: float = 4.0
    """An engine that has to answer and gives nothing for so long is taken for lost."""
    engine_give_up_s: float = 10.0
    """How long a lost engine is tried again, before `fallback` or the dialplan."""
    late_packets: Literal["resynthesize", "replay", "silence", "drop"] = "resynthesize"
    """What the engine hears in the place of lost packets: made-up speech, the last frame again
    (faded), silence, or nothing at all (its clock goes on all the same)."""
    rejoin_s: int = 0
    """A caller whose line dropped and who calls again within so many seconds is offered to go on
    with the conversation; 0: never. Anonymous callers never are."""
    rejoin_greeting: str = "Welcome back. Shall we go on where we were?"
    tools: tuple[str, ...] = ()
    """Which tools the engine may call, beside `transfer`, `hang_up` and those in `tool`: of
    `BUILT_IN`, and of others (entry points `ari_bridge.tools`)."""
    tool: dict[str, ToolTable] = field(default_factory=dict)
    """Tools that need no code, and servers of tools, by name; the engine may call them all."""
    turns: TurnSettings = field(default_factory=TurnSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    variables: VariableSettings = field(default_factory=VariableSettings)
    recording: RecordingSettings = field(default_factory=RecordingSettings)
    options: dict[str, Any] = field(default_factory=dict)
    """The table of the engine's own name, for the engine to check."""
    file: str = field(default="", compare=False)
    """How to name the agent's file in an error."""

    def __post_init__(self) -> None:
        for name in ("engine_silent_s", "engine_give_up_s"):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' is {getattr(self, name):g}; the least is 1")
        if self.max_reply_s < 0:
            raise ValueError(f"'max_reply_s' is {self.max_reply_s}; the least is 0 (never)")
        check_names(self.tool, (*ALWAYS, *BUILT_IN))
        served(self.tool, (*ALWAYS, *BUILT_IN, *self.tools))
        for tool, key in (("get_variable", "read"), ("set_variable", "write")):
            if tool in self.tools and not getattr(self.variables, key):
                raise ValueError(f"'tools' has '{tool}'; say which in [variables] {key} = [...]")

    @property
    def served(self) -> dict[str, tuple[str, str]]:
        """Tools that servers bring: the table and the name there of each, by our name of it."""
        return served(self.tool, (*ALWAYS, *BUILT_IN, *self.tools))

    @property
    def every_tool(self) -> tuple[str, ...]:
        """Names of all that the engine may call, but for those that every agent has."""
        alone = (name for name, table in self.tool.items() if not isinstance(table, McpTool))
        return tuple(dict.fromkeys((*self.tools, *alone, *self.served)))

    @property
    def recording_folder(self) -> Path:
        """Where its recordings lie."""
        return Path(self.file).parent / self.recording.folder

    @property
    def recording_key(self) -> Path | None:
        """What they are encrypted with."""
        name = self.recording.encrypt_key_file
        return Path(self.file).parent / name if name else None

    @property
    def fillers(self) -> dict[str, str]:
        """What bridges a wait: by the tool that runs, "" for every other."""
        own = {name: table.filler for name, table in self.tool.items()}
        theirs = {name: own[table] for name, (table, _) in self.served.items()}
        every = {"": self.filler, **own, **theirs}
        return {name: text for name, text in every.items() if text}


def load(folder: Path, name: str) -> Agent:
    """Read `folder/name.toml`.

    Raises:
        ConfigError: no such agent (with those that there are), or a file that can't be understood.
    """
    known = sorted(p.stem for p in folder.glob("*.toml"))
    if name not in known:  # also keeps a dialplan from naming a path
        have = ", ".join(known) or "none"
        raise ConfigError(f"no agent '{name}' in {folder}; there are: {have}")
    path = folder / f"{name}.toml"
    return parse(_read(path), name, str(path))


def recording_folders(folder: Path) -> set[Path]:
    """Where the recordings of a folder's agents lie; agents that can't be read are passed over."""
    found = set()
    for path in folder.glob("*.toml"):
        try:
            agent = load(folder, path.stem)
        except ConfigError as error:
            log.warning("%s", error)
            continue
        if agent.recording.folder:
            found.add(agent.recording_folder.absolute())
    return found


def chain(load: Callable[[str], Agent], name: str) -> list[Agent]:
    """That agent, and those that stand in for its engine and for each other's, in turn.

    One that can't be read ends the chain, with a line in the log.

    Args:
        load: gives the agent of a name; raises `ConfigError`.
        name: of the first.

    Raises:
        ConfigError: of the first.
    """
    agents = [load(name)]
    while (name := agents[-1].fallback) and name not in [agent.name for agent in agents]:
        try:
            agents.append(load(name))
        except ConfigError as error:
            log.error("%s: 'fallback': %s", agents[-1].file, error)
            break
    return agents


def parse(table: dict[str, Any], name: str, where: str) -> Agent:
    """Make an agent of a file's table.

    Args:
        table: what the file holds.
        name: the agent's.
        where: how to name the file in an error.

    Raises:
        ConfigError: an unknown key, a missing one or a wrong type.
    """
    engine = table.get("engine", Agent.engine)
    parts = PARTS if engine == "cascade" else ()
    rest = {key: value for key, value in table.items() if key != engine and key not in parts}
    for key in ("name", "options", "file"):  # what only the code fills in
        if key in rest:
            raise ConfigError(f"{where}: unknown key '{key}'; the agent's name is its file's")
    own = table.get(engine, {}) if isinstance(engine, str) else {}
    if not isinstance(own, dict):
        raise ConfigError(f"{where}: '{engine}' is {own!r}; it takes a table")
    own = {**own, **{key: table[key] for key in parts if key in table}}
    agent = build(Agent, {**rest, "name": name, "options": own, "file": where}, where)
    return _announced(agent, where)


def _announced(agent: Agent, where: str) -> Agent:
    """One whose greetings begin with what the caller has to be told of the recording."""
    consent = agent.recording.consent if agent.recording.enabled else ""
    if not consent:
        return agent
    if agent.engine in _OWN_GREETING:
        raise ConfigError(
            f"{where} [recording]: the engine '{agent.engine}' greets callers itself; take "
            "'consent' out, and let the bot or the dialplan say it"
        )
    guard_ms = max(agent.turns.guard_greeting_ms, len(consent) * _MS_PER_CHARACTER)
    return replace(
        agent,
        greeting=f"{consent} {agent.greeting}".strip(),
        rejoin_greeting=f"{consent} {agent.rejoin_greeting}".strip(),
        turns=replace(agent.turns, guard_greeting_ms=guard_ms),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
