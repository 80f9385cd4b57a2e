"""Secrets in a file of the operator's: not themselves, but where they are.

    ${SHOP_KEY}                     an environment variable
    ${file:/run/secrets/shop-key}   what a file holds, without the blanks around it

They are read when they are used, so that a file may change; an error names the place only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from bridge.errors import ConfigError

known: set[str] = set()
"""What must not be told: the secrets that this process has come to know."""
_LEAST = 6
"""Characters: shorter ones stand in every other word."""
_NAMES = re.compile(r"(?i)(key|token|secret|password|pass)$")
_PLACE = re.compile(r"\$\{([^}]*)\}")


def reveal(text: str) -> str:
    """Put them in. Raises `ConfigError`: one isn't there, or is no line of text."""
    return _PLACE.sub(lambda match: _value(match[1]), text)


def _value(place: str) -> str:
    if place.startswith("file:"):
        path = Path(place.removeprefix("file:"))
        try:
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(f"the secret file {path} can't be read: {why}") from None
        name = f"the secret file {path}"
    else:
        value = os.environ.get(place, "").strip()
        name = f"the environment variable {place}"
    if not value:
        raise ConfigError(f"{name} is not set, or empty")
    if not value.isprintable():
        raise ConfigError(f"{name} holds more than one line")
    keep(value)
    return value


def keep(value: str) -> None:
    """This must not be told."""
    if len(value) >= _LEAST:
        known.add(value)


def keep_environment() -> None:
    """Nor what stands in variables that are named like secrets."""
    for name, value in os.environ.items():
        if _NAMES.search(name):
            keep(value)
