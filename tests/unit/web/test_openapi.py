"""The API's description, against what the API does."""

import re
from pathlib import Path

import jsonschema
import pytest

from bridge.sessions.model import Line, Record
from bridge.web.openapi import document
from bridge.web.page import STATIC

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


@pytest.fixture
async def described(api):
    return await (await api.get("/v1/openapi.json")).json()


def schema_of(described, path, method="get", status="200"):
    answer = described["paths"][path][method]["responses"][status]
    return answer["content"]["application/json"]["schema"]


async def test_answers_are_as_described(api, described, sessions):
    sessions.add(
        Record("c1", agent="demo", started=5.0, state="ringing", direction="out"),
        [Line(1.0, "agent", "Hello.", heard_ms=5), Line(2.0, "caller", "Hi!")],
    )
    for path in ("/v1/calls", "/v1/workers", "/v1/calls/{id}"):
        answer = await (await api.get(path.replace("{id}", "c1"))).json()
        jsonschema.validate(answer, schema_of(described, path))
    refused = await (await api.get("/v1/calls/c2")).json()
    jsonschema.validate(refused, schema_of(described, "/v1/calls/{id}", status="default"))


async def test_bodies_are_as_described(described):
    body = described["paths"]["/v1/calls"]["post"]["requestBody"]["content"]["application/json"]
    jsonschema.validate({"to": "200", "agent": "demo", "timeout_s": 5}, body["schema"])
    for wrong in ({"to": "200"}, {"to": 200, "agent": "demo"}, {"to": "2", "agent": "a", "x": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, body["schema"])


async def test_every_path_is_documented_for_people(described):
    text = DOCS.read_text(encoding="utf-8")
    missing = [path for path in described["paths"] if path not in text]
    assert not missing


_ASKED = re.compile(r"[`']((?:/v1/|\$\{path\}/)[^`'?]*)")


async def test_what_the_page_has_a_program_can_have(described):
    """It asks for nothing that isn't described."""
    code = "".join(file.read_text(encoding="utf-8") for file in STATIC.glob("*.js"))
    asked = {path.replace("${path}", "/v1/calls/{id}") for path in _ASKED.findall(code)}
    asked = {path.replace("${encodeURIComponent(id)}", "{id}") for path in asked}
    assert "/v1/calls/{id}/${verb}" in asked
    verbs = set(re.findall(r"order\(\w+, '(\w+)'|, '(say|transfer)', \d+\)", code))
    assert {a or b for a, b in verbs} == {"mute", "recording", "hangup", "say", "transfer"}
    asked |= {f"/v1/calls/{{id}}/{a or b}" for a, b in verbs}
    assert asked - {"/v1/calls/{id}/${verb}"} <= set(described["paths"])
    assert len(asked) >= 15


async def test_names_in_paths_are_parameters(described):
    (one, *_) = described["paths"]["/v1/calls/{id}"]["get"]["parameters"]
    assert (one["name"], one["in"], one["required"]) == ("id", "path", True)
    query = described["paths"]["/v1/calls"]["get"]["parameters"]
    assert {p["name"]: p["in"] for p in query} == {
        "live": "query",
        "limit": "query",
        "before": "query",
    }


def test_pages_are_no_part_of_it():
    assert document([])["paths"] == {}
