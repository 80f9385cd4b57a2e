"""The operator's configuration file as he wrote it, what the environment says instead, and where
each value comes from.

    default < the file < ASTERISK_ARI_*, REDIS_URL < ARI_BRIDGE_TABLE_KEY

A key of the file can be set in the environment: `[media] port` by `ARI_BRIDGE_MEDIA_PORT`, and from
a file's content by the same name with `_FILE`. With several `[[asterisk]]` the one's name comes
between: `ARI_BRIDGE_ASTERISK_NORTH_PASSWORD`. The other names are those that people have in their
environments already, and count where there is one Asterisk. A name that begins like ours and is
none is an error, as an unknown key of the file is.

A value of the file may say where it is, `"${NAME}"` or `"${file:PATH}"`, instead of being there
itself (`bridge.secrets`).

Line numbers: `tomllib` gives none. A statement is the fewest lines that it can read by themselves,
so each is found with tomllib's own understanding of strings, lists and comments.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from bridge import keeper
from bridge.errors import ConfigError
from bridge.secrets import keep, keep_environment, reveal

PREFIX = "ARI_BRIDGE_"
FILE = "_FILE"
DEFAULT = "default"

KNOWN_ELSEWHERE: dict[str, tuple[str, str]] = {
    "ASTERISK_ARI_URL": ("asterisk", "url"),
    "ASTERISK_ARI_USER": ("asterisk", "username"),
    "ASTERISK_ARI_USERNAME": ("asterisk", "username"),
    "ASTERISK_ARI_PASSWORD": ("asterisk", "password"),
    "ASTERISK_ARI_APP": ("asterisk", "app"),
    "REDIS_URL": ("redis", "url"),
}
"""Names that other programs have made usual; of two for the same key the later one counts."""

_NOT_SETTINGS = (keeper.LAUNCHER, f"{PREFIX}TOKEN")
_NEAR = 0.8
"""A name this near to one of ours is a mistyped one."""

Place = tuple[str, int, str]
"""Table, which of several (0 where there is one), key; `phone.url` in `[web.phone]`."""


@dataclass
class Read:
    """What was read."""

    tables: dict[str, Any]
    """As TOML has them; `[[asterisk]]` is a list."""
    origins: dict[Place, str] = field(default_factory=dict)
    """Where a value comes from, unless that is the default: `FILE:LINE` or `environment NAME`."""


def read(path: Path | None, kinds: Mapping[str, type], several: str) -> Read:
    """Read the file, and put over it what the environment says.

    Args:
        path: of the file; None: there is none, only the environment.
        kinds: the settings' dataclass of each table.
        several: the table of which there may be several.

    Raises:
        ConfigError: no TOML, an unknown variable, a secret that can't be read.
    """
    found = Read({})
    if path is not None:
        text = _text(path)
        try:
            found.tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is no TOML: {error}") from error
        found.origins = {place: f"{path}:{line}" for place, line in lines(text).items()}
        for name, table in found.tables.items():
            for one in table if isinstance(table, list) else [table]:
                if isinstance(one, dict):
                    for key, value in one.items():
                        one[key] = _revealed(value, f"{path} [{name}]: '{key}'")
    _apply(found, kinds, several)
    return found


def keep_secrets(settings: Any) -> None:
    """No log line may hold what these settings keep secret."""
    for one_field in dataclasses.fields(settings):
        value = getattr(settings, one_field.name)
        for one in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(one):
                keep_secrets(one)
            elif isinstance(one, str) and not one_field.repr:
                _, url, rest = one.partition("://")
                login = rest.rpartition("@")[0]
                password = login.partition(":")[2]
                for text in (password, unquote(password)) if url else (one,):
                    keep(text)
    keep_environment()


def given(kinds: Mapping[str, type], several: str) -> bool:
    """Whether the environment sets anything."""
    found = Read({})
    _apply(found, kinds, several)
    return bool(found.origins)


def lines(text: str) -> dict[Place, int]:
    """The line, from 1, of each key of a file that is TOML."""
    found: dict[Place, int] = {}
    table: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    pending, first = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        first = first if pending else number
        pending += line + "\n"
        try:
            content = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        if pending.lstrip().startswith("["):
            table = tuple(_path(content))
            if isinstance(content[table[0]], list):
                counts[table[0]] = counts.get(table[0], -1) + 1
        else:
            for place in _places((*table,), content, counts):
                found.setdefault(place, first)
        pending = ""
    return found


def variables(kinds: Mapping[str, type], names: list[str]) -> dict[str, Place]:
    """Each environment variable of ours, without `_FILE`, and what it sets.

    Args:
        kinds: the settings' dataclass of each table.
        names: of the several `[[asterisk]]`; one or none: theirs don't count.
    """
    found: dict[str, Place] = {}
    for table, kind in kinds.items():
        middles = [f"{table}_"]
        if table == "asterisk" and len(names) > 1:
            middles = [f"{table}_{name}_" for name in names]
        for index, middle in enumerate(middles):
            for key in _keys(kind):
                name = key.replace(".", "_")
                found[f"{PREFIX}{middle}{name}".upper()] = (table, index, key)
    return found


# ------------------------------------------------------------------------------------------------


def _keys(kind: type) -> Iterator[str]:
    """Of a table and of the tables in it."""
    hints = typing.get_type_hints(kind)
    for one in dataclasses.fields(kind):
        inner = hints[one.name]
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            yield from (f"{one.name}.{key}" for key in _keys(inner))
        else:
            yield one.name


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error


def _path(content: Mapping[str, Any]) -> Iterator[str]:
    """The names in a header such as `[a.b]` or `[[a]]`."""
    inner: Any = content
    while inner:
        name, inner = next(iter(inner.items()))
        yield name
        inner = inner[0] if isinstance(inner, list) else inner


def _places(
    table: tuple[str, ...], content: Mapping[str, Any], counts: Mapping[str, int]
) -> Iterator[Place]:
    for key, value in content.items():
        if table:  # of [web.phone], `url` is `phone.url`
            yield (table[0], counts.get(table[0], 0), ".".join((*table[1:], key)))
        else:  # `media.port = 1` or `media = {port = 1}`
            for index, one in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(one, dict):
                    yield from ((key, index, inner) for inner in one)


def _apply(found: Read, kinds: Mapping[str, type], several: str) -> None:
    tables = found.tables.get(several)
    many = tables if isinstance(tables, list) else []
    names = [str(one.get("name", "")) for one in many if isinstance(one, dict)]
    ours = variables(kinds, names)
    for variable, (table, key) in KNOWN_ELSEWHERE.items():
        if value := os.environ.get(variable, ""):
            if table == several and len(names) > 1:
                one = f"{PREFIX}{table}_{names[0]}_{key}".upper()
                raise ConfigError(
                    f"{variable} is set, and there are {len(names)} [[{several}]]: "
                    f"unset it, and say {one}"
                )
            if variable == "ASTERISK_ARI_URL":
                value = value.rstrip("/").removesuffix("/ari")  # as others want it
            _set(found, kinds, (table, 0, key), value, variable)
    for variable, value in sorted(os.environ.items()):
        if not variable.startswith(PREFIX) or variable in _NOT_SETTINGS:
            continue
        if variable in ours:
            _set(found, kinds, ours[variable], value, variable)
        elif variable.removesuffix(FILE) in ours:
            plain = variable.removesuffix(FILE)
            if plain in os.environ:
                raise ConfigError(f"{variable} and {plain} are both set: unset one")
            content = _revealed(f"${{file:{value}}}", f"environment: {variable}")
            _set(found, kinds, ours[plain], content, variable)
        else:
            _check_unknown(variable, ours, kinds)


def _check_unknown(variable: str, ours: Mapping[str, Place], kinds: Mapping[str, type]) -> None:
    """Raise if it is meant for us: a variable may hold what an agent's file asks for."""
    names = [name.removeprefix(PREFIX) for name in ours]
    mine = variable.removeprefix(PREFIX).removesuffix(FILE)
    near = difflib.get_close_matches(mine, names, n=1, cutoff=_NEAR)
    if near:
        raise ConfigError(f"environment: unknown {variable}; did you mean {PREFIX}{near[0]}?")
    table = next((t for t in kinds if variable.startswith(f"{PREFIX}{t}_".upper())), None)
    if table is not None:
        known = ", ".join(name for name, place in ours.items() if place[0] == table)
        raise ConfigError(f"environment: unknown {variable}; there are: {known}")


