"""The schemas for editors say what the code says."""

import importlib
import tomllib
from pathlib import Path

import jsonschema
import pytest

from bridge import agent, schema
from bridge.engines.assembly import PROVIDERS
from bridge.engines.registry import BUILTIN, Engines
from bridge.errors import ConfigError

AGENTS = sorted((Path(__file__).parents[2] / "agents").glob("*.toml"))


def faults(of, text):
    checker = jsonschema.Draft7Validator(of)
    return [error.message for error in checker.iter_errors(tomllib.loads(text))]


def test_both_are_schemas():
    jsonschema.Draft7Validator.check_schema(schema.of_bridge())
    jsonschema.Draft7Validator.check_schema(schema.of_agent())


def test_every_engine_and_every_provider_is_in_it():
    assert schema.ENGINES.keys() == BUILTIN.keys()
    assert {p: v.keys() for p, v in schema.PROVIDERS.items()} == {
        p: v.keys() for p, v in PROVIDERS.items()
    }
    places = [*schema.ENGINES.values(), *(p for v in schema.PROVIDERS.values() for p in v.values())]
    for place in places:
        module, _, name = place.partition(":")
        assert hasattr(importlib.import_module(module), name), place


@pytest.mark.parametrize("path", AGENTS, ids=lambda p: p.stem)
def test_our_agents_are_valid(path):
    assert faults(schema.of_agent(), path.read_text()) == []
    agent.load(path.parent, path.stem)


@pytest.mark.parametrize(
    "text",
    [
        "greting = 'x'",
        "[turns]\nno_input = 3",
        "[turns]\nbarge_in = 'on'",
        "[tool.x]\ntype = 'http'\ndescription = 'd'\nurl = 'http://x'\ntimeout = 3",
        "[tool.x]\ntype = 'htp'\ndescription = 'd'\nurl = 'http://x'",
        "engine = 'echo'\n[echoo]\nx = 1",
        "engine = 'cascade'\n[stt]\nprovider = 'moonshine'\nmodell = 'x'",
        "name = 'x'",
    ],
)
def test_what_the_code_refuses_the_schema_marks(text):
    assert faults(schema.of_agent(), text)
    with pytest.raises(ConfigError) as caught:
        Engines().check(agent.parse(tomllib.loads(text), "x", "x.toml"))
    assert str(caught.value).startswith("x.toml")


def test_an_engine_of_somebody_else_has_a_table_of_its_own():
    assert faults(schema.of_agent(), "engine = 'beeper'\n[beeper]\nhz = 440") == []


def test_bridge_toml():
    whole = schema.of_bridge()
    assert faults(whole, "[asterisk]\nurl = 'http://h'\n[media]\nport = 1") == []
    assert faults(whole, "[[asterisk]]\nname = 'a'\n[[asterisk]]\nname = 'b'") == []
    assert faults(whole, "[media]\nprot = 1")
    assert faults(whole, "[media]\nport = 'x'")
    assert faults(whole, "[medai]\nport = 1")
    port = whole["properties"]["media"]["properties"]["port"]
    assert port == {"type": "integer", "default": 7000, "description": port["description"]}
    assert port["description"].startswith("UDP port of all calls")
