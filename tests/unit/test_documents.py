"""What the documentation says of settings is what the code says."""

import dataclasses
import re
from pathlib import Path

import pytest

from bridge import config, schema
from bridge.agent import Agent, TurnSettings, VariableSettings
from tests import documents
from tests.unit.test_layering import imports, layer, modules

MADE = documents.made()
OBVIOUS = {"name", "options", "engine", "language", "greeting", "max_call_s", "rejoin_greeting"}


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_it_is_up_to_date(path):
    assert path.read_text(encoding="utf-8") == MADE[path], "settings have changed: run `make docs`"


KINDS = [*config.kinds().values(), Agent, TurnSettings, VariableSettings]


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_explained(kind):
    said = schema.descriptions(kind)
    for field in dataclasses.fields(kind):
        inner = dataclasses.is_dataclass(field.default_factory)
        known = kind is Agent and field.name in OBVIOUS
        assert inner or known or field.name in said, f"{kind.__name__}.{field.name}: no docstring"


# Pages that name parts of the code ----------------------------------------------------------------

ROOT = Path(__file__).parents[2]
ROWS = [
    [name.rstrip("/") for name in re.findall(r"`(\w+/?)`", line.split("|")[1])]
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines()
    if re.match(r"\| `\w+/?`", line)
]
"""Of the architecture page: the modules of each row of its table."""


def test_the_architecture_page_names_every_part():
    there = {layer(name) for name, _ in modules()} - {"__init__", "__main__", None}
    named = [name for row in ROWS for name in row]
    assert sorted(named) == sorted(there)


def test_the_architecture_page_is_right_about_who_imports_whom():
    at = {name: n for n, row in enumerate(ROWS) for name in row}
    faults = [
        f"{name} imports {imported}, which stands below it"
        for name, path in modules()
        for imported in imports(path)
        if layer(name) in at and imported.startswith("bridge.")
        if at.get(layer(imported), 0) > at[layer(name)]
    ]
    assert faults == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_what_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    named = {name.rpartition("/")[2] for name in re.findall(r"`([\w/]*test_\w+\.py)`", text)}
    assert named - tests == set()
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)}
    local = {
        link for link in links if link and "://" not in link and not link.startswith("mailto:")
    }
    assert [link for link in local if not (page.parent / link).exists()] == []
