"""The edge to aioari, with a fake server for what a real Asterisk >= 20 can't be made to do."""

import json
import re
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

import bridge.pbx.ari as ari_module
from bridge.errors import PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx.ari import Ari, refusal
from bridge.pbx.settings import AsteriskSettings


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "Channel not found", PbxGone),
        (409, "Channel not in Stasis application", PbxGone),
        (422, "Channel not in Stasis application", PbxGone),
        (400, "Channel not found", PbxGone),
        (400, "Missing variable parameter.", PbxRefused),
        (401, "Authentication required", PbxRefused),
        (403, "Write access denied", PbxRefused),
        (405, "", PbxRefused),
        (412, "Channel in invalid state", PbxRefused),
        (418, "", PbxRefused),
        (500, "An internal error", PbxRefused),
        (503, "", PbxUnreachable),
    ],
)
def test_what_each_status_means(status, message, kind):
    error = refusal(status, "channels.answer", message)
    assert type(error) is kind
    assert "channels.answer" in str(error)
    assert message in str(error)


def operation(path, nickname, method="GET", **parameter):
    parameters = [
        {"name": name, "paramType": kind, "required": False, "dataType": "string"}
        for name, kind in parameter.items()
    ]
    return {
        "path": path,
        "operations": [
            {
                "httpMethod": method,
                "nickname": nickname,
                "responseClass": "void",
                "parameters": parameters,
            }
        ],
    }


class Fake:
    """The least that passes for an Asterisk: what `docs` describes, what `answer` says."""

    def __init__(self, without=()):
        self.requests = []
        self.statuses = []
        apis = {
            "applications": [
                operation("/a", "get"),
                operation("/b", "filter", "PUT"),
                operation("/c", "subscribe", "POST"),
            ],
            "asterisk": [
                operation("/asterisk/info", "getInfo"),
                operation("/asterisk/modules", "getModule"),
            ],
            "bridges": [
                operation("/bridges", "list"),
                operation("/bridges/{bridgeId}", "createWithId", "POST"),
                operation("/bridges/{bridgeId}", "destroy", "DELETE"),
                operation("/bridges/{bridgeId}/addChannel", "addChannel", "POST"),
                operation("/bridges/{bridgeId}/removeChannel", "removeChannel", "POST"),
            ],
            "channels": [
                operation("/channels", "list"),
                operation("/channels/{channelId}", "get", channelId="path"),
                operation("/channels/{channelId}", "hangup", "DELETE", channelId="path"),
                *(
                    operation(f"/channels/{{channelId}}/{name}", name, "POST", channelId="path")
                    for name in (
                        *("answer", "continueInDialplan", "create", "dial", "externalMedia"),
                        "getChannelVar",
                        *("move", "rtpstatistics", "sendDTMF", "setChannelVar"),
                        "snoopChannelWithId",
                        *("originateWithId", "ring", "ringStop", "startMoh", "stopMoh"),
                    )
                    if name not in without
                ),
            ],
            "events": [
                operation("/events", "eventWebsocket"),
                operation("/events/user/{eventName}", "userEvent", "POST"),
            ],
        }
        self.docs = {name: self.declaration(name, apis[name]) for name in apis}
        self.headers = {"Server": "Asterisk/22.10.1+dfsg"}

    # As behind a proxy: Asterisk names an address of its own that nobody here can reach.
    elsewhere = "http://pbx.invalid:1/ari"

    def declaration(self, name, apis):
        return {
            "basePath": self.elsewhere,
            "resourcePath": f"/api-docs/{name}.json",
            "apis": apis,
            "models": {},
        }

    async def answer(self, request):
        self.requests.append(request)
        path = request.path.removeprefix("/ari")
        if path == "/asterisk/info":
            version = {"system": {"version": "22.10.1+dfsg-1", "entity_id": "x"}}
            return web.json_response(version, headers=self.headers)
        if path == "/api-docs/resources.json":
            listing = [{"path": f"/api-docs/{n}.{{format}}", "description": n} for n in self.docs]
            return web.json_response(
                {"basePath": self.elsewhere, "swaggerVersion": "1.1", "apis": listing}
            )
        if path.startswith("/api-docs/"):
            return web.json_response(self.docs[path.removesuffix(".json").rpartition("/")[2]])
        if request.method == "DELETE":
            return web.json_response({"message": "Channel not found"}, status=404)
        status = self.statuses.pop(0) if self.statuses else 204
        if status == 0:
            request.transport.abort()
        if status >= 400:
            return web.json_response({"message": "told"}, status=status)
        return web.Response(status=204)


