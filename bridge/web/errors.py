"""What the API refuses: each with an HTTP status, a code for programs, and a reason for people."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import BridgeError


@dataclass(frozen=True, slots=True)
class Problem:
    """The body of every answer that is no success."""

    error: str
    """A code that stays the same: `not-found`, `forbidden`, `busy`, …"""
    reason: str
    """One line that says what is wrong and, where there is one, the cure."""


class Refused(BridgeError):
    """The request can't be fulfilled."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.code, self.reason = status, code, reason

    @property
    def problem(self) -> Problem:
        """As the body of the answer."""
        return Problem(self.code, self.reason)


def not_found(what: str) -> Refused:
    """There is no such thing."""
    return Refused(404, "not-found", what)
