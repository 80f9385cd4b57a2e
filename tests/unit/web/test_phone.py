"""The page's telephone: SIP passes between the page and Asterisk, for those with the token."""

from __future__ import annotations

import base64

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.config import Config, PhoneSettings, WebSettings
from bridge.errors import ConfigError
from bridge.settings import build
from bridge.web.parts import Parts
from tests.unit.web.conftest import TOKEN, running

NAMED = "ari-bridge.token." + base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")


async def parrot(request):
    """An Asterisk that says everything back."""
    socket = web.WebSocketResponse(protocols=("sip",))
    await socket.prepare(request)
    async for message in socket:
        if message.data == "BYE":
            break
        await socket.send_str(f"{socket.ws_protocol}: {message.data}")
    await socket.close()
    return socket


@pytest.fixture
async def asterisk():
    app = web.Application()
    app.router.add_get("/ws", parrot)
    async with TestServer(app) as server:
        yield f"ws://127.0.0.1:{server.port}/ws"


def parts(url, sessions):
    phone = PhoneSettings(url=url, user="page", password="secret")
    return Parts(Config(web=WebSettings(phone=phone)), sessions)


async def test_what_the_page_says_asterisk_hears_and_the_other_way(asterisk, sessions):
    async with running(parts(asterisk, sessions)) as api:
        told = await (await api.get("/v1/phone")).json()
        assert told == {
            "user": "page",
            "password": "secret",
            "domain": "127.0.0.1",
            "number": "700",
        }
        socket = await api.ws_connect(
            "/v1/phone/sip", protocols=("sip", NAMED), headers={"Authorization": ""}
        )
        assert socket.protocol == "sip"
        await socket.send_str("INVITE")
        assert await socket.receive_str(timeout=10) == "sip: INVITE"
        await socket.send_str("BYE")
        assert (await socket.receive(timeout=10)).type == aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize("protocols", [("sip",), ("sip", "ari-bridge.token.bm90IGl0")])
async def test_nobody_without_the_token_reaches_asterisk(asterisk, sessions, protocols):
    async with running(parts(asterisk, sessions)) as api:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await api.ws_connect(
                "/v1/phone/sip", protocols=protocols, headers={"Authorization": ""}
            )
        assert refused.value.status == 401


async def test_an_asterisk_that_is_away_is_told(sessions):
    async with running(parts("ws://127.0.0.1:9/ws", sessions)) as api:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await api.ws_connect("/v1/phone/sip", protocols=("sip",))
        assert refused.value.status == 502


@pytest.mark.parametrize(
    ("table", "cure"),
    [({"url": "https://x"}, "wss://"), ({"url": "wss://x"}, "'password' is missing")],
)
def test_what_is_wrong_with_the_account_is_said(table, cure):
    with pytest.raises(ConfigError, match=cure):
        build(PhoneSettings, table, "[web.phone]")


def test_the_password_is_not_shown():
    assert "secret" not in repr(PhoneSettings(url="wss://x", password="secret"))
