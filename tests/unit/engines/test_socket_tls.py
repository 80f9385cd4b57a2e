"""Bots by wss: with a certificate made here, and none that isn't to be trusted."""

import asyncio
import ssl

import pytest
from aiohttp import WSMsgType, web

from bridge.engines.socket import dial
from bridge.errors import EngineLost
from tests.lab.certificate import Authority


@pytest.fixture
async def bot(tmp_path):
    """One for 127.0.0.1 that says everything again; where it is, and who has signed for it."""
    authority = Authority(tmp_path)

    async def talk(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/", talk)
    runner = web.AppRunner(app)
    await runner.setup()
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(authority.issue("127.0.0.1"))
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust)
    await site.start()
    yield f"127.0.0.1:{runner.addresses[0][1]}", authority
    await runner.cleanup()


async def test_a_bot_that_the_system_trusts(bot, monkeypatch):
    where, authority = bot
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    heard = asyncio.Event()
    socket = await dial(f"wss://{where}/", lambda text: heard.set())
    assert socket.send(b'"hello"')
    await asyncio.wait_for(heard.wait(), 30)
    await socket.close()


async def test_one_that_it_does_not(bot, monkeypatch, tmp_path):
    where, authority = bot
    with pytest.raises(EngineLost, match=r"no TLS with the bot .*CERTIFICATE") as refused:
        await dial(f"wss://{where}/?token=secret", lambda text: None)
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path, "a stranger").file))
    with pytest.raises(EngineLost, match="no TLS"):
        await dial(f"wss://{where}/", lambda text: None)
    # Trusted, but for another name.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with pytest.raises(EngineLost, match="no TLS"):
        await dial(f"wss://localhost:{where.partition(':')[2]}/", lambda text: None)
