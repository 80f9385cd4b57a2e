"""The API described as OpenAPI 3.1, from the table of routes: there is no second description.

A dataclass gives a schema, the docstrings under its fields the descriptions (`bridge.schema`).
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable
from typing import Any

from bridge import __version__
from bridge.schema import of_class
from bridge.web.errors import Problem
from bridge.web.routes import Route

Document = dict[str, Any]

_IN_PATH = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_TOKEN = "token"  # noqa: S105 - the scheme's name


def document(routes: Iterable[Route]) -> Document:
    """Of these routes; pages and files for people are left out."""
    paths: dict[str, Document] = {}
    for route in routes:
        if route.path.startswith("/v1/"):
            path = _IN_PATH.sub(r"{\1}", route.path)
            paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ari-bridge", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {_TOKEN: {"type": "http", "scheme": "bearer"}}},
        "security": [{_TOKEN: []}],
    }


def _operation(route: Route) -> Document:
    named = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _IN_PATH.findall(route.path)
    ]
    found: Document = {"summary": route.summary, "parameters": [*named, *_query(route.query)]}
    if route.takes is not None:
        found["requestBody"] = {"required": True, **_json(of_class(route.takes))}
    if route.gives is not None:
        answer = {"description": "done", **_json(_given(route.gives))}
        found["responses"] = {str(route.status): answer}
    else:
        found["responses"] = {"2XX": {"description": "done"}}
    found["responses"]["default"] = {"description": "refused", **_json(of_class(Problem))}
    if route.public:
        found["security"] = []
    return found


def _given(kind: type) -> Document:
    """The schema of an answer: what may be None is null there."""
    schema, hints = of_class(kind), typing.get_type_hints(kind)
    schema["additionalProperties"] = True  # a newer version may tell more
    for name, one in schema["properties"].items():
        args = typing.get_args(hints[name])
        inner = next((a for a in args if dataclasses.is_dataclass(a)), None)
        if inner is not None and one.get("type") == "array":
            one["items"] = _given(typing.cast(type, inner))
        elif type(None) in args and "type" in one:
            one["type"] = [one["type"], "null"]
    return schema


def _query(kind: type | None) -> list[Document]:
    if kind is None:
        return []
    schema = of_class(kind)
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": one,
            "description": one.pop("description", ""),
        }
        for name, one in schema["properties"].items()
    ]


def _json(schema: Document) -> Document:
    return {"content": {"application/json": {"schema": schema}}}
