"""The table `[transfer]` of an agent's file: where a caller may be transferred to, and how.

    [transfer]
    context = "from-ari-bridge"     # where extensions are looked for
    extensions = ["200"]            # each is a destination of its own name

    [transfer.to.sales]             # the agent knows it as "sales"
    to = "queue:sales"              # an extension, EXTENSION@CONTEXT, queue:NAME, sip:USER@HOST
    kind = "attended"
    ring_s = 60

    [transfer.to._2XX]              # any number of this pattern, as Asterisk's dialplan has them
    to = "{number}@internal"

Nothing else can be reached: whatever an engine asks for is looked up here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bridge.errors import ConfigError

Kind = Literal["blind", "attended", "dialplan"]

_TO = re.compile(
    r"[A-Za-z0-9_*#+.{}\-]*(@[A-Za-z0-9_*#+.\-]+)?|queue:[A-Za-z0-9_*#+.{}\-]+|sips?:[^\s&]+@[^\s&]+"
)
_NUMBER = re.compile(r"[0-9*#+A-Da-d]{1,40}")
_CLASSES = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]", ".": ".+", "!": ".*"}


@dataclass(frozen=True)
class Destination:
    """A table `[transfer.to.NAME]`."""

    to: str = ""
    """An extension of `context`, EXTENSION@CONTEXT, queue:NAME or sip:USER@HOST; {number} is what
    the agent asked for. Left out: its name."""
    kind: Kind = "blind"
    """`blind`: they are put together once somebody answers. `attended`: the agent talks to him
    first. `dialplan`: the caller goes on at the extension, whatever is there, and doesn't come
    back."""
    ring_s: float = 25.0
    """How long it may ring."""
    description: str = ""
    """What a model is told of it."""

    def __post_init__(self) -> None:
        if not 1 <= self.ring_s <= 3600:
            raise ValueError(f"'ring_s' is {self.ring_s:g}; it takes 1 to 3600")
        if not _TO.fullmatch(self.to):
            raise ValueError(
                f"'to' is '{self.to}'; it takes an extension (200), one of another context "
                "(200@internal), a queue (queue:sales) or a SIP URI (sip:user@host)"
            )
        if self.kind == "dialplan" and self.to.startswith(("sip:", "sips:", "queue:")):
            raise ValueError(f"'kind' is 'dialplan' and 'to' is '{self.to}'; it takes an extension")


@dataclass(frozen=True)
class TransferSettings:
    """Where an agent may hand a caller to."""

    context: str = "from-ari-bridge"
    extensions: tuple[str, ...] = ()
    """Destinations of their own names; the first is where a caller goes who just wants a human."""
    kind: Kind = "blind"
    """Of `extensions`."""
    ring_s: float = 25.0
    """Of `extensions`."""
    to: dict[str, Destination] = field(default_factory=dict)
    """More destinations, by name or pattern."""
    music: str = ""
    """Class of the music on hold that the caller hears until they talk; left out: the ringing
    tone."""
    sip_endpoint: str = ""
    """The PJSIP endpoint (a trunk) by which SIP URIs are called."""

    def __post_init__(self) -> None:
        Destination(kind=self.kind, ring_s=self.ring_s)
        for name in self.to:
            if name.startswith("_"):
                _pattern(name)
        uris = [name for name, there in self.to.items() if there.to.startswith(("sip:", "sips:"))]
        if uris and not self.sip_endpoint:
            raise ValueError(
                f"'to.{uris[0]}' is a SIP URI; say in 'sip_endpoint' by which PJSIP endpoint"
            )

    @property
    def named(self) -> Mapping[str, Destination]:
        """All that have a name."""
        own = {e: Destination(e, self.kind, self.ring_s) for e in self.extensions}
        listed = {n: _filled(d, n) for n, d in self.to.items() if not n.startswith("_")}
        return {**own, **listed}

    @property
    def patterns(self) -> Mapping[str, Destination]:
        """All that are patterns, with their underscores."""
        return {name: there for name, there in self.to.items() if name.startswith("_")}

    def __bool__(self) -> bool:
        return bool(self.extensions or self.to)

    def find(self, asked: str) -> Destination:
        """Where that leads. Raises `ConfigError` if it isn't allowed."""
        if (there := self.named.get(asked)) is not None:
            return there
        if _NUMBER.fullmatch(asked):
            for name, there in self.patterns.items():
                if _pattern(name).fullmatch(asked):
                    return _filled(there, asked)
        have = ", ".join((*self.named, *self.patterns)) or "none"
        raise ConfigError(f"'{asked}' is not in the agent's [transfer]; there are: {have}")


def _filled(there: Destination, name: str) -> Destination:
    return replace(there, to=(there.to or name).replace("{number}", name))


def _pattern(name: str) -> re.Pattern[str]:
    """An Asterisk pattern as a regular expression. Raises `ValueError`."""
    parts = re.findall(r"\[[0-9-]+\]|[0-9*#+XZNxzn.!-]", name[1:])
    if "".join(parts) != name[1:] or not parts:
        raise ValueError(
            f"'to.{name}' is no pattern: X, Z, N, digits, [1-5], and . or ! at its end"
        )
    whole = "".join(_CLASSES.get(p.upper(), p if p[0] == "[" else re.escape(p)) for p in parts)
    return re.compile(whole)
