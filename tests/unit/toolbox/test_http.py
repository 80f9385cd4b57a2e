"""Requests to a service, each judged by what the service got."""

import asyncio
import json
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.agent import Agent
from bridge.errors import ToolError
from bridge.toolbox import ToolContext, http, may_run_again, named
from bridge.tooltables import HttpTool

TEXT = {"type": "string"}
CALL = ToolContext("c1", "c1:3:abc:1", "0123", "shop", line=None, notes={})


class Service:
    """Answers as it is told to, the last way for ever, and keeps what it got."""

    def __init__(self):
        self.got, self.answers = [], [gives({"ok": True})]
        self.gate = None

    async def serve(self, request):
        self.got.append((request, await request.text()))
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            request.transport.abort()
            return web.Response()
        return answer()

    def tool(self, path="/", **more):
        table = HttpTool("http", "Does.", f"{self.url}{path}", **more)
        return named("it", Agent("shop", tool={"it": table}))

    def urls(self):
        return [request.raw_path for request, _ in self.got]

    def keys(self):
        return [request.headers["Idempotency-Key"] for request, _ in self.got]


@pytest.fixture
async def service(monkeypatch):
    monkeypatch.setattr(http, "AGAIN_AFTER_S", 0.0)
    one = Service()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", one.serve)
    async with TestServer(app) as server:
        one.url = str(server.make_url("")).rstrip("/")
        yield one


def gives(value):
    return lambda: web.json_response(value)


def says(status, text="", **headers):
    return lambda: web.Response(status=status, text=text, headers=headers)


async def test_what_a_model_says_stays_in_its_place(service):
    tool = service.tool("/orders/{order}?by={who}", parameters={"order": TEXT, "who": TEXT})
    assert await tool(CALL, order="a/../b?c#d &=%", who="ü&x=1") == {"ok": True}
    assert service.urls() == ["/orders/a%2F..%2Fb%3Fc%23d%20%26%3D%25?by=%C3%BC%26x%3D1"]


@pytest.mark.parametrize("order", ["", ".", ".."])
async def test_an_argument_is_no_path_of_its_own(service, order):
    tool = service.tool("/orders/{order}", parameters={"order": TEXT})
    with pytest.raises(ToolError, match="the argument 'order' can't be"):
        await tool(CALL, order=order)
    assert service.got == []


async def test_what_has_no_place_goes_into_the_query_or_the_body(service):
    parameters = {"order": TEXT, "call": {"type": "integer"}, "late": {"type": "boolean"}}
    arguments = {"order": "/", "call": 2, "late": True}
    await service.tool("/a/{order}", parameters=parameters)(CALL, **arguments)
    await service.tool("/a/{order}", parameters=parameters, method="POST")(CALL, **arguments)
    assert service.urls() == ["/a/%2F?call=2&late=true", "/a/%2F"]
    assert json.loads(service.got[1][1]) == {"call": 2, "late": True}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "the argument 'day' is missing"),
        ({"day": "mon", "dya": 1}, "there is no argument 'dya'; it takes day, persons"),
        ({"day": "sun"}, "'day' takes 'mon', 'tue', not 'sun'"),
        ({"day": "mon", "persons": "2"}, "'persons' is '2'; it takes: integer"),
        ({"day": "mon", "persons": True}, "'persons' is True; it takes: integer"),
    ],
)
async def test_what_the_schema_doesnt_allow_isnt_sent(service, arguments, error):
    parameters = {"day": {"type": "string", "enum": ["mon", "tue"]}, "persons": {"type": "integer"}}
    tool = service.tool(parameters=parameters, required=("day",))
    with pytest.raises(ToolError) as caught:
        await tool(CALL, **arguments)
    assert error in str(caught.value)
    assert service.got == []


async def test_secrets_come_from_elsewhere_and_go_nowhere_else(service, monkeypatch, tmp_path):
    monkeypatch.setenv("SHOP_KEY", "s3cret")
    (tmp_path / "key").write_text("k3y\n")
    headers = {"Authorization": "Bearer ${SHOP_KEY}", "X-Key": f"${{file:{tmp_path}/key}}"}
    service.answers = [says(401, "no")]
    tool = service.tool(headers=headers)
    with pytest.raises(ToolError) as caught:
        await tool(CALL)
    got = service.got[0][0].headers
    assert (got["Authorization"], got["X-Key"]) == ("Bearer s3cret", "k3y")
    assert str(caught.value) == "127.0.0.1 answers 401 Unauthorized: no"


