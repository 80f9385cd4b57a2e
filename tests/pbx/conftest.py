"""A real Asterisk and a real Redis for the tests, and the bridge's controller between.

Every test that has a caller also shows that nothing is left of it: `callers` looks at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bridge.pbx.asterisk import AsteriskPbx, AsteriskSettings
from bridge.pbx.base import HungUp, Leg, PbxEvent
from tests.lab.asterisk import Asterisk
from tests.lab.redis import Redis
from tests.pbx.callers import Callers

TIMEOUT_S = 20.0


@pytest.fixture(scope="session")
def asterisk() -> Iterator[Asterisk]:
    with Asterisk() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
async def callers(asterisk: Asterisk) -> AsyncIterator[Callers]:
    async with Callers(asterisk) as callers:
        yield callers
        try:
            await callers.nothing_left()
        finally:
            await callers.remove_all()  # what one test leaves is not another's fault


@pytest.fixture
def settings(asterisk: Asterisk) -> AsteriskSettings:
    return AsteriskSettings(
        url=asterisk.ari_url,
        username=asterisk.ari_username,
        password=asterisk.ari_password,
        orphan_grace_s=60.0,  # nothing is swept: a call leaves nothing by its own doing
    )


class Controller:
    """An `AsteriskPbx` that runs, and whom it told what."""

    def __init__(self, settings: AsteriskSettings) -> None:
        self.settings = settings
        self.pbx = AsteriskPbx(settings)
        self.legs: asyncio.Queue[Leg] = asyncio.Queue()
        self.ups: asyncio.Queue[bool] = asyncio.Queue()
        self.running: asyncio.Task[None] | None = None

    async def call(self) -> Leg:
        """The next call that comes."""
        return await asyncio.wait_for(self.legs.get(), TIMEOUT_S)

    async def is_up(self, up: bool = True) -> None:
        """Wait until it says so."""
        assert await asyncio.wait_for(self.ups.get(), TIMEOUT_S) is up

    @asynccontextmanager
    async def run(self, up: bool = True) -> AsyncIterator[Controller]:
        """Have it run; `up`: begin when it is."""
        self.running = asyncio.create_task(self.pbx.run(self.legs.put_nowait, self.ups.put_nowait))
        try:
            if up:
                await self.is_up()
            yield self
        finally:
            self.running.cancel()
            await asyncio.wait([self.running])
            await self.pbx.close()


@pytest.fixture
async def controller(callers: Callers, settings: AsteriskSettings) -> AsyncIterator[Controller]:
    async with Controller(settings).run() as controller:
        yield controller


@pytest.fixture
def with_settings(settings: AsteriskSettings):
    """A controller with other settings: `async with with_settings(url=…) as controller:`."""

    def make(up: bool = True, **changes: object):
        return Controller(replace(settings, **changes)).run(up)

    return make


class Ear(asyncio.DatagramProtocol):
    """Where external media may send its RTP to."""

    def __init__(self) -> None:
        self.packets: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport
        self.address: tuple[str, int] = transport.get_extra_info("sockname")

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.packets.put_nowait((data, addr))


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    loop = asyncio.get_running_loop()
    transport, ear = await loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.1", 0))
    yield ear
    transport.close()


async def next_event(leg: Leg) -> PbxEvent:
    """The leg's next event."""
    return await asyncio.wait_for(leg.events.get(), TIMEOUT_S)


async def over(leg: Leg) -> str:
    """Wait for the end of the leg, past other events; the cause."""
    while True:
        event = await next_event(leg)
        if isinstance(event, HungUp):
            return event.cause


async def set_up(leg: Leg, ear: Ear, codec: str | None = None) -> tuple[str, int]:
    """All that a call does before it can be heard."""
    await leg.answer()
    address = await leg.open_media(ear.address, codec or leg.incoming.codec)  # type: ignore[arg-type]
    await leg.join()
    return address
