"""A bot behind a real WebSocket server, and a call that talks with it: no dialog layer between."""

import asyncio
import json

from aiohttp import WSMsgType, web

from bridge.agent import Agent
from bridge.engines.base import Context


class Bot:
    """Listens on loopback. `got` holds what came, `say` sends; `on_message` may answer."""

    def __init__(self, on_message=None, hand_shake=None):
        self.got = []
        self.headers = None
        self.closed = asyncio.Event()
        self.connected = asyncio.Event()
        self._on_message = on_message
        self._hand_shake = hand_shake
        self.socket = None

    async def __aenter__(self):
        app = web.Application()
        app.router.add_get("/bot", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/bot"
        return self

    async def __aexit__(self, *error):
        await self._runner.cleanup()

    async def _serve(self, request):
        self.headers = request.headers
        if self._hand_shake is not None:
            return await self._hand_shake(request)
        self.socket = web.WebSocketResponse(max_msg_size=0)
        await self.socket.prepare(request)
        self.connected.set()
        async for message in self.socket:
            if message.type is WSMsgType.TEXT:
                self.got.append(json.loads(message.data))
            elif message.type is WSMsgType.BINARY:
                self.got.append(message.data)
            if self._on_message is not None:
                await self._on_message(self, self.got[-1])
        self.closed.set()
        return self.socket

    async def say(self, message):
        """Send a dict as JSON, bytes as a binary message, a str as it is."""
        await self.connected.wait()
        if isinstance(message, bytes):
            await self.socket.send_bytes(message)
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            await self.socket.send_str(text)

    async def until(self, happened):
        """Wait until `happened()`; fails after 30 s."""
        async with asyncio.timeout(30):
            while not happened():
                await asyncio.sleep(0.005)


class Call:
    """What an engine is started with; `events` holds what it emitted."""

    def __init__(self, engine, **context):
        self.engine, self.events, self._item = engine, [], 0
        self._context = context

    async def __aenter__(self):
        tasks = asyncio.TaskGroup()  # neither engine begins a task
        context = Context(
            call_id="17.4",
            agent=Agent("bot"),
            caller_number="100",
            rate=self.engine.rate,
            emit=self.events.append,
            new_item=self._new_item,
            room=self._room,
            tasks=tasks,
            **self._context,
        )
        await self.engine.start(context)
        return self

    async def __aexit__(self, *error):
        await self.engine.close()

    def _new_item(self):
        self._item += 1
        return self._item

    async def _room(self):
        pass

    def of(self, kind):
        """Events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]
