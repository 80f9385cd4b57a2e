"""How far a call's conversation has got: what its next owner needs to go on in mid-sentence.

One JSON text in the call's record, written with every batch in which it changed (at most
`NOTE_S` old) and at once when something begins that must not be begun twice. What was *heard* of
an item is known better by the slot, if that is still there: the figures here are for when it isn't.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

NOTE_S = 0.2
"""Between two notes of what was heard."""


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of agent speech that isn't over. Samples at the engine's rate."""

    item: int
    text: str
    queued: int
    heard: int
    done: bool
    """All of its audio was queued."""
    pauses: tuple[tuple[int, int], ...] = ()
    """Silence put into it that isn't its own: (where, how much)."""
    dropped: bool = False
    """The caller cut it short; what he heard of it isn't in the transcript yet."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool call that isn't done."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    begun: bool = False
    """Its effect may have happened: it is not run again."""
    key: str = ""
    """Its idempotency key."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a tool call. Kept until the caller's next turn."""

    key: str
    name: str
    ok: bool
    value: Any = None
    """What JSON knows."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the conversation stands."""

    items: tuple[Item, ...] = ()
    last_item: int = 0
    """The highest item id given out."""
    tools: tuple[Tool, ...] = ()
    replying: bool = False
    """The engine hasn't said all that it has to say."""
    given: tuple[tuple[int, str], ...] = ()
    """Items that it began in the present reply and their texts, those already heard included."""
    caller: str = ""
    """The caller's last words, where they aren't in the transcript yet."""
    turn: int = 0
    since_ms: int = -1
    """Audio time from which the caller's speech hasn't come to words yet; -1: there is none."""
    unanswered: bool = False
    """That speech is a whole turn: what `replying` owes is its answer."""
    answered_ms: int = -1
    """Audio time up to which all that the caller said makes turns that are over; -1: there is none.
    """
    held: bool = False
    """The caller's phone holds the call."""
    muted: bool = False
    """Somebody who looks after the call has silenced the agent."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What an engine itself wants kept (session ids, handles)."""
    done: tuple[Done, ...] = ()
    asked: Mapping[str, int] = field(default_factory=dict)
    """How often what had been asked for in this turn when the present reply began, by the part of
    a tool's key that says what it is."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What the agent wants to remember of the call, by name."""
    unknown: Mapping[str, Any] = field(default_factory=dict)
    """What a newer version of the program noted; kept as it is."""

    def to_text(self) -> str:
        """As one field of the record."""
        table = _table(self)
        for name in ("items", "tools", "done"):
            table[name] = [_table(part) for part in table[name]]
        return json.dumps({**table.pop("unknown"), **table}, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Progress:
        """Read it back; what is missing has its default, what a newer version added is kept."""
        table = json.loads(text) if text else {}
        ours = {k: v for k, v in table.items() if k in cls.__dataclass_fields__ and k != "unknown"}
        ours["unknown"] = {k: v for k, v in table.items() if k not in ours}
        for name, kind in (("items", Item), ("tools", Tool), ("done", Done)):
            ours[name] = tuple(kind(**_known(kind, part)) for part in ours.get(name, ()))
        ours["items"] = tuple(
            replace(item, pauses=tuple((int(at), int(n)) for at, n in item.pauses))
            for item in ours["items"]
        )
        ours["given"] = tuple((int(i), str(t)) for i, t in ours.get("given", ()))
        return cls(**ours)


def _table(one: Progress | Item | Tool | Done) -> dict[str, Any]:
    """Its fields; `dataclasses.asdict` copies all that is in them, five times a second a call."""
    return {name: getattr(one, name) for name in one.__slots__}


def _known(cls: type[Item | Tool | Done], table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in table.items() if k in cls.__dataclass_fields__}
