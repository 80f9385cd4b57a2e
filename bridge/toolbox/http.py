"""The tool `http`: one request to a service of the operator's.

    arguments ─▶ checked ─▶ URL, query or JSON body ─▶ try ─▶ result, at most MOST_BYTES
                                                  ▲        │
                                                  └────────┘ retries, within timeout_s

What a model says goes nowhere but into the places that the file has for it: percent-encoded behind
the host, and never as a path of its own (`..`). Every request carries an `Idempotency-Key`
(draft-ietf-httpapi-idempotency-key-header), the same for all its tries, and for the one that
another process makes after a takeover. It is tried again where nothing was sent (no connection),
or where the request may be made twice and the service said "later", broke off or was too slow.
A redirect is followed on the same host only: no secret goes elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from bridge import secrets
from bridge.errors import ToolError
from bridge.toolbox import schema
from bridge.toolbox.base import ToolContext
from bridge.tooltables import PLACE, HttpTool

MOST_BYTES = 65_536
"""Of an answer; what is more isn't read."""
MOST_REASON = 300
"""Characters of an answer that says no."""
MOST_REDIRECTS = 3
AGAIN_AFTER_S = 0.2
"""Before the second try; twice that before the third, and so on."""

_LATER = (429, 502, 503, 504)
NAMESPACE = uuid.UUID("6d2c7a52-9a6f-4f0e-8f3b-0d5c1d6a1f5e")
"""Of the keys: any constant will do (RFC 9562 section 6.6)."""


class _Again(ToolError):
    """It may be tried again."""


class Http:
    """The tool that a table declares."""

    def __init__(self, name: str, table: HttpTool) -> None:
        """Raises `ConfigError`: a secret isn't there."""
        self._table = table
        self._host = URL(table.url).host
        self.__name__ = name
        self.description = table.description
        self.parameters = schema.of(table.parameters, table.required)
        self.again = table.may_repeat
        self.timeout_s = table.timeout_s + 0.5  # we tell better what was too slow
        self._headers()

    async def __call__(self, call: ToolContext, /, **arguments: Any) -> Any:
        """Its answer: what JSON it is, or text. Raises `ToolError`."""
        schema.check(self.parameters, arguments)
        url, rest = self._place(arguments)
        headers = {**self._headers(), "Idempotency-Key": str(uuid.uuid5(NAMESPACE, call.key))}
        body = rest if self._table.has_body else None
        clock = asyncio.get_running_loop().time
        until = clock() + self._table.timeout_s
        async with aiohttp.ClientSession(headers=headers) as session:
            for left in range(self._table.retries, -1, -1):
                limit_s = (until - clock()) / (left + 1)
                try:
                    return await self._try(session, url, body, limit_s)
                except _Again as error:
                    wait_s = AGAIN_AFTER_S * (self._table.retries - left + 1)
                    if not left or clock() + wait_s >= until:
                        raise ToolError(str(error)) from error
                await asyncio.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    # How ------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        own = {name: secrets.reveal(text) for name, text in self._table.headers.items()}
        return {"Accept": "application/json, text/plain;q=0.9, */*;q=0.5", **own}

    def _place(self, arguments: Mapping[str, Any]) -> tuple[URL, dict[str, Any]]:
        """The URL, and the arguments that aren't in it."""
        path, mark, query = self._table.url.partition("?")
        inside = set(PLACE.findall(self._table.url))
        for name in PLACE.findall(path):
            if not _text(arguments[name]).strip("."):  # "", "." and ".." would be another path
                raise ToolError(f"the argument '{name}' can't be {_text(arguments[name])!r}")
        filled = PLACE.sub(lambda m: quote(_text(arguments[m[1]]), safe=""), path + mark + query)
        rest = {name: value for name, value in arguments.items() if name not in inside}
        url = URL(filled, encoded=True)
        if not self._table.has_body and rest:
            url = url.update_query({name: _text(value) for name, value in rest.items()})
            rest = {}
        return url, rest

    async def _try(
        self, session: aiohttp.ClientSession, url: URL, body: dict[str, Any] | None, limit_s: float
    ) -> Any:
        again = _Again if self._table.may_repeat else ToolError
        try:
            async with asyncio.timeout(limit_s):
                for _ in range(MOST_REDIRECTS + 1):
                    async with session.request(
                        self._table.method, url, json=body, allow_redirects=False
                    ) as answer:
                        to = self._redirect(answer)
                        if to is None:
                            return await self._result(answer, again)
                        url = to
        except TimeoutError:
            raise again(f"{self._host} gave no answer within {limit_s:.1f} s") from None
        except aiohttp.ClientConnectorError as error:  # nothing was sent
            raise _Again(f"{self._host} can't be reached: {error.strerror or error}") from error
        except aiohttp.ClientError as error:
            raise again(f"{self._host} broke off: {str(error) or type(error).__name__}") from error
        raise ToolError(f"{self._host} redirects without an end")

    def _redirect(self, answer: aiohttp.ClientResponse) -> URL | None:
        """Where to, instead."""
        if answer.status not in (301, 302, 303, 307, 308):
            return None
        to = answer.url.join(URL(answer.headers.get("Location", "")))
        if to.origin() != answer.url.origin():
            raise ToolError(f"{self._host} redirects to {to.host}; set that as 'url'")
        if answer.status in (301, 302, 303) and self._table.method != "GET":
            raise ToolError(f"{self._host} redirects a {self._table.method}; set 'url' to {to}")
        return to

    async def _result(self, answer: aiohttp.ClientResponse, again: type[ToolError]) -> Any:
        text, whole = await _read(answer)
        if answer.status >= 400:
            reason = " ".join(text.split())[:MOST_REASON]
            said = f"{self._host} answers {answer.status} {answer.reason or ''}".rstrip()
            kind = again if answer.status in _LATER else ToolError
            raise kind(f"{said}: {reason}" if reason else said)
        if whole and "json" in answer.content_type:
            try:
                return json.loads(text)
            except ValueError:
                pass  # then it is a text
        return text.strip() or "done"


def _text(value: Any) -> str:
    """An argument in a URL."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


async def _read(answer: aiohttp.ClientResponse) -> tuple[str, bool]:
    """The answer's text, and whether it is all of it."""
    data = bytearray()
    async for piece in answer.content.iter_any():
        data += piece
        if len(data) > MOST_BYTES:
            break
    whole = len(data) <= MOST_BYTES
    try:
        return bytes(data[:MOST_BYTES]).decode(answer.charset or "utf-8", errors="replace"), whole
    except LookupError:  # a charset that nobody knows
        return bytes(data[:MOST_BYTES]).decode("utf-8", errors="replace"), whole