@asynccontextmanager
async def served(fake):
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", fake.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    ari = Ari(AsteriskSettings(url=f"http://127.0.0.1:{port}", password="geheim"))
    try:
        yield ari
    finally:
        await ari.close()
        await runner.cleanup()


async def test_opens_and_tells_the_version():
    async with served(Fake()) as ari:
        assert not ari.is_open
        await ari.open()
        assert ari.is_open
        assert ari.version == "22.10.1"


@pytest.mark.parametrize("missing", ["move", "externalMedia"])
async def test_an_old_asterisk_is_told_apart(missing):
    async with served(Fake(without=[missing])) as ari:
        with pytest.raises(
            PbxRefused, match=rf"22.10.1 is too old: .* channels.{missing}; use Asterisk 20"
        ):
            await ari.open()
        assert not ari.is_open


async def test_a_web_server_is_no_asterisk():
    fake = Fake()
    fake.docs = {}
    fake.headers = {"Server": "nginx"}

    async def not_found(request):
        return web.Response(status=404, text="<html>", headers=fake.headers)

    fake.answer = not_found
    async with served(fake) as ari:
        with pytest.raises(PbxRefused, match="is not an Asterisk"):
            await ari.open()


async def test_descriptions_that_are_missing():
    fake = Fake()
    answer = fake.answer

    async def without(request):
        if "api-docs" in request.path:
            return web.Response(status=404)
        return await answer(request)

    fake.answer = without
    async with served(fake) as ari:
        with pytest.raises(PbxRefused, match="folder rest-api is missing"):
            await ari.open()


async def test_the_password_is_in_no_url():
    fake = Fake()
    async with served(fake) as ari:
        await ari.open()
        await ari.call("channels.answer", channelId="1.1")
        assert fake.requests[-1].path == "/ari/channels/1.1/answer"
        for request in fake.requests:
            assert "geheim" not in str(request.url)
            login = aiohttp.encode_basic_auth("ari-bridge", "geheim")
            assert request.headers["Authorization"] == login


async def test_a_status_that_is_as_good_as_success():
    fake = Fake()
    async with served(fake) as ari:
        await ari.open()
        fake.statuses = [409]
        assert await ari.call("channels.answer", channelId="1.1", ok=(409,)) is None
        fake.statuses = [409]
        with pytest.raises(PbxGone, match="409 told"):
            await ari.call("channels.answer", channelId="1.1")


async def test_a_dropped_connection_is_tried_once_more():
    fake = Fake()
    async with served(fake) as ari:
        await ari.open()
        fake.statuses = [0, 204]
        await ari.call("channels.answer", channelId="1.1")
        fake.statuses = [0, 0]
        with pytest.raises(PbxUnreachable, match="ended the connection"):
            await ari.call("channels.answer", channelId="1.1")
        fake.statuses = [0, 204]
        with pytest.raises(PbxUnreachable, match="ended the connection"):
            await ari.call("channels.answer", again=False, channelId="1.1")


async def test_before_it_is_open_nothing_can_be_reached():
    ari = Ari(AsteriskSettings())
    with pytest.raises(PbxUnreachable, match="not connected"):
        await ari.call("channels.list")
    with pytest.raises(PbxUnreachable, match="not connected"):
        await ari.events("app")


def test_every_operation_of_ours_is_looked_for_at_the_start():
    """`open` refuses an Asterisk that lacks one; so the list must be whole."""
    used = set()
    for path in Path(ari_module.__file__).parent.glob("*.py"):
        used |= set(
            re.findall(r'"((?:applications|bridges|channels|events)\.\w+)"', path.read_text())
        )
    assert used <= set(ari_module._NEEDED)
    assert json.dumps(sorted(ari_module._NEEDED)) == json.dumps(list(ari_module._NEEDED))
