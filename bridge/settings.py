"""Builds frozen dataclasses from the operator's TOML tables, and says what is wrong with one.

Each layer declares its own settings as a frozen dataclass with the unit in each field's name; this
module turns a table into one. The field's annotation is the check: `int`, `float`, `bool`, `str`,
`X | None`, `tuple[X, ...]`, `Literal[...]`, `dict[str, X]` and nested dataclasses are understood,
and unions of dataclasses, each with another `type: Literal["..."]`, by which one is chosen. A field
with `repr=False` is a secret: no error and no print shows what it holds (of a URL, its login).
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from bridge.errors import ConfigError

T = TypeVar("T")


def build(cls: type[T], table: Mapping[str, object], where: str) -> T:
    """Make a `cls` from a TOML table.

    Args:
        cls: a dataclass; its defaults stand for keys that the table does not hold.
        table: what the file holds.
        where: how to name the table in an error, such as `bridge.toml [media]`.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing one or a wrong type.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            cure = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(fields)}"
            raise ConfigError(f"{where}: unknown key '{key}'; {cure}")
    values = {k: _value(hints[k], v, f"{where}: '{k}'", fields[k]) for k, v in table.items()}
    for name, field in fields.items():
        missing = field.default is dataclasses.MISSING
        if missing and field.default_factory is dataclasses.MISSING and name not in values:
            raise ConfigError(f"{where}: '{name}' is missing")
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass' own __post_init__ check
        raise ConfigError(f"{where}: {error}") from error


def _value(hint: Any, value: object, where: str, field: dataclasses.Field[Any]) -> Any:
    try:
        return _convert(hint, value, where)
    except ConfigError:
        if field.repr:
            raise
        takes = _NAMES.get(hint, "something else")  # a secret isn't told: not even a wrong one
        raise ConfigError(f"{where} takes {takes}") from None


def _convert(hint: Any, value: object, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is object:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, _expect(dict, value, where), where)
    if origin in (typing.Union, types.UnionType):
        some = [arg for arg in args if arg is not type(None)]
        return _convert(some[0] if len(some) == 1 else _chosen(some, value, where), value, where)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where} is {value!r}; it takes {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        items = _expect(list, value, where)
        return tuple(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(items))
    if origin is dict:
        table = _expect(dict, value, where)
        return {k: _convert(args[1], v, f"{where}.{k}") for k, v in table.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _expect(hint, value, where)


def _chosen(kinds: list[Any], value: object, where: str) -> Any:
    """Which of these dataclasses a table is meant to be."""
    by_type = {typing.get_args(typing.get_type_hints(kind)["type"])[0]: kind for kind in kinds}
    chosen = _expect(dict, value, where).get("type")
    if chosen not in by_type:
        said = "is missing" if chosen is None else f"is {chosen!r}"
        raise ConfigError(f"{where}: 'type' {said}; it takes {', '.join(map(repr, by_type))}")
    return by_type[chosen]


def _expect(kind: type[T], value: object, where: str) -> T:
    # bool is an int to Python, never to an operator.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{where} is {value!r}; it takes {_NAMES.get(kind, kind.__name__)}")
    return value


_NAMES: dict[type, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
