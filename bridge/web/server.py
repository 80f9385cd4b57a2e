"""The web process: `ari-bridge web`, also started by `ari-bridge run` where `[web]` has it on.

It owns no call: what it shows stands in Redis, and what it is told to do goes through Redis to the
worker that owns the call. So any host's API serves every call, and its death harms none.

    request ─▶ token ─▶ route ─▶ body and query checked ─▶ handler ─▶ dataclass ─▶ JSON
       └────────────┴───────┴──────────────┴──────────────────┴─▶ Refused ─▶ {error, reason}
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from bridge import keeper, logs, notify
from bridge.config import Config, WebSettings, reload
from bridge.errors import ConfigError, StoreUnreachable
from bridge.sessions.reader import Reader
from bridge.web import (
    calls,
    entrance,
    history,
    listen,
    live,
    metrics,
    page,
    phone,
    recordings,
    saved,
    tls,
)
from bridge.web.errors import Refused
from bridge.web.openapi import document
from bridge.web.parts import Parts
from bridge.web.routes import MOST_BODY, Asked, Route, ask, from_here, reply
from bridge.web.token import Role, Tokens, read_tokens, token_in

log = logging.getLogger(__name__)

RESOURCES: tuple[Callable[[Parts], list[Route]], ...] = (
    calls.routes,
    history.routes,
    recordings.routes,
    saved.routes,
    listen.routes,
    metrics.routes,
    live.routes,
    page.routes,
    phone.routes,
)
"""Every resource of the API: add yours here."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a token is good for."""

    role: Role
    """`read`: to look; `operate`: for everything."""


_BIND_S, _BIND_LOOK_S = 10.0, 0.2
"""So long a port may still be a former process' of ours."""
_ORPHAN_LOOK_S = 0.5
_STOP_S = 1.0


def routes(parts: Parts) -> list[Route]:
    """Every route of the API."""
    table = [route for resource in RESOURCES for route in resource(parts)]

    async def described(asked: Asked) -> web.Response:
        return web.json_response(document(table))

    async def allowed(asked: Asked) -> Allowed:
        assert asked.role is not None, "this route is not public"
        return Allowed(asked.role)

    table.append(Route("GET", "/v1/openapi.json", "This description", described))
    table.append(Route("GET", "/v1/token", "What this token allows", allowed, gives=Allowed))
    return table


def application(parts: Parts, token: str, reader: str = "") -> web.Application:
    """The API as aiohttp knows it.

    Args:
        parts: what the resources share.
        token: whoever names it may do everything.
        reader: whoever names it may look; empty: nobody.
    """
    tokens = Tokens(token, reader)
    app = web.Application(middlewares=[_told], client_max_size=MOST_BODY)
    for route in routes(parts):
        app.router.add_route(route.method, route.path, partial(_serve, route, tokens))
    return app


