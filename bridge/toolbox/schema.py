"""What a model may give to a tool that a table declares: JSON schema, as far as it is checked here.

Vendors hold a model to a schema more or less. What reaches a service is therefore looked at once
more: no argument that isn't declared, none missing, each of its type, and one of its `enum`. Finer
words (`pattern`, `minimum`, ...) are for the model; the service checks them better.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bridge.errors import ToolError

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}


def of(parameters: Mapping[str, Any], required: Iterable[str] | None) -> Mapping[str, Any]:
    """The schema of an object with these properties; `required` None: all of them are."""
    return {
        "type": "object",
        "properties": dict(parameters),
        "required": list(parameters if required is None else required),
        "additionalProperties": False,
    }


def check(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raise `ToolError`, which tells a model what to do otherwise."""
    properties = schema["properties"]
    for name in schema["required"]:
        if name not in arguments:
            raise ToolError(f"the argument '{name}' is missing")
    for name, value in arguments.items():
        if name not in properties:
            raise ToolError(f"there is no argument '{name}'; it takes {', '.join(properties)}")
        kind, enum = properties[name]["type"], properties[name].get("enum")
        wrong = isinstance(value, bool) and kind != "boolean"  # an int to Python
        if wrong or not isinstance(value, _TYPES[kind]):
            raise ToolError(f"the argument '{name}' is {value!r:.80}; it takes: {kind}")
        if enum is not None and value not in enum:
            raise ToolError(f"'{name}' takes {', '.join(map(repr, enum))}, not {value!r:.80}")
