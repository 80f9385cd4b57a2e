"""The smallest ARI listener: stands in for the bridge where only Asterisk's side is looked at."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.lab.asterisk import Asterisk

Event = dict[str, Any]


class Ari:
    """One Stasis application of `pbx`; made by `listen`."""

    def __init__(
        self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse
    ) -> None:
        self._session = session
        self._socket = socket

    async def event(self, kind: str, timeout_s: float = 10.0) -> Event:
        """The next event of type `kind`; others before it are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                event: Event = await self._socket.receive_json()
                if event["type"] == kind:
                    return event

    async def request(self, method: str, path: str, **query: str) -> Any:
        """Send a request, such as `post channels/ID/answer`; gives its JSON, None if empty."""
        async with self._session.request(method, f"/ari/{path}", params=query) as answer:
            answer.raise_for_status()
            return await answer.json() if answer.content_length else None

    async def variable(self, channel: str, name: str) -> str:
        """Value of a channel variable or function."""
        found: Mapping[str, str] = await self.request(
            "get", f"channels/{channel}/variable", variable=name
        )
        return found["value"]

    async def leave(self, channel: str, result: str) -> None:
        """Let the dialplan go on as the bridge does, with `result` in ARI_BRIDGE_RESULT."""
        await self.request(
            "post", f"channels/{channel}/variable", variable="ARI_BRIDGE_RESULT", value=result
        )
        await self.request("post", f"channels/{channel}/continue")


@asynccontextmanager
async def listen(pbx: Asterisk, application: str = "ari-bridge") -> AsyncIterator[Ari]:
    """Connect to `pbx` as `application`."""
    login = base64.b64encode(f"{pbx.ari_username}:{pbx.ari_password}".encode()).decode()
    async with (
        aiohttp.ClientSession(
            pbx.ari_url, headers={"Authorization": f"Basic {login}"}, raise_for_status=False
        ) as session,
        session.ws_connect(f"/ari/events?app={application}") as socket,
    ):
        yield Ari(session, socket)
