"""What a model is told of the agent's tools."""

from typing import Annotated, Literal

import jsonschema
import pytest

from bridge import toolbox
from bridge.agent import Agent, TransferSettings
from bridge.engines.functions import declared
from bridge.errors import ConfigError


def one(monkeypatch, function):
    """How that tool is declared."""
    monkeypatch.setattr(toolbox, "_load", {"tool": function}.__getitem__)
    return declared(Agent("a", tools=("tool",)))[-1]


def test_what_every_agent_can_do():
    assert [f.name for f in declared(Agent("a"))] == ["hang_up"]
    agent = Agent("a", transfer=TransferSettings(extensions=("200", "201")))
    transfer, hang_up = declared(agent)
    assert (transfer.name, hang_up.name) == ("transfer", "hang_up")
    jsonschema.validate({"to": "201"}, transfer.parameters)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"to": "999"}, transfer.parameters)


def test_a_signature_is_a_schema(monkeypatch):
    async def book(
        call,
        day: Annotated[str, "ISO date"],
        *,
        persons: int = 2,
        where: Literal["inside", "outside"] | None = None,
        wishes: list[str] = (),
        prices: dict[str, float] | None = None,
    ):
        """Book a table.

        Say the day back first.
        """

    tool = one(monkeypatch, book)
    assert tool.name == "tool"
    assert tool.description == "Book a table.\n\nSay the day back first."
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "day": {"type": "string", "description": "ISO date"},
            "persons": {"type": "integer"},
            "where": {"type": "string", "enum": ["inside", "outside"]},
            "wishes": {"type": "array", "items": {"type": "string"}},
            "prices": {"type": "object", "additionalProperties": {"type": "number"}},
        },
        "required": ["day"],
        "additionalProperties": False,
    }
    jsonschema.Draft202012Validator.check_schema(tool.parameters)


def test_a_tool_that_takes_anything(monkeypatch):
    async def anything(call, **arguments):
        pass

    assert one(monkeypatch, anything).parameters["additionalProperties"] is True
    assert one(monkeypatch, anything).description == "tool"


def test_a_schema_of_its_own(monkeypatch):
    async def own(call, what: object):
        """Do it."""

    own.parameters = {"type": "object", "properties": {"what": {"type": "null"}}}
    assert one(monkeypatch, own).parameters is own.parameters


@pytest.mark.parametrize("hint", [object, tuple[int, str], Literal[1, "a"], int | str])
def test_what_cannot_be_told_is_one_line(monkeypatch, hint):
    async def odd(call, what):
        pass

    odd.__annotations__["what"] = hint
    with pytest.raises(ConfigError, match=r"tool 'tool': parameter 'what'.*'parameters'"):
        one(monkeypatch, odd)


def test_arguments_come_by_name(monkeypatch):
    async def odd(call, *what):
        pass

    with pytest.raises(ConfigError, match="by name"):
        one(monkeypatch, odd)


def test_a_tool_that_is_not_installed_is_told():
    with pytest.raises(ConfigError, match="'nothing'"):
        declared(Agent("a", tools=("nothing",)))
