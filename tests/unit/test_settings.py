"""Settings from TOML tables: right types, and errors that name the cure."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from bridge.errors import ConfigError
from bridge.settings import build


@dataclass(frozen=True)
class Inner:
    wait_ms: int = 60


@dataclass(frozen=True)
class Outer:
    name: str
    gain: float = 1.0
    mode: Literal["auto", "off"] = "auto"
    note: str | None = None
    tags: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)
    table: dict[str, int] = field(default_factory=dict)
    on: bool = False

    def __post_init__(self):
        if self.gain < 0:
            raise ValueError("'gain' is negative")


def test_builds_every_kind_of_field():
    table = {
        "name": "x",
        "gain": 2,
        "mode": "off",
        "note": "n",
        "tags": ["a", "b"],
        "inner": {"wait_ms": 20},
        "table": {"k": 1},
        "on": True,
    }
    assert build(Outer, table, "f") == Outer(
        "x", 2.0, "off", "n", ("a", "b"), Inner(20), {"k": 1}, True
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "f: 'name' is missing"),
        ({"name": "x", "gian": 1.0}, "f: unknown key 'gian'; did you mean 'gain'?"),
        ({"name": "x", "zzzzzz": 1}, "f: unknown key 'zzzzzz'; known keys: name, gain"),
        ({"name": 1}, "f: 'name' is 1; it takes a string"),
        ({"name": "x", "on": 1}, "f: 'on' is 1; it takes true or false"),
        ({"name": "x", "inner": {"wait_ms": True}}, "'wait_ms' is True; it takes a whole number"),
        ({"name": "x", "mode": "on"}, "f: 'mode' is 'on'; it takes 'auto', 'off'"),
        ({"name": "x", "tags": ["a", 2]}, "f: 'tags'[1] is 2; it takes a string"),
        (
            {"name": "x", "inner": {"wait": 1}},
            "f: 'inner': unknown key 'wait'; did you mean 'wait_ms'",
        ),
        ({"name": "x", "table": {"k": "v"}}, "f: 'table'.k is 'v'; it takes a whole number"),
        ({"name": "x", "gain": -1.0}, "f: 'gain' is negative"),
    ],
)
def test_says_what_is_wrong(table, message):
    with pytest.raises(ConfigError) as caught:
        build(Outer, table, "f")
    assert message in str(caught.value)
