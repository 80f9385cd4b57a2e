"""The JSON schemas of the operator's files, and their tables for the documentation, from the
dataclasses that read them: there is no second list of keys that could be wrong.

A field's annotation gives the type, its default the default, and the docstring under it the
description. Editors (taplo, Even Better TOML) take a schema from a file's first line:

    #:schema bridge.schema.json

`ari-bridge config --schema` and `--schema agent` print them.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from bridge import config, configshow
from bridge.agent import Agent
from bridge.engines.registry import BUILTIN

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"  # what taplo understands

ENGINES: dict[str, str] = {
    "cascade": "bridge.engines.assembly:AssemblySettings",
    "deepgram-agent": "bridge.engines.deepgram_agent:DeepgramSettings",
    "echo": "bridge.engines.echo:EchoSettings",
    "elevenlabs": "bridge.engines.elevenlabs:ElevenLabsSettings",
    "gemini-live": "bridge.engines.gemini_live:GeminiSettings",
    "offline": "bridge.engines.offline:OfflineSettings",
    "openai-realtime": "bridge.engines.openai_session:OpenAiSettings",
    "twilio": "bridge.engines.twilio:TwilioSettings",
    "websocket": "bridge.engines.websocket:WebsocketSettings",
}
"""What each engine's own table is read into."""
PROVIDERS: dict[str, dict[str, str]] = {
    "stt": {
        "deepgram": "bridge.engines.stt_deepgram:DeepgramSettings",
        "moonshine": "bridge.engines.parts_local:MoonshineSettings",
        "openai": "bridge.engines.speech_openai:SttSettings",
        "wyoming": "bridge.engines.wyoming:WyomingSttSettings",
    },
    "llm": {
        "anthropic": "bridge.engines.llm_anthropic:AnthropicSettings",
        "openai": "bridge.engines.llm_openai:OpenAiSettings",
    },
    "tts": {
        "cartesia": "bridge.engines.tts_http:CartesiaSettings",
        "deepgram": "bridge.engines.tts_http:DeepgramSettings",
        "openai": "bridge.engines.speech_openai:TtsSettings",
        "piper": "bridge.engines.parts_local:PiperSettings",
        "wyoming": "bridge.engines.wyoming:WyomingTtsSettings",
    },
}
"""The same for the providers of a cascade's parts."""
_CODE_ONLY = ("name", "options", "file")  # fields of an agent that no file has


def of_bridge() -> Schema:
    """Of `bridge.toml`."""
    tables = {name: of_class(kind) for name, kind in config.kinds().items()}
    one = tables["asterisk"]
    tables["asterisk"] = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    return {
        "$schema": DRAFT,
        "title": "bridge.toml of ari-bridge",
        "type": "object",
        "properties": tables,
        "additionalProperties": False,
    }


def of_agent() -> Schema:
    """Of an agent's file."""
    whole = of_class(Agent)
    known = {k: v for k, v in whole["properties"].items() if k not in _CODE_ONLY}
    known["engine"] = {**known["engine"], "examples": sorted(BUILTIN)}
    for name, place in ENGINES.items():
        known[name] = _of_place(place)
    for part in PROVIDERS:  # tables of their own, not keys of [cascade]
        known["cascade"].get("properties", {}).pop(part, None)
        known[part] = {"anyOf": [_of_part(n, p) for n, p in PROVIDERS[part].items()]}
    return {
        "$schema": DRAFT,
        "title": "an agent of ari-bridge",
        "type": "object",
        "properties": known,
        # Another engine's table has that engine's name.
        "if": {"properties": {"engine": {"enum": sorted(BUILTIN)}}},
        "then": {"propertyNames": {"enum": sorted(known)}},
    }


LIMITS = "limits"
"""In a field's metadata: what JSON schema is told of it beyond its type, such as `maximum`."""


def of_class(kind: type) -> Schema:
    """Of a table that is read into a dataclass."""
    hints, said = typing.get_type_hints(kind), descriptions(kind)
    properties: Schema = {}
    required = []
    for field in dataclasses.fields(kind):
        one = dict(_of_hint(hints[field.name]))
        if field.name in said:
            one["description"] = said[field.name]
        one.update(field.metadata.get(LIMITS, {}))
        if field.default is not dataclasses.MISSING:
            if field.default is not None:
                one["default"] = _plain(field.default)
        elif field.default_factory is dataclasses.MISSING:
            required.append(field.name)
        properties[field.name] = one
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        found["required"] = required
    return found


def markdown() -> str:
    """The tables of `docs/configuration.md`."""
    return "\n".join(_markdown())


@functools.cache
def descriptions(kind: type) -> dict[str, str]:
    """The docstring under each field, also of the classes that it inherits from."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if dataclasses.is_dataclass(one):
            found |= _docstrings(one)
    return found


# ------------------------------------------------------------------------------------------------


def _docstrings(kind: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _of_hint(hint: Any) -> Schema:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return of_class(hint)
    if origin in (typing.Union, types.UnionType):
        some = [_of_hint(arg) for arg in args if arg is not type(None)]
        return some[0] if len(some) == 1 else {"anyOf": some}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _of_hint(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_hint(args[1])}
    name = {str: "string", int: "integer", float: "number", bool: "boolean"}.get(hint)
    return {"type": name} if name else {}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _of_place(place: str) -> Schema:
    module, _, name = place.partition(":")
    try:
        return of_class(getattr(importlib.import_module(module), name))
    except ModuleNotFoundError:  # its extra isn't installed: anything may stand there
        return {"type": "object"}


def _of_part(name: str, place: str) -> Schema:
    found = _of_place(place)
    provider = {"const": name, "description": "Who does it."}
    properties = {"provider": provider, **found.get("properties", {})}
    return {**found, "properties": properties, "required": ["provider", *found.get("required", ())]}


def _markdown() -> Iterator[str]:
    tables: list[tuple[str, Any]] = list(config.kinds().items())
    while tables:
        name, kind = tables.pop(0)
        hints = typing.get_type_hints(kind)
        inner = [(f"{name}.{f.name}", hints[f.name]) for f in dataclasses.fields(kind)]
        tables = [(n, k) for n, k in inner if dataclasses.is_dataclass(k)] + tables
        yield f"### `[{name}]`\n"
        if summary := inspect.getdoc(kind):
            yield " ".join(summary.split("\n\n")[0].split()) + "\n"
        yield "| key | without it | what it is |"
        yield "|---|---|---|"
        said = descriptions(kind)
        for field in dataclasses.fields(kind):
            if dataclasses.is_dataclass(hints[field.name]):
                continue  # a table of its own
            text = said.get(field.name, "")
            if typing.get_origin(hints[field.name]) is Literal:
                choices = typing.get_args(hints[field.name])
                values = ", ".join(f"`{configshow.toml(one)}`" for one in choices)
                text = f"{text} One of {values}.".lstrip()
            yield f"| `{field.name}` | {_default(field)} | {text.replace('|', chr(92) + '|')} |"
        yield ""


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "(needed)" if field.default_factory is dataclasses.MISSING else "(chosen)"
    if field.default is None:
        return ""
    return f"`{configshow.toml(_plain(field.default))}`"
