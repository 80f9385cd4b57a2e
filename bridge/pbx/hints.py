"""What our dialplan fragment tells with a call, so that Asterisk needn't be asked for it.

    Stasis(ari-bridge,<agent>,ARI_BRIDGE_CODEC=(ulaw),ARI_BRIDGE_LEFT_S=7199.998)

Two questions less before the caller is answered. A dialplan of an operator's own may leave either
out; then it is asked for. None of it is for the agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CODEC: Final = "ARI_BRIDGE_CODEC"
"""`CHANNEL(audionativeformat)`."""
LEFT: Final = "ARI_BRIDGE_LEFT_S"
"""`TIMEOUT(absolute)`: how long the call may still last; 0: as long as it likes."""


def split(args: tuple[str, ...]) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Arguments of Stasis(): those for the agent, and what is known of the call."""
    hints = {}
    for arg in args[1:]:
        name, _, value = arg.partition("=")
        if name in (CODEC, LEFT) and value:
            hints[name] = value
    mine = tuple(arg for arg in args if arg.partition("=")[0] not in (CODEC, LEFT))
    return mine, hints


def joined(args: tuple[str, ...], hints: Mapping[str, str]) -> str:
    """The same again, for a worker to whom the call is passed on."""
    return ",".join((*args, *(f"{name}={value}" for name, value in hints.items())))


def left_s(hints: Mapping[str, str]) -> float | None:
    """How long the call may still last, s (0: no limit); None if that isn't told."""
    try:
        return float(hints[LEFT])
    except (KeyError, ValueError):
        return None
