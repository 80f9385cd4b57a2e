"""A TCP relay between us and Asterisk, to cut and to freeze."""

from __future__ import annotations

import asyncio
from typing import Self


class Proxy:
    """`async with Proxy(port) as proxy:` listens on `proxy.port` of 127.0.0.1."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self.refused = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.thaw()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset every connection that there is."""
        for writer in self._writers:
            writer.transport.abort()

    def refuse(self, refusing: bool) -> None:
        """Cut, and cut whoever comes, until told otherwise."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def freeze(self) -> None:
        """Carry nothing, but keep connections and take new ones: a host that hangs."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Carry on, with all that has come meanwhile."""
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._refusing:
                self.refused += 1
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(far_writer)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        sink.close()
        self._writers.discard(sink)
