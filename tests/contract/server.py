"""A WebSocket server for stand-in far ends that speak over one."""

import asyncio

from aiohttp import WSMsgType, web


class Server:
    """Listens on loopback; the newest connection is the call's.

    `serve(request, socket)` handles one connection: it reads messages with `messages(socket)`.
    `allow(request)` may refuse it: returns an HTTP status, or None.
    """

    def __init__(self, far, serve, allow=lambda request: None):
        self._far, self._serve, self._allow = far, serve, allow
        self._live = set()
        self.socket = None
        self._request = None

    async def start(self):
        """Listen; returns host:port."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        host, port = self._site._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def stop(self):
        """End everything."""
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()
        await self._runner.cleanup()

    async def refuse(self):
        """Listen no more."""
        await self._site.stop()

    async def drop(self):
        """The connection breaks."""
        self._request.transport.abort()

    async def freeze(self):
        """Read nothing more, not even the end of the connection, and say nothing."""
        self._request.transport.pause_reading()
        self._gone(self.socket)
        await asyncio.Event().wait()

    async def send(self, data):
        """A text (str) or binary (bytes) message; lost if the connection is."""
        try:
            if isinstance(data, str):
                await self.socket.send_str(data)
            else:
                await self.socket.send_bytes(data)
        except ConnectionError:
            pass

    async def messages(self, socket):
        """What comes: str or bytes."""
        async for message in socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                yield message.data

    async def _handle(self, request):
        status = self._allow(request)
        if status is not None:
            return web.Response(status=status)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self.socket, self._request = socket, request
        self._live.add(socket)
        self._far.connections += 1
        self._far.open += 1
        try:
            await self._serve(request, socket)
        finally:
            self._gone(socket)
            if self.socket is socket:
                self._far.stop()
        return socket

    def _gone(self, socket):
        if socket in self._live:
            self._live.remove(socket)
            self._far.open -= 1
