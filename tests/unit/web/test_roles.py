"""Two tokens: who may only look, and who may do everything."""

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bridge.config import Config
from bridge.errors import ConfigError
from bridge.web.parts import Parts
from bridge.web.server import application
from bridge.web.token import READ_VARIABLE, VARIABLE, Tokens, read_tokens

READER = "a-token-that-may-look"


@pytest.fixture
async def looking(sessions):
    """A client that names the token that may only look."""
    parts = Parts(Config(), sessions)
    server = TestServer(application(parts, "a-token-of-the-tests", READER))
    headers = {"Authorization": f"Bearer {READER}"}
    async with TestClient(server, headers=headers) as client:
        yield client


async def test_what_a_token_allows_is_told(api, looking):
    assert await (await api.get("/v1/token")).json() == {"role": "operate"}
    assert await (await looking.get("/v1/token")).json() == {"role": "read"}


OPERATES = {"/v1/phone", "/v1/phone/sip", "/v1/calls/{id}/listen"}
"""GETs that do more than look."""


async def test_who_may_look_can_do_nothing_else(looking):
    seen = set()
    for resource in looking.app.router.resources():
        for route in resource:
            if route.method == "HEAD" or not resource.canonical.startswith("/v1/"):
                continue
            if resource.canonical == "/v1/live":
                continue  # has no end; test_live.py
            path = resource.canonical.replace("{id}", "x")
            answer = await looking.request(route.method, path)
            looks = route.method == "GET" and resource.canonical not in OPERATES
            assert (answer.status == 403) != looks, (route.method, path, answer.status)
            if not looks:
                assert (await answer.json())["error"] == "forbidden"
            seen.add((route.method, looks))
    assert {("GET", True), ("GET", False), ("POST", False), ("DELETE", False)} <= seen


async def test_without_a_token_for_looking_nobody_looks(api):
    for given in ("", " ", READER):
        answer = await api.get("/v1/calls", headers={"Authorization": f"Bearer {given}"})
        assert answer.status == 401


def test_no_token_is_told_by_printing():
    assert "secret" not in repr(Tokens("secret-one-of-them", "secret-another-one"))


def test_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(READ_VARIABLE, raising=False)
    made = read_tokens("", "", str(tmp_path))
    assert (len(made.operate) > 30, made.read) == (True, "")
    file = tmp_path / "reader"
    file.write_text("of-the-file-0123456\n")
    file.chmod(0o600)
    assert read_tokens("", str(file), str(tmp_path)).read == "of-the-file-0123456"
    monkeypatch.setenv(READ_VARIABLE, "of-the-environment")
    found = read_tokens("", str(file), str(tmp_path))
    assert (found.read, found.operate) == ("of-the-environment", made.operate)
    assert found.role(made.operate) == "operate"
    monkeypatch.setenv(VARIABLE, "of-the-environment")
    with pytest.raises(ConfigError, match="give ARI_BRIDGE_READ_TOKEN"):
        read_tokens("", "", str(tmp_path))


def test_a_file_that_others_can_read(tmp_path):
    file = tmp_path / "reader"
    file.write_text("of-the-file-0123456\n")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_tokens("", str(file), str(tmp_path))
