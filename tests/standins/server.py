"""An HTTP and WebSocket server on loopback, and how a request is checked against an SDK's types."""

import asyncio
import collections.abc
import functools
import os
import types
from collections import deque
from typing import IO, Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from aiohttp import web
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import (
    TypedDict,
    get_type_hints,
    is_typeddict,
)


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
            _checker(kind).validate_python(value)
        except ValidationError as error:
            self.faults.append(f"{what}: {error}")


@functools.cache
def _checker(kind):
    return TypeAdapter(strict(kind))


def strict(kind, seen=None):
    """An SDK's type of a request, made to be checked at once and wholly.

    Its `Iterable`s are lists (pydantic looks into an `Iterable` only when somebody iterates), and
    its TypedDicts know their own keys only.
    """
    seen = {} if seen is None else seen
    if is_typeddict(kind):
        if kind not in seen:
            seen[kind] = Any  # where a type holds itself
            fields = {}
            for name, hint in get_type_hints(kind, include_extras=True).items():
                hint = strict(hint, seen)
                fields[name] = Required[hint] if name in kind.__required_keys__ else hint
            seen[kind] = TypedDict(kind.__name__, fields, total=False)
            seen[kind].__pydantic_config__ = ConfigDict(extra="forbid")
        return seen[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Required, NotRequired, Annotated):
        return strict(args[0], seen)
    if origin in (Union, types.UnionType):
        return Union[tuple(strict(arg, seen) for arg in args)]  # noqa: UP007
    if origin is collections.abc.Iterable:
        return list[strict(args[0], seen)]
    if origin in (list, dict, collections.abc.Mapping):
        return origin[tuple(strict(arg, seen) for arg in args)]
    if origin is IO or kind is os.PathLike or origin is os.PathLike:
        return Literal["(a file)"]  # nothing that JSON knows
    return kind
