"""How many may be in at a time."""

import asyncio
import contextlib
import socket
import ssl

import pytest
from aiohttp import ClientSession, web

from bridge.web.entrance import Entrance, listen
from tests.lab.certificate import Authority

MOST = 3


async def hello(_: web.BaseRequest) -> web.Response:
    return web.Response(text="hello")


@contextlib.asynccontextmanager
async def entrance(trust=None, idle_s=75.0):
    """A server that lets `MOST` in; its port."""
    listener = await listen("127.0.0.1", 0)
    server = web.Server(hello, keepalive_timeout=idle_s)
    door = asyncio.create_task(Entrance(listener, trust, MOST).admit(server))
    yield listener.getsockname()[1]
    door.cancel()
    with pytest.raises(asyncio.CancelledError):
        await door
    assert listener.fileno() == -1, "nobody listens any more"
    await server.shutdown(0)


async def turned_away(port):
    """Come, and be closed on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def served(port, trust=None):
    """Ask until there is an answer."""
    url = f"{'https' if trust else 'http'}://127.0.0.1:{port}/"
    while True:
        with contextlib.suppress(OSError):
            async with ClientSession() as session, session.get(url, ssl=trust or False) as answer:
                return await answer.text()
        await asyncio.sleep(0)


async def test_one_more_is_turned_away_until_another_goes(caplog):
    async with entrance() as port, asyncio.timeout(30):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST)]
        for _ in range(5):
            await turned_away(port)
        idle.pop()[1].close()
        assert await served(port) == "hello"
        for _, writer in idle:
            writer.close()
    assert [one.getMessage() for one in caplog.records if "turned" in one.msg] == [
        "turned 1 away from the API, which has 3 connections: if they are all yours, "
        "raise [web] max_connections"
    ], "said once a minute"


async def test_who_never_ends_his_handshake_counts(tmp_path):
    authority = Authority(tmp_path)
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(authority.issue("127.0.0.1"))
    theirs = ssl.create_default_context(cafile=authority.file)
    async with entrance(ours) as port, asyncio.timeout(30):
        assert await served(port, theirs) == "hello"
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST)]
        await turned_away(port)
        for _, writer in silent:
            writer.write(b"no TLS\r\n\r\n")
            writer.close()
        assert await served(port, theirs) == "hello"


@pytest.mark.parametrize("said", [b"", b"GET / HT"])
async def test_who_asks_for_nothing_is_closed(said):
    async with entrance(idle_s=0.05) as port, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        assert await reader.read() == b""
        writer.close()


async def test_a_crowd_leaves_others_their_turn():
    crowd = [socket.socket() for _ in range(64)]
    listener = await listen("127.0.0.1", 0)
    for one in crowd:
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
    way_in = Entrance(listener, None, 0)
    door = asyncio.create_task(way_in.admit(web.Server(hello)))
    turns = 0
    while way_in._turned_away < len(crowd) - 1:  # the first was told of
        await asyncio.sleep(0)
        turns += 1
    door.cancel()
    await asyncio.wait({door})
    assert turns > len(crowd) / 2
    for one in crowd:
        one.close()
