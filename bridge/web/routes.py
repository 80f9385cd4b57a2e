"""Routes as data: what a request takes and gives stands in one table, for the code and for people.

A resource is a module with `routes(parts) -> list[Route]`. A handler gets an `Asked`, whose body
and query were checked against the dataclasses that its route names, and returns a dataclass (sent
as JSON), None (204) or a response of aiohttp's. It refuses by raising `Refused`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from bridge.errors import ConfigError
from bridge.settings import build
from bridge.web.errors import Refused
from bridge.web.token import Role

MOST_BODY = 64 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, checked."""

    request: web.Request
    path: Mapping[str, str]
    """What stands in the path's braces."""
    body: Any = None
    """A `Route.takes`."""
    query: Any = None
    """A `Route.query`."""
    role: Role | None = None
    """What the token allows that was named; None: the route takes none."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    """Such as `/v1/calls/{id}`."""
    summary: str
    """One line, for the API's description."""
    handler: Callable[[Asked], Awaitable[object]]
    takes: type | None = None
    """Dataclass of the JSON body."""
    query: type | None = None
    """Dataclass of what may stand after the `?`; flat."""
    gives: type | None = None
    """Dataclass of the answer; None: no body, or none of ours."""
    status: int = 200
    public: bool = False
    """Needs no token."""
    local: bool = False
    """Needs none from this host (`from_here`)."""
    operates: bool = False
    """A GET that does more than look: the token that may only look isn't enough."""

    @property
    def role(self) -> Role:
        """What its token has to allow."""
        return "read" if self.method == "GET" and not self.operates else "operate"


def from_here(request: web.Request) -> bool:
    """Whether somebody on this host asks us by name, and not for somebody else, as a proxy does.

    A page of somebody else's, open in a browser here, can have its own name point to us (DNS
    rebinding); then it is that name which stands in `Host`.
    """
    if "Forwarded" in request.headers or "X-Forwarded-For" in request.headers:
        return False
    if re.sub(r":\d+$", "", request.host) not in ("localhost", "127.0.0.1", "[::1]"):
        return False
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


async def ask(route: Route, request: web.Request, role: Role | None = None) -> web.StreamResponse:
    """Carry a request out. Raises `Refused`."""
    body = await _body(route.takes, request) if route.takes else None
    query = _query(route.query, request.query) if route.query else None
    answer = await route.handler(Asked(request, request.match_info, body, query, role))
    if isinstance(answer, web.StreamResponse):
        return answer
    if answer is None:
        return web.Response(status=204)
    return reply(answer, route.status)


def drop(request: web.Request) -> None:
    """End the connection with somebody who takes nothing: what waits for him is thrown away."""
    if request.transport is not None:
        request.transport.abort()


def reply(answer: object, status: int = 200) -> web.Response:
    """A dataclass as JSON."""
    return web.json_response(jsonable(answer), status=status)


def jsonable(value: object) -> Any:
    """As what JSON knows: dataclasses become objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): jsonable(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(one) for one in value]
    return value


async def _body(cls: type, request: web.Request) -> object:
    try:
        text = await request.text()
        table = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:  # the latter: brackets within brackets within …
        raise Refused(400, "bad-request", f"the body is no JSON: {error}") from None
    if not isinstance(table, dict):
        raise Refused(400, "bad-request", "the body is no JSON object")
    return _checked(cls, table, "body")


def _query(cls: type, given: Mapping[str, str]) -> object:
    hints = typing.get_type_hints(cls)
    return _checked(cls, {k: _read(hints.get(k), v) for k, v in given.items()}, "query")


def _read(hint: Any, text: str) -> object:
    """A text of the query string, as what its field takes; left as it is where it can't be."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if hint is bool:
        return {"true": True, "1": True, "": True, "false": False, "0": False}.get(text, text)
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            return text
    return text


def _checked(cls: type, table: Mapping[str, object], where: str) -> object:
    try:
        return build(cls, table, where)
    except ConfigError as error:
        raise Refused(400, "bad-request", str(error)) from None
