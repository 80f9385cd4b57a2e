"""What the documentation says of settings is what the code says."""

import dataclasses

import pytest

from bridge import config, schema
from bridge.agent import Agent, TurnSettings, VariableSettings
from tests import documents

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
