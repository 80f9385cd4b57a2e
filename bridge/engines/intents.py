"""What `[offline]` of an agent's file says of answers; `bridge.engines.rules` gives them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Lookup:
    """What an intent does with a number."""

    table: dict[str, str] = field(default_factory=dict)
    """What to say of each number, as {value}."""
    found: str = "{digits}: {value}"
    missing: str = "I can't find {digits}."
    """Also where the tool fails: 404, say."""
    tool: str = ""
    """Instead: the tool that looks it up. What it gives is {value}; of a JSON object, {name} is
    what it has by that name."""
    argument: str = "number"
    """What the tool calls the number."""
    wait: str = ""
    """Said before the tool is used."""

    def __post_init__(self) -> None:
        if bool(self.table) == bool(self.tool):
            raise ValueError("a lookup takes either a 'table' or a 'tool'")


@dataclass(frozen=True)
class Intent:
    """Something that a caller may want."""

    name: str
    examples: tuple[str, ...]
    reply: str = ""
    """The answer; with `lookup`, how to ask for the number."""
    about: str = ""
    """What follows "Do you want to" when asking back; without it there is no asking back."""
    yes: str = ""
    """Which intent a yes to its reply means, where that asks something."""
    no: str = ""
    """And which one a no does; without it `declined` is said."""
    instead: dict[str, str] = field(default_factory=dict)
    """Another reply where the caller's words hold this one."""
    lookup: Lookup | None = None
    tool: str = ""
    """What to do once the reply was heard: `transfer`, `hang_up`, or one of the agent's `tools`."""
    extension: str = ""
    """For `transfer`: where to."""
    arguments: dict[str, str] = field(default_factory=dict)
    """For one of the agent's tools."""
    failed: str = ""
    """What to say when the tool failed."""
    announce: str = ""
    """What to say to whom an attended transfer has reached, before the caller is put through."""

    def __post_init__(self) -> None:
        if not self.examples:
            raise ValueError(f"intent '{self.name}' has no examples")
        if not self.reply:
            raise ValueError(f"intent '{self.name}' has no reply")
        if self.tool == "transfer" and not self.extension:
            raise ValueError(f"intent '{self.name}' transfers, but has no extension")


@dataclass(frozen=True)
class Rules:
    """What is said when no intent answers."""

    ask_back: str = "Do you want to {about}?"
    declined: str = "All right. What can I do for you?"
    fallback: tuple[str, ...] = ("I'm sorry, I didn't understand that.",)
    """Taken in turn, the last one for ever."""
    no_input: tuple[str, ...] = ("Are you still there?",)
    """Taken in turn, the last one for ever; `no_input_end` comes after `no_input_prompts`."""
    no_input_end: str = "I can't hear you. Goodbye."
    failed: str = "I'm sorry, that didn't work."
    announce: str = "Hello, I have a caller for you. I am putting you through."
    """To whom an attended transfer has reached."""
    nothing_to_repeat: str = "I haven't said anything yet."