async def test_all_tries_have_one_key_and_so_has_the_heirs(service):
    service.answers = [says(503), None, gives(5)]
    assert await service.tool(method="POST", idempotent=True, retries=2)(CALL) == 5
    service.answers = [gives(5)]
    await service.tool(method="POST", idempotent=True)(CALL)
    assert len(service.got) == 4
    assert len(set(service.keys())) == 1
    await service.tool()(replace(CALL, key="c1:3:abc:2"))
    assert len(set(service.keys())) == 2


@pytest.mark.parametrize("answer", [says(503), None])
async def test_what_may_have_had_its_effect_isnt_done_twice(service, answer):
    service.answers = [answer]
    tool = service.tool(method="POST", retries=3)
    with pytest.raises(ToolError):
        await tool(CALL)
    assert len(service.got) == 1


async def test_a_no_isnt_asked_for_twice(service):
    service.answers = [says(404, "no such\n order")]
    with pytest.raises(ToolError, match=r"127\.0\.0\.1 answers 404 Not Found: no such order"):
        await service.tool(retries=3)(CALL)
    assert len(service.got) == 1


def test_what_may_be_run_again_after_a_takeover():
    def may(**more):
        tool = HttpTool("http", "Does.", "http://x.example", **more)
        return may_run_again("it", Agent("shop", tool={"it": tool}))

    assert [may(method=m) for m in ("GET", "PUT", "DELETE")] == [True] * 3
    assert [may(method=m) for m in ("POST", "PATCH")] == [False] * 2
    assert may(method="POST", idempotent=True)
    assert not may(idempotent=False)


async def test_a_service_that_cant_be_reached_is_tried_again(service, monkeypatch):
    waits = []
    monkeypatch.setattr(asyncio, "sleep", lambda s, real=asyncio.sleep: waits.append(s) or real(0))
    with TestServerPort() as port:
        table = HttpTool("http", "Does.", f"http://127.0.0.1:{port}/", "POST", retries=2)
        tool = named("it", Agent("shop", tool={"it": table}))
        with pytest.raises(ToolError, match=r"127\.0\.0\.1 can't be reached: Connect"):
            await tool(CALL)
    assert len(waits) == 2


class TestServerPort:
    """A port on which nobody listens, and nobody else can."""

    __test__ = False

    def __enter__(self):
        import socket

        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        return self._socket.getsockname()[1]

    def __exit__(self, *error):
        self._socket.close()


async def test_one_that_hangs_is_given_up(service):
    service.gate = asyncio.Event()
    with pytest.raises(ToolError, match=r"gave no answer within 0\.1 s"):
        await service.tool(timeout_s=0.1, retries=0)(CALL)
    service.gate.set()


async def test_an_endless_answer_is_cut(service):
    service.answers = [says(200, "x" * (3 * http.MOST_BYTES))]
    assert await service.tool()(CALL) == "x" * http.MOST_BYTES


async def test_an_answer_is_json_or_text(service):
    service.answers = [
        gives([1]),
        says(200, " plain "),
        lambda: web.Response(text="{broken", content_type="application/json"),
        says(204),
    ]
    assert [await service.tool()(CALL) for _ in range(4)] == [[1], "plain", "{broken", "done"]


async def test_a_redirect_is_followed_on_the_same_host_only(service):
    service.answers = [says(302, Location="/there?x=1"), gives(1)]
    assert await service.tool("/here")(CALL) == 1
    assert service.urls() == ["/here", "/there?x=1"]
    service.answers = [says(307, Location="http://evil.example/")]
    with pytest.raises(ToolError, match=r"redirects to evil\.example; set that as 'url'"):
        await service.tool()(CALL)
    service.answers = [says(302, Location="/login")]
    with pytest.raises(ToolError, match="redirects a POST"):
        await service.tool(method="POST")(CALL)
    service.answers = [says(302, Location="/")]
    with pytest.raises(ToolError, match="without an end"):
        await service.tool()(CALL)


async def test_a_text_needs_no_charset(service):
    plain = {"body": "sieben Stück".encode(), "content_type": "text/plain"}
    service.answers = [lambda: web.Response(**plain)]
    assert await service.tool()(CALL) == "sieben Stück"
