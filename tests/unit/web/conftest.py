"""The API on a socket, with sessions in memory in the place of Redis."""

from __future__ import annotations

import contextlib

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bridge.config import Config
from bridge.sessions.base import Member
from bridge.web.parts import Parts
from bridge.web.server import application

TOKEN = "a-token-of-the-tests"
LOGIN = {"Authorization": f"Bearer {TOKEN}"}


class Sessions:
    """What `Reader` would read."""

    def __init__(self):
        self.stored, self.lines = {}, {}
        self.workers = {"w1": Member("w1", True, 1.0, 2, True, place="host")}
        self.failure = None
        self.server = None

    def add(self, record, lines=()):
        self.stored[record.call_id] = record
        self.lines[record.call_id] = list(lines)

    def _fail(self):
        if self.failure is not None:
            raise self.failure

    async def load(self, call_id):
        self._fail()
        return self.stored.get(call_id)

    async def transcript(self, call_id):
        return self.lines[call_id]

    async def latest(self, limit, before=None):
        self._fail()
        found = [r for r in self.stored.values() if before is None or r.started < before]
        return sorted(found, key=lambda r: -r.started)[:limit]

    async def live(self):
        return [r for r in await self.latest(1000) if r.state != "ended"]

    async def members(self):
        return self.workers


@pytest.fixture
def sessions():
    return Sessions()


@pytest.fixture
async def api(sessions):
    async with running(Parts(Config(), sessions)) as client:
        yield client


@contextlib.asynccontextmanager
async def running(parts):
    server = TestServer(application(parts, TOKEN))
    async with TestClient(server, headers=LOGIN) as client:
        yield client
