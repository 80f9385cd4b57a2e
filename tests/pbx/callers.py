"""A caller whom tests drive by hand, over an ARI connection that has nothing of the bridge's.

It is one end of a Local channel; the other end runs the dialplan, and is what the bridge gets. What
the tests assert of Asterisk is asked here too: never of the code under test.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from typing import Any, Self

import aiohttp

from tests.lab.asterisk import Asterisk

_numbers = itertools.count(1)


class Callers:
    """`async with Callers(asterisk) as callers: caller = await callers.dial("700")`."""

    def __init__(self, asterisk: Asterisk) -> None:
        self.asterisk = asterisk
        # Of its own: what Asterisk still does for one that is closed would end another's calls.
        self.app = f"test-callers-{next(_numbers)}"

    async def __aenter__(self) -> Self:
        login = aiohttp.encode_basic_auth(self.asterisk.ari_username, self.asterisk.ari_password)
        self._session = aiohttp.ClientSession(
            self.asterisk.ari_url, headers={"Authorization": login}
        )
        # An application is active as long as a WebSocket is open; its events are nobody's.
        self._socket = await self._session.ws_connect("/ari/events", params={"app": self.app})
        self._reader = asyncio.create_task(self._drain())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await self._socket.close()
        await self._session.close()

    async def _drain(self) -> None:
        async for _ in self._socket:
            pass

    async def ask(self, method: str, path: str, **params: Any) -> Any:
        """ARI's answer; None where there is no such thing."""
        body = params.pop("body", None)
        async with self._session.request(
            method, f"/ari{path}", params=params, json=body
        ) as response:
            if response.status in (404, 409):
                return None
            response.raise_for_status()
            return await response.json() if response.status == 200 else None

    async def dial(
        self, extension: str, context: str = "internal", variables: dict[str, str] | None = None
    ) -> Caller:
        """Call an extension; returns at once."""
        number = next(_numbers)
        caller = Caller(self, f"phone-{number}", f"caller-{number}")
        await self.ask(
            "POST",
            "/channels",
            endpoint=f"Local/{extension}@{context}",
            app=self.app,
            callerId="Ann <555>",
            channelId=caller.phone,
            otherChannelId=caller.call_id,
            body={"variables": variables or {}},
        )
        return caller

    async def ids(self) -> set[str]:
        """Of all channels and mixing bridges."""
        both = [await self.ask("GET", path) for path in ("/channels", "/bridges")]
        return {thing["id"] for listing in both for thing in listing}

    async def remove_all(self) -> None:
        """Hang up and destroy whatever there is."""
        for kind in ("channels", "bridges"):
            for thing in await self.ask("GET", f"/{kind}"):
                await self.ask("DELETE", f"/{kind}/{thing['id']}")

    async def nothing_left(
        self, *but: Caller, stay: Collection[str] = (), timeout_s: float = 15.0
    ) -> None:
        """Wait for every channel and mixing bridge to go.

        Args:
            but: callers whose own two channels may stay.
            stay: ids that may stay.
        """
        stay = {*stay, *(id_ for caller in but for id_ in (caller.phone, caller.call_id))}
        left: set[str] = set()
        try:
            async with asyncio.timeout(timeout_s):
                while left := await self.ids() - stay:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"left over: {sorted(left)}") from None


class Caller:
    """One call. `phone` is the channel of its own end, `call_id` the one that the bridge gets."""

    def __init__(self, callers: Callers, phone: str, call_id: str) -> None:
        self._callers = callers
        self.phone = phone
        self.call_id = call_id

    async def hang_up(self) -> None:
        """Hang up, and return when Asterisk has no channel of this call any more."""
        await self._callers.ask("DELETE", f"/channels/{self.phone}")
        while {self.phone, self.call_id} & await self._callers.ids():
            await asyncio.sleep(0.002)

    async def speak(self) -> None:
        """Send audio from now on (it is silence); the call must have been answered."""
        await self._callers.ask("POST", f"/channels/{self.phone}/silence")

    async def press(self, digit: str) -> None:
        """Press a key for 100 ms."""
        await self._callers.ask("POST", f"/channels/{self.phone}/dtmf", dtmf=digit, duration=100)

    async def variable(self, name: str) -> str | None:
        """Of the channel that the bridge has (or had)."""
        answer = await self._callers.ask("GET", f"/channels/{self.call_id}/variable", variable=name)
        return None if answer is None else answer["value"]

    async def where(self) -> tuple[str, str]:
        """Context and extension in which its channel is now."""
        channel = await self._callers.ask("GET", f"/channels/{self.call_id}")
        return channel["dialplan"]["context"], channel["dialplan"]["exten"]
