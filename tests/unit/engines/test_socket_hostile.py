"""Bots that send messages without end, or more than anybody can read."""

import asyncio
import contextlib
import struct

import pytest
from aiohttp import web

from bridge.engines.socket import MAX_MESSAGE, dial

PIECE = 60_000


def frame(opcode, data, fin):
    """RFC 6455 section 5.2, as a server sends it: not masked."""
    return struct.pack(">BBH", opcode | (0x80 if fin else 0), 126, len(data)) + data


async def one_frame(send):
    """A frame that says it is longer than a message may be."""
    await send(struct.pack(">BBQ", 0x82, 127, MAX_MESSAGE + 1) + bytes(PIECE))
    await asyncio.sleep(3600)


async def fragments(send):
    """A text that never comes to its end."""
    await send(frame(1, b"x" * PIECE, fin=False))
    while True:
        await send(frame(0, b"x" * PIECE, fin=False))


async def no_frame(send):
    """What the protocol doesn't have."""
    await send(b"\xff\xff" + bytes(PIECE))
    await asyncio.sleep(3600)


@pytest.fixture
async def bot():
    """A bot that sends what it was told to: where it is, and whom to tell."""
    does = []

    async def talk(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)

        async def send(data):
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
            request.transport.write(data)
            await asyncio.sleep(0)

        with contextlib.suppress(ConnectionResetError, asyncio.CancelledError):
            await does[0](send)
        return socket

    app = web.Application()
    app.router.add_get("/", talk)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"ws://127.0.0.1:{runner.addresses[0][1]}/", does
    await runner.cleanup()


@pytest.mark.parametrize("what", [one_frame, fragments, no_frame])
async def test_it_is_let_go(bot, what):
    where, does = bot
    does.append(what)
    heard, ended = [], asyncio.Event()
    socket = await dial(where, heard.append, heard.append)
    socket.on_end = lambda why: (heard.append(why), ended.set())
    await asyncio.wait_for(ended.wait(), 30)
    (why,) = heard  # nothing of it has reached the engine
    assert why.startswith(f"the bot at {where}")
    assert socket._parts == []
    await socket.close()
