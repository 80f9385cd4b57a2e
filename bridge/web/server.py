"""The web process: `ari-bridge web`, also started by `ari-bridge run` where `[web]` has it on.

It owns no call: what it shows stands in Redis, and what it is told to do goes through Redis to the
worker that owns the call. So any host's API serves every call, and its death harms none.

    request ─▶ token ─▶ route ─▶ body and query checked ─▶ handler ─▶ dataclass ─▶ JSON
       └────────────┴───────┴──────────────┴──────────────────┴─▶ Refused ─▶ {error, reason}
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from aiohttp import web

from bridge import keeper, logs
from bridge.config import Config, reload
from bridge.errors import ConfigError, StoreUnreachable
from bridge.sessions.reader import Reader
from bridge.web import calls, history, listen, live, metrics, page, phone, recordings, saved
from bridge.web.errors import Refused
from bridge.web.openapi import document
from bridge.web.parts import Parts
from bridge.web.routes import MOST_BODY, Asked, Route, ask, from_here, reply
from bridge.web.token import read_token, token_in

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

_BIND_S, _BIND_LOOK_S = 10.0, 0.2
"""So long a port may still be a former process' of ours."""
_ORPHAN_LOOK_S = 0.5
_STOP_S = 1.0


def routes(parts: Parts) -> list[Route]:
    """Every route of the API."""
    table = [route for resource in RESOURCES for route in resource(parts)]

    async def described(asked: Asked) -> web.Response:
        return web.json_response(document(table))

    table.append(Route("GET", "/v1/openapi.json", "This description", described))
    return table


def application(parts: Parts, token: str) -> web.Application:
    """The API as aiohttp knows it; whoever has to name a token, has to name `token`."""
    table = routes(parts)
    app = web.Application(middlewares=[_told], client_max_size=MOST_BODY)
    for route in table:
        app.router.add_route(route.method, route.path, partial(_serve, route, token))
    return app


async def serve(config: Config, path: Path | None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: no token, or the address is taken.
    """
    settings = config.web
    token = read_token(settings.token_file, config.media.runtime_dir, make=True)
    parts = Parts(config, Reader(config.redis))
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    hang_up = asked.set if keeper.has_terminal() else partial(_reload, parts, path)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    runner = web.AppRunner(application(parts, token), access_log=None, shutdown_timeout=_STOP_S)
    await runner.setup()
    watch = asyncio.create_task(_watch_launcher(Path(config.media.runtime_dir), asked))
    try:
        await _listen(runner, settings.address, settings.port, asked)
        log.info("API at http://%s:%d/v1; 'ari-bridge token' shows its token", *_where(runner))
        if not settings.is_loopback:
            log.warning(
                "the API listens beyond this host, without TLS: put a proxy with TLS before it"
            )
        await asked.wait()
    finally:
        watch.cancel()
        await runner.cleanup()
        await parts.reader.close()


async def _serve(route: Route, token: str, request: web.Request) -> web.StreamResponse:
    if not (route.public or (route.local and from_here(request))):
        _check(token, request)
    return await ask(route, request)


def _check(token: str, request: web.Request) -> None:
    """Raises `Refused` to who doesn't name the token."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if not given:  # a page can't give a WebSocket any header but this one
        kind, given = "bearer", token_in(request.headers.get("Sec-WebSocket-Protocol", ""))
    named = given.strip().encode(errors="replace")  # bytes that aren't UTF-8 come as surrogates
    if kind.lower() != "bearer" or not hmac.compare_digest(named, token.encode()):
        raise Refused(
            *(401, "no-token"),
            "the API wants the header 'Authorization: Bearer TOKEN'; 'ari-bridge token' shows it",
        )


@web.middleware
async def _told(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Whatever is refused is refused with a reason, as JSON."""
    try:
        return await handler(request)
    except Refused as error:
        refused = error
    except StoreUnreachable as error:
        refused = Refused(503, "store-away", str(error))
    except web.HTTPNotFound:
        refused = Refused(404, "not-found", f"the API has no {request.path}")
    except web.HTTPMethodNotAllowed as error:
        able = ", ".join(sorted(error.allowed_methods))
        refused = Refused(405, "bad-method", f"{request.path} takes {able}")
    except web.HTTPRequestEntityTooLarge:
        refused = Refused(413, "too-large", f"a body takes at most {MOST_BODY} bytes")
    except web.HTTPException:
        raise
    except Exception:  # the API's one boundary: a fault of ours must not look like an answer
        log.exception("%s %s failed", request.method, request.path)
        refused = Refused(500, "fault", "a fault of the bridge: see the web process' log")
    response = reply(refused.problem, refused.status)
    if refused.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _listen(runner: web.AppRunner, address: str, port: int, asked: asyncio.Event) -> None:
    clock = asyncio.get_running_loop().time
    until = clock() + _BIND_S
    while True:
        try:
            await web.TCPSite(runner, address, port).start()
            return
        except OSError as error:
            if clock() > until or asked.is_set():
                raise ConfigError(
                    f"the API can't listen at {address}:{port} ({error.strerror}); "
                    "set [web] address and port"
                ) from error
        await asyncio.sleep(_BIND_LOOK_S)


def _where(runner: web.AppRunner) -> Sequence[object]:
    return tuple(runner.addresses[0][:2])


async def _watch_launcher(folder: Path, asked: asyncio.Event) -> None:
    """Without a launcher, make room for the next one's web process."""
    while True:
        await asyncio.sleep(_ORPHAN_LOOK_S)
        if keeper.orphaned() and keeper.holder(folder) is not None:
            break
    log.warning("another launcher serves this host: making room for its web process")
    asked.set()


def _reload(parts: Parts, path: Path | None) -> None:
    try:
        parts.config, ignored = reload(parts.config, path)
    except ConfigError as error:
        log.error("not reloaded: %s", error)
        return
    logs.set_up(parts.config.log.level, parts.config.log.format)
    log.info("settings reloaded")
    for key in ignored:
        log.warning("%s has changed, which takes a restart", key)
