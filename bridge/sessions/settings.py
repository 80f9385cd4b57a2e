"""What the operator says about sessions: where they are kept, and whether calls need it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote

from bridge.sessions import server


@dataclass(frozen=True)
class SessionsSettings:
    """What depends on the session store."""

    required: bool = False
    """Take no new calls while Redis is away: they go on in the dialplan. Calls that are under way
    go on anyway; without Redis nobody could take them over."""


@dataclass(frozen=True)
class HistorySettings:
    """What becomes of calls that are over; how long they stay is `[redis] keep_ended_s`."""

    webhook_url: str = ""
    """Where the record of every call is sent when it is over (POST, JSON), until it is taken."""
    webhook_secret: str = field(default="", repr=False)
    """What those requests are signed with; best `${file:PATH}`."""

    def __post_init__(self) -> None:
        if self.webhook_url and not self.webhook_url.startswith(("http://", "https://")):
            raise ValueError("'webhook_url' takes http://… or https://…")
        if self.webhook_secret and not self.webhook_url:
            raise ValueError("'webhook_secret' signs nothing without 'webhook_url'")


@dataclass(frozen=True)
class RedisSettings:
    """Where sessions are kept."""

    url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    """`redis://`, `rediss://` (TLS), `unix://`, `redis+sentinel://` or `redis+cluster://`."""
    username: str = ""
    """Of Redis' ACL, if not in `url`."""
    password: str = field(default="", repr=False)
    """If not in `url`, where it would have to be percent-encoded."""
    ca_file: str = ""
    """Who has signed its certificate (PEM), where the system doesn't know; relative to the
    configuration file. It is checked whenever `url` says `rediss`."""
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
        if self.username or self.password:
            object.__setattr__(self, "url", self._with_login())
        try:
            server.parse(self.url)
        except ValueError as error:
            # What can't be understood may be a piece of a password.
            why = error if "@" not in self.url else "is the password percent-encoded?"
            raise ValueError(
                f"'url' can't be used ({why}); it takes something like redis://HOST:6379/0"
            ) from None
        if self.timeout_s <= 0:
            raise ValueError(f"'timeout_s' is {self.timeout_s}; it takes a number above 0")

    def _with_login(self) -> str:
        """The URL, for everybody who connects, with user and password in it."""
        scheme, _, rest = self.url.partition("://")
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        old, at, host = rest.rpartition("@")
        if at and old != login:
            raise ValueError("'url' has a login, and 'username' or 'password' another: keep one")
        return f"{scheme}://{login}@{host}"
