"""The agent's tools, as a language model is told of them: name, description, JSON schema.

A tool of others (`bridge.toolbox`) is an async function; what a model has to know of it stands in
its signature and docstring:

    async def book_table(call: ToolContext, *, day: Annotated[str, "ISO date"], persons: int = 2):
        "Book a table. Say the day back to the caller first."

Annotations may be `str`, `int`, `float`, `bool`, `Literal`, `list[X]`, `tuple[X, ...]`,
`dict[str, X]`, `X | None`, and `Annotated` with a description. For everything else the function
has an attribute `parameters` with a JSON schema of its own, as those have that an agent's file
declares.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge import toolbox
from bridge.agent import Agent, TransferSettings
from bridge.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Function:
    """What a model may call."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON schema of an object."""


_NONE: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

HANG_UP = Function("hang_up", "End the call, after you have said goodbye.", _NONE)


def declared(agent: Agent) -> tuple[Function, ...]:
    """Every tool that the agent may use, as far as it is known now.

    Raises:
        ConfigError: one isn't installed, or its signature can't be told in JSON schema.
    """
    own = _transfer(agent.transfer) if agent.transfer else ()
    return (*own, HANG_UP, *(_described(name, agent) for name in toolbox.known(agent)))


CONNECT = Function(
    "connect",
    "Put the caller through to whom you talk to after a transfer. You are out of the call then.",
    _NONE,
)
TAKE_BACK = Function(
    "take_back", "End your talk with whom you have rung, and talk to the caller again.", _NONE
)


def _transfer(settings: TransferSettings) -> tuple[Function, ...]:
    to: dict[str, Any] = {"type": "string"}
    known = [f"{name}: {d.description}" for name, d in settings.to.items() if d.description]
    if settings.patterns:
        names = ", ".join((*settings.named, *settings.patterns))
        known.insert(0, f"One of {names}; _ begins a pattern: X is a digit, N 2 to 9, Z 1 to 9")
    else:
        to["enum"] = list(settings.named)
    if known:
        to["description"] = "; ".join(known)
    schema = {
        "type": "object",
        "properties": {"to": to},
        "required": ["to"],
        "additionalProperties": False,
    }
    text = "Hand the caller over to a human, after you have told him so."
    transfer = Function("transfer", text, schema)
    if any(d.kind == "attended" for d in (*settings.named.values(), *settings.patterns.values())):
        return (transfer, CONNECT, TAKE_BACK)
    return (transfer,)


def _described(name: str, agent: Agent) -> Function:
    function = toolbox.named(name, agent)
    text = getattr(function, "description", "") or inspect.getdoc(function)
    text = text or name.replace("_", " ")
    own = getattr(function, "parameters", None)
    if own is not None:
        return Function(name, text, own)
    try:
        return Function(name, text, _parameters(function))
    except (TypeError, NameError, ValueError) as error:
        raise ConfigError(
            f"tool '{name}': {error}; give it an attribute 'parameters' with a JSON schema"
        ) from error


def _parameters(function: toolbox.Function) -> dict[str, Any]:
    hints = typing.get_type_hints(function, include_extras=True)
    _call, *parameters = inspect.signature(function).parameters.values()
    properties: dict[str, Any] = {}
    required = []
    more = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            more = True
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise TypeError(f"parameter '{parameter.name}' can't be given by name")
        properties[parameter.name] = _schema(hints.get(parameter.name, str), parameter.name)
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": more,
    }


_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _schema(hint: Any, name: str) -> dict[str, Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if origin is typing.Annotated:
        text = " ".join(str(note) for note in args[1:])
        return {**_schema(args[0], name), "description": text}
    if origin is typing.Literal and len({type(value) for value in args}) == 1:
        return {**_schema(type(args[0]), name), "enum": list(args)}
    if origin in (typing.Union, types.UnionType):
        some = [arg for arg in args if arg is not type(None)]
        if len(some) == 1:  # a model leaves it out
            return _schema(some[0], name)
    if hint is list or hint is tuple:
        return {"type": "array", "items": {}}
    if origin is list or (origin is tuple and len(args) == 2 and args[1] is ...):
        return {"type": "array", "items": _schema(args[0], name)}
    if hint is dict:
        return {"type": "object"}
    if origin is dict and args[0] is str:
        return {"type": "object", "additionalProperties": _schema(args[1], name)}
    raise TypeError(f"parameter '{name}' is {hint!r}, which no JSON schema is known for")