async def serve(config: Config, path: Path | None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: no token, or the address is taken.
    """
    settings = config.web
    tokens = read_tokens(settings.token_file, settings.read_token_file, config.media.runtime_dir)
    trust = tls.server(settings)
    parts = Parts(config, Reader(config.redis))
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    hang_up = asked.set if keeper.has_terminal() else partial(_reload, parts, path, trust)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    app = application(parts, tokens.operate, tokens.read)
    logging.getLogger("aiohttp.server").addFilter(_of_ours)
    runner = web.AppRunner(
        *(app,), access_log=None, shutdown_timeout=_STOP_S, keepalive_timeout=entrance.IDLE_S
    )
    await runner.setup()
    assert runner.server is not None
    watch = asyncio.create_task(_watch_launcher(Path(config.media.runtime_dir), asked))
    tasks: list[asyncio.Task[object]] = [watch]
    try:
        listener = await _listen(settings, asked)
        where = listener.getsockname()[:2]
        door = entrance.Entrance(listener, trust, settings.max_connections)
        tasks.append(asyncio.create_task(door.admit(runner.server)))
        tasks[-1].add_done_callback(lambda _: asked.set())
        scheme = "https" if trust else "http"
        log.info("API at %s://%s:%d/v1; 'ari-bridge token' shows its token", scheme, *where)
        if not settings.is_loopback and trust is None:
            log.warning(
                "the API listens beyond this host, without TLS: set [web] certificate_file and "
                "key_file, or put a proxy with TLS before it"
            )
        notify.ready("serves the API")
        await asked.wait()
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
        await runner.cleanup()
        await parts.reader.close()


async def _serve(route: Route, tokens: Tokens, request: web.Request) -> web.StreamResponse:
    if route.public or (route.local and from_here(request)):
        return await ask(route, request)
    role = _role(tokens, request)
    if route.role == "operate" and role != "operate":
        raise Refused(
            *(403, "forbidden"),
            "this token may only look: what changes or joins a call takes the one that "
            "'ari-bridge token' shows",
        )
    return await ask(route, request, role)


def _role(tokens: Tokens, request: web.Request) -> Role:
    """What who asks may do. Raises `Refused` to who names no token that holds here."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if not given:  # a page can't give a WebSocket any header but this one
        kind, given = "bearer", token_in(request.headers.get("Sec-WebSocket-Protocol", ""))
    role = tokens.role(given.strip()) if kind.lower() == "bearer" else None
    if role is None:
        raise Refused(
            *(401, "no-token"),
            "the API wants the header 'Authorization: Bearer TOKEN'; 'ari-bridge token' shows it",
        )
    return role


@web.middleware
async def _told(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Whatever is refused is refused with a reason, as JSON."""
    headers: dict[str, str] = {}
    try:
        return await handler(request)
    except Refused as error:
        refused = error
    except StoreUnreachable as error:
        refused = Refused(503, "store-away", str(error))
    except web.HTTPNotFound:
        refused = Refused(404, "not-found", f"the API has no {request.path}")
    except web.HTTPMethodNotAllowed as error:
        able = headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        refused = Refused(405, "bad-method", f"{request.path} takes {able}")
    except web.HTTPRequestEntityTooLarge:
        refused = Refused(413, "too-large", f"a body takes at most {MOST_BODY} bytes")
    except web.HTTPException:
        raise
    except ConnectionError:  # it can't be told any more
        refused = Refused(400, "bad-request", "the request broke off")
    except Exception:  # the API's one boundary: a fault of ours must not look like an answer
        log.exception("%s %r failed", request.method, request.path)  # %0A is a line's end in it
        refused = Refused(500, "fault", "a fault of the bridge: see the web process' log")
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    response = reply(refused.problem, refused.status)
    response.headers.update(headers)
    return response


def _of_ours(record: logging.LogRecord) -> bool:
    """Whether a line of the HTTP server's tells of a fault of ours.

    What is no HTTP at all is answered with 400, and its sender needs no token: it must not be able
    to fill the log with tracebacks.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, BadHttpMessage)


async def _listen(settings: WebSettings, asked: asyncio.Event) -> socket.socket:
    address, port = settings.address, settings.port
    clock = asyncio.get_running_loop().time
    until = clock() + _BIND_S
    while True:
        try:
            return await entrance.listen(address, port)
        except OSError as error:
            if clock() > until or asked.is_set():
                raise ConfigError(
                    f"the API can't listen at {address}:{port} ({error.strerror}); "
                    "set [web] address and port"
                ) from error
        await asyncio.sleep(_BIND_LOOK_S)


async def _watch_launcher(folder: Path, asked: asyncio.Event) -> None:
    """Without a launcher, make room for the next one's web process; tell a service manager that we
    live."""
    clock = asyncio.get_running_loop().time
    each_s = notify.interval_s() or math.inf
    alive = clock() + each_s
    while True:
        await asyncio.sleep(_ORPHAN_LOOK_S)
        if clock() >= alive:
            notify.alive()
            alive = clock() + each_s
        if keeper.orphaned() and keeper.holder(folder) is not None:
            break
    log.warning("another launcher serves this host: making room for its web process")
    asked.set()


def _reload(parts: Parts, path: Path | None, trust: ssl.SSLContext | None) -> None:
    try:
        parts.config, ignored = reload(parts.config, path)
        if trust is not None:  # it may have been renewed
            tls.load(trust, parts.config.web)
    except ConfigError as error:
        log.error("not reloaded: %s", error)
        return
    logs.set_up(parts.config.log.level, parts.config.log.format)
    log.info("settings reloaded")
    for key in ignored:
        log.warning("%s has changed, which takes a restart", key)
