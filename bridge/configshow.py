"""`ari-bridge config`: the settings that hold, each with where it comes from; never a secret.

What is printed is TOML again, so that it can be kept or compared:

    [media]
    port = 7002  # bridge.toml:9
    max_calls = 1000  # default
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from bridge.config import Config
from bridge.configfile import DEFAULT, Place

HIDDEN = "***"


def text(config: Config, origins: Mapping[Place, str]) -> str:
    """All of it."""
    parts = []
    for table in dataclasses.fields(config):
        content = getattr(config, table.name)
        several = content if isinstance(content, tuple) else (content,)
        header = f"[[{table.name}]]" if len(several) > 1 else f"[{table.name}]"
        for index, one in enumerate(several):
            origin = {
                key: where
                for (name, n, key), where in origins.items()
                if (name, n) == (table.name, index)
            }
            parts += _parts(header, table.name, one, "", origin)
    return "\n\n".join(parts) + "\n"


def _parts(header: str, name: str, one: Any, prefix: str, origins: Mapping[str, str]) -> list[str]:
    """A table, and behind it those in it."""
    lines, inner = [header], []
    for field in dataclasses.fields(one):
        key, value = prefix + field.name, getattr(one, field.name)
        if dataclasses.is_dataclass(value):
            inner += _parts(f"[{name}.{key}]", name, value, f"{key}.", origins)
        elif value is not None:  # TOML has no null: it isn't set
            # An inline table stands in one line.
            origin = origins.get(key) or origins.get(prefix.rstrip(".")) or DEFAULT
            lines.append(f"{field.name} = {toml(shown(value, secret=not field.repr))}  # {origin}")
    return ["\n".join(lines), *inner]


def shown(value: Any, secret: bool = False) -> Any:
    """What may be seen of a value: of a URL all but its login, of a secret whether there is one."""
    if isinstance(value, str):
        scheme, colon, rest = value.partition("://")
        if colon:
            login, at, host = rest.rpartition("@")
            return f"{scheme}://{HIDDEN}@{host}" if at and login else value
        return HIDDEN if secret and value else value
    if isinstance(value, (list, tuple)):
        return [shown(one, secret) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: shown(getattr(value, f.name), secret or not f.repr) for f in fields}
    if isinstance(value, Mapping):
        return {key: shown(one, secret) for key, one in value.items()}
    return HIDDEN if secret and value else value


def toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(k)} = {toml(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
