"""Who is let in, and how everything else is refused."""

import asyncio

import pytest

from bridge.errors import StoreUnreachable


async def refused(answer):
    table = await answer.json()
    assert set(table) == {"error", "reason"}
    return answer.status, table["error"], table["reason"]


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", "Basic a-token-of-the-tests", "a-token-of-the-tests"]
)
async def test_nobody_comes_in_without_the_token(api, header):
    answer = await api.get("/v1/calls", headers={"Authorization": header})
    assert (await refused(answer))[:2] == (401, "no-token")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("name", ["Authorization", "Sec-WebSocket-Protocol"])
@pytest.mark.parametrize("given", [b"\xc3\xa4", b"\xff\x80"])
async def test_bytes_that_are_no_text_are_no_token(api, name, given):
    kind = b"Bearer " if name == "Authorization" else b"ari-bridge.token."
    lines = [b"GET /v1/calls HTTP/1.1", b"Host: x", b"Connection: close"]
    lines.append(name.encode() + b": " + kind + given)
    reader, writer = await asyncio.open_connection(api.host, api.port)
    writer.write(b"\r\n".join([*lines, b"", b""]))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 401 "), answer


OPEN = ("/", "/live", "/ready", "/metrics")  # the last from this host only: test_metrics.py


async def test_every_route_wants_the_token(api):
    for resource in api.app.router.resources():
        for route in resource:
            path = resource.canonical.replace("{id}", "x")
            answer = await api.request(route.method, path, headers={"Authorization": ""})
            if route.method != "HEAD" and path not in OPEN and not path.startswith("/static/"):
                assert answer.status == 401, path


@pytest.mark.parametrize("path", ["/", "/v1/calls", "/v1/calls/c/hangup", "/v1/live"])
async def test_no_other_sites_page_may_ask(api, path):
    """A browser gives it no answer, and doesn't so much as send a token for it: there is no CORS,
    and no cookie that a form would carry."""
    foreign = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = await api.options(path, headers={**foreign, "Authorization": ""})
    assert answer.status in (401, 405)
    form = await api.post(path, data={"on": "true"}, headers={**foreign, "Authorization": ""})
    assert form.status in (401, 405)
    for one in (answer, form):
        named = " ".join(one.headers).lower()
        assert "access-control" not in named
        assert "set-cookie" not in named


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "c%00", "%7bx%7d", "*"])
@pytest.mark.parametrize("what", ["", "/recording", "/peaks", "/page.html", "/transcript.vtt"])
async def test_a_calls_name_is_no_path(api, name, what):
    answer = await api.get(f"/v1/calls/{name}{what}")
    assert answer.status == 404
    assert "root:" not in await answer.text()


async def test_what_there_is_not(api):
    assert await refused(await api.get("/v2/calls")) == (
        404,
        "not-found",
        "the API has no /v2/calls",
    )
    assert await refused(await api.put("/v1/workers")) == (
        *(405, "bad-method"),
        "/v1/workers takes GET",
    )


async def test_redis_away(api, sessions):
    sessions.failure = StoreUnreachable("Redis at x does not answer")
    assert (await refused(await api.get("/v1/calls")))[:2] == (503, "store-away")


async def test_a_path_begins_no_line_in_the_log(api, sessions, caplog):
    sessions.failure = ZeroDivisionError("x")
    assert (await api.get("/v1/calls/a%0Aforged: all is well")).status == 500
    assert "\nforged" not in caplog.messages[0]


async def test_a_fault_is_told_and_harms_nobody(api, sessions):
    sessions.failure = ZeroDivisionError("secret")
    status, code, reason = await refused(await api.get("/v1/calls"))
    assert (status, code) == (500, "fault")
    assert "secret" not in reason
    sessions.failure = None
    assert (await api.get("/v1/calls")).status == 200
