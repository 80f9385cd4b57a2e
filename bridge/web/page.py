"""The dashboard's files: plain HTML, CSS and ES modules, as they stand in `static/`.

They are public, because they hold nothing: all that they show the page asks of the API, with the
token that its user gives it. No script but ours runs there (Content-Security-Policy), and nothing
is fetched from elsewhere.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from aiohttp import web

from bridge.web.parts import Parts
from bridge.web.routes import Asked, Route

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",  # asked for anew, answered 304: an upgrade shows at once
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": "microphone=(self)",
}


def routes(parts: Parts) -> list[Route]:
    """One for each file, and the page itself."""
    del parts
    files = sorted(p for p in STATIC.rglob("*") if p.is_file() and p.suffix in _TYPES)
    found = [Route("GET", "/", "The dashboard", partial(_send, STATIC / "index.html"), public=True)]
    for file in files:
        path = f"/static/{file.relative_to(STATIC).as_posix()}"
        found.append(Route("GET", path, "Part of the dashboard", partial(_send, file), public=True))
    return found


async def _send(file: Path, asked: Asked) -> web.StreamResponse:
    headers = {**_HEADERS, "Content-Type": f"{_TYPES[file.suffix]}; charset=utf-8"}
    return web.FileResponse(file, headers=headers)
