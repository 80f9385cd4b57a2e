"""An HTTP and WebSocket server on loopback, and how a request is checked against an SDK's types."""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping

from aiohttp import web
from pydantic import TypeAdapter, ValidationError


class Server:
    """Stands in for a vendor; `answers` are performed one after the other."""

    key = "a-key-of-the-tests"

    def __init__(self, *answers):
        self.answers = deque(answers)
        self.requests = []
        self.faults = []
        """What the vendor would have refused."""
        self.gone = asyncio.Event()
        """The client gave up a stream before its end."""
        self.frozen = asyncio.Event()
        self.routes = []

    async def __aenter__(self):
        app = web.Application(client_max_size=1 << 26)
        app.add_routes(self.routes)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        self.host = f"127.0.0.1:{self._site._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error):
        self.frozen.set()
        await self._runner.cleanup()
        assert self.faults == []

    async def refuse(self):
        """From here on nobody listens."""
        await self._runner.cleanup()

    def check(self, kind, value, what):
        """`value` (of JSON) must be a `kind` (an SDK's type), with no key that it doesn't know."""
        try:
            found = whole(TypeAdapter(kind).validate_python(value))
        except ValidationError as error:
            self.faults.append(f"{what}: {error}")
            return
        for path in sorted(_unknown(value, found)):
            self.faults.append(f"{what}: {path} is unknown")


def whole(value):
    """A validated value, with all that pydantic would check only when it is looked at."""
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple | Iterator) or type(value).__name__ == "ValidatorIterator":
        return [whole(item) for item in value]
    return value


def _unknown(given, found, path=""):
    if isinstance(given, Mapping) and isinstance(found, Mapping):
        for key, value in given.items():
            if key not in found:
                yield f"{path}.{key}"
            else:
                yield from _unknown(value, found[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(found, list):
        for n, (one, other) in enumerate(zip(given, found, strict=True)):
            yield from _unknown(one, other, f"{path}[{n}]")