def _set(found: Read, kinds: Mapping[str, type], place: Place, text: str, variable: str) -> None:
    name, index, key = place
    kind: Any = kinds[name]
    *within, last = key.split(".")
    for part in within:
        kind = typing.get_type_hints(kind)[part]
    value = _value(typing.get_type_hints(kind)[last], text, variable)
    table = found.tables.setdefault(name, {})
    one = table[index] if isinstance(table, list) and index < len(table) else table
    if not isinstance(one, dict):
        raise ConfigError(f"{variable} is set, and '{name}' is no table")
    for part in within:
        one = one.setdefault(part, {})
    one[last] = value
    found.origins[place] = f"environment {variable}"


def _value(hint: Any, text: str, variable: str) -> Any:
    """What TOML would have given; what is no such thing stays text, and `build` says so."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        some = [arg for arg in args if arg is not type(None)]
        return _value(some[0], text, variable) if len(some) == 1 else text
    if origin is tuple:
        return [_value(args[0], part.strip(), variable) for part in text.split(",") if part.strip()]
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            return text
    if hint is str or origin is Literal:
        return text
    raise ConfigError(f"{variable}: this key can only stand in the file")


def _revealed(value: Any, where: str) -> Any:
    if isinstance(value, str):
        try:
            return reveal(value)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    if isinstance(value, list):
        return [_revealed(one, where) for one in value]
    if isinstance(value, dict):
        return {key: _revealed(one, where) for key, one in value.items()}
    return value
