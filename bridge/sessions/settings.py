"""What the operator says about sessions: where they are kept, and whether calls need it."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sessions import server


@dataclass(frozen=True)
class SessionsSettings:
    """What depends on the session store."""

    required: bool = False
    """Take no new calls while Redis is away: they go on in the dialplan. Calls that are under way
    go on anyway; without Redis nobody could take them over."""


@dataclass(frozen=True)
class RedisSettings:
    """Where sessions are kept."""

    url: str = "redis://127.0.0.1:6379/0"
    timeout_s: float = 2.0
    """Longest wait for an answer."""
    keep_ended_s: int = 7 * 24 * 3600
    """How long a call that ended stays."""
    keep_silent_s: int = 24 * 3600
    """How long a call stays that nobody writes to any more (its worker is gone for good)."""
    max_pending_lines: int = 10_000
    """Transcript lines kept in memory while Redis is away."""
    max_pending_calls: int = 20_000
    """Calls whose records are kept in memory while Redis is away; of more, those go that ended."""

    def __post_init__(self) -> None:
        """Check what can be checked without asking."""
        try:
            server.parse(self.url)
        except ValueError as error:
            raise ValueError(
                f"'url' can't be used ({error}); it takes something like redis://HOST:6379/0"
            ) from error
        if self.timeout_s <= 0:
            raise ValueError(f"'timeout_s' is {self.timeout_s}; it takes a number above 0")
