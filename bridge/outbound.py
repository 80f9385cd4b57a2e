"""Whom agents may call: the operator's rules, against toll fraud. Off unless he says otherwise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import ConfigError

# A number, or a user's name. Nothing that the PBX would take for more than that: no `/`, `@`, `&`,
# no `*` and `#` (features of a trunk, such as call forwarding, are dialled with them).
_NUMBER = re.compile(r"\+?[0-9]{1,32}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_PATTERN = re.compile(r"\+?[A-Za-z0-9._-]+\*?")
_BETWEEN = str.maketrans("", "", " ()/-.")
_CALLER_ID = re.compile(r"\+?[0-9]{1,32}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
MOST_VARIABLES, MOST_VALUE = 50, 1000
PLACE = "{to}"


class NotAllowed(ConfigError):
    """The operator's rules don't allow it."""


@dataclass(frozen=True)
class OutboundSettings:
    """Table `[outbound]`: calls of our own."""

    enabled: bool = False
    """Whether there are any."""
    destinations: tuple[str, ...] = ()
    """Who may be called: numbers and names, or beginnings of them with a `*` behind."""
    endpoint: str = ""
    """How the PBX calls one: `PJSIP/{to}@trunk`, or `Local/{to}@context` for the dialplan."""
    asterisk: str = ""
    """Which one calls, where there are several (`[[asterisk]] name`)."""
    agents: tuple[str, ...] = ()
    """Which agents may call; empty: all."""
    caller_ids: tuple[str, ...] = ()
    """Numbers that may be shown; the first is, where none is asked for."""
    ring_s: int = 45
    """So long a phone rings at most."""
    max_calls: int = 1
    """So many calls of ours at the same time, of all hosts together."""
    max_per_minute: int = 6
    """So many new ones in any minute, of all hosts together."""

    def __post_init__(self) -> None:
        """Check what can be checked without asking."""
        for name in ("ring_s", "max_calls", "max_per_minute"):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' is {getattr(self, name)}; the least is 1")
        if self.ring_s > 600:
            raise ValueError(f"'ring_s' is {self.ring_s}; the most is 600")
        for pattern in self.destinations:
            if not _PATTERN.fullmatch(pattern):
                raise ValueError(
                    f"'destinations' holds '{pattern}'; it takes numbers, names and beginnings "
                    "such as '+4930*'"
                )
        for number in self.caller_ids:
            if not _CALLER_ID.fullmatch(number):
                raise ValueError(f"'caller_ids' holds '{number}'; it takes numbers")
        if self.enabled and not self.destinations:
            raise ValueError("'destinations' is empty: say who may be called")
        if self.enabled and self.endpoint.count(PLACE) != 1:
            raise ValueError(
                f"'endpoint' is '{self.endpoint}'; it takes something like 'PJSIP/{PLACE}@trunk'"
            )


def destination(settings: OutboundSettings, to: str) -> str:
    """The number or name that `to` means, if it may be called. Raises `NotAllowed`."""
    if not settings.enabled:
        raise NotAllowed("calls of our own are off: set [outbound] enabled = true")
    plain = to.translate(_BETWEEN)
    found = plain if _NUMBER.fullmatch(plain) else to.strip()
    if not (_NUMBER.fullmatch(found) or _NAME.fullmatch(found)):
        raise NotAllowed(
            f"'{to:.80}' can't be called: write a number (+493012345), or a name of letters and "
            "digits"
        )
    if not _allowed(settings.destinations, found):
        raise NotAllowed(
            f"'{found}' is not in [outbound] destinations: add it there, if it may be called"
        )
    return found


def _allowed(patterns: Sequence[str], found: str) -> bool:
    return any(
        found.startswith(pattern[:-1]) if pattern.endswith("*") else found == pattern
        for pattern in patterns
    )


def caller_id(settings: OutboundSettings, asked: str) -> str:
    """The number to show. Raises `NotAllowed`."""
    if not asked:
        return next(iter(settings.caller_ids), "")
    if asked not in settings.caller_ids:
        raise NotAllowed(
            f"caller id '{asked}' is not in [outbound] caller_ids; {_have(settings.caller_ids)}"
        )
    return asked


def agent(settings: OutboundSettings, name: str) -> str:
    """The agent's name, if it may call. Raises `NotAllowed`."""
    if settings.agents and name not in settings.agents:
        raise NotAllowed(f"agent '{name}' is not in [outbound] agents; {_have(settings.agents)}")
    return name


def _have(names: Sequence[str]) -> str:
    return f"there are: {', '.join(names) or 'none'}"


def ring_s(settings: OutboundSettings, asked: int | None) -> int:
    """How long it rings. Raises `NotAllowed`."""
    if asked is None:
        return settings.ring_s
    if not 1 <= asked <= settings.ring_s:
        raise NotAllowed(f"'timeout_s' is {asked}; it takes 1 to {settings.ring_s}")
    return asked


def variables(given: dict[str, str]) -> dict[str, str]:
    """For the agent and the channel; names of variables only, no dialplan function. Raises
    `NotAllowed`."""
    if len(given) > MOST_VARIABLES:
        raise NotAllowed(f"'variables' holds {len(given)}; the most is {MOST_VARIABLES}")
    for name, value in given.items():
        if not _VARIABLE.fullmatch(name):
            raise NotAllowed(f"'variables' holds '{name}'; names are letters, digits and _")
        if len(value) > MOST_VALUE or not value.isprintable():
            raise NotAllowed(
                f"'variables' {name} is too long or holds what can't be printed; the most is "
                f"{MOST_VALUE} letters"
            )
    return given


def endpoint(settings: OutboundSettings, to: str) -> str:
    """In the PBX's words, of what `destination` gave."""
    found = settings.endpoint.replace(PLACE, to)
    # One that Asterisk optimises away takes the channel with it that we know.
    return f"{found}/n" if found.startswith("Local/") and "/n" not in found[6:] else found
