"""Resource: the telephone in the page.

    page (JsSIP) ── WebSocket of the API, token ──▶ web process ── wss ──▶ Asterisk: SIP
         └────────────────── DTLS-SRTP, Opus, UDP: never through here ──────▶ Asterisk: audio

The page speaks SIP with Asterisk by way of the API: so it has one origin, Asterisk's certificate
concerns the web process alone (a browser refuses an unknown one without a word), and who has no
token can't so much as try the account's password. Messages pass as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from bridge.config import PhoneSettings
from bridge.web.errors import Refused, not_found
from bridge.web.parts import Parts
from bridge.web.routes import MOST_BODY, Asked, Route

log = logging.getLogger(__name__)

_SIP = "sip"  # RFC 7118 section 4
_CONNECT_S = 5.0
_BEAT_S = 20.0
_GOING_AWAY = 1001


@dataclass(frozen=True, slots=True)
class Phone:
    """What the page's telephone needs."""

    user: str
    password: str
    domain: str
    number: str
    """What it dials unless told otherwise."""


def routes(parts: Parts) -> list[Route]:
    """Of this resource."""
    phone = _Phone(parts)
    return [
        Route(
            "GET",
            "/v1/phone",
            "Explain the page's telephone",
            phone.about,
            gives=Phone,
            operates=True,
        ),
        Route(
            "GET",
            "/v1/phone/sip",
            "Speak SIP with Asterisk (a WebSocket)",
            phone.speak,
            operates=True,
        ),
    ]


class _Phone:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def _settings(self) -> PhoneSettings:
        settings = self._parts.config.web.phone
        if not settings.url:
            raise not_found("this dashboard has no telephone: set [web.phone] url and password")
        return settings

    async def about(self, asked: Asked) -> Phone:
        known = self._settings
        domain = urlsplit(known.url).hostname or "asterisk.invalid"
        return Phone(known.user, known.password, domain, known.number)

    async def speak(self, asked: Asked) -> web.StreamResponse:
        settings = self._settings
        trust = _trust(settings)
        async with aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    there = await session.ws_connect(
                        *(settings.url,),
                        protocols=(_SIP,),
                        ssl=trust,
                        heartbeat=_BEAT_S,
                        max_msg_size=MOST_BODY,
                    )
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                why = str(error) or "no answer"
                log.warning(
                    "the page's telephone can't reach Asterisk at %s: %s", settings.url, why
                )
                raise Refused(
                    *(502, "asterisk-away"),
                    f"Asterisk can't be reached at {settings.url} ({why}): see [web.phone]",
                ) from error
            here = web.WebSocketResponse(
                protocols=(_SIP,), heartbeat=_BEAT_S, max_msg_size=MOST_BODY
            )
            await here.prepare(asked.request)
            ways = {
                asyncio.create_task(_pass(here, there)),
                asyncio.create_task(_pass(there, here)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                await there.close()
                await here.close(code=_GOING_AWAY)
        return here


async def _pass(source: Any, target: Any) -> None:
    """Until one of the two is closed."""
    with contextlib.suppress(ConnectionError):
        async for message in source:
            if message.type == aiohttp.WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type == aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)


def _trust(settings: PhoneSettings) -> ssl.SSLContext | bool:
    if not settings.ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Refused(
            *(500, "bad-ca-file"), f"[web.phone] ca_file {settings.ca_file} can't be read: {error}"
        ) from error
