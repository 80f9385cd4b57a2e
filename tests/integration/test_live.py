"""The live feed on a real Redis: everything first, then what changes; Redis away and back."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest

from tests.browser.stage import TOKEN, stage
from tests.lab.redis import Redis

LOGIN = {"Authorization": f"Bearer {TOKEN}"}


class Viewer:
    """Follows the feed, and keeps what it was told."""

    def __init__(self, answer):
        self._answer, self.first, self.lines, self.calls = answer, None, [], {}

    async def until(self, true):
        """Read on until `true` of a message."""
        async with asyncio.timeout(20):
            async for row in self._answer.content:
                if not row.startswith(b"data: "):
                    continue
                message = json.loads(row[6:])
                self.first = self.first or message
                if true(message):
                    return message
        raise AssertionError("the feed has ended")


@pytest.fixture
def redis():
    with Redis(persist=True) as server:
        yield server


async def test_a_viewer_is_told_everything_then_what_changes(redis, tmp_path):
    async with (
        stage(redis, tmp_path) as shown,
        aiohttp.ClientSession(shown.url, headers=LOGIN) as session,
    ):
        shown.call("c1", caller="555")
        shown.says("c1", "caller", "Hello?", time.time())
        await shown.written()
        async with session.get("/v1/live") as answer:
            one = Viewer(answer)
            await one.until(lambda m: "c1" in m.get("lines", {}))
            assert one.first["all"]
            async with session.get("/v1/live") as late:
                other = Viewer(late)
                whole = await other.until(lambda m: True)
                assert whole["calls"]["c1"]["caller"] == "555"
                assert [line["text"] for line in whole["lines"]["c1"]] == ["Hello?"]
            shown.says("c1", "agent", "Hello.", time.time(), heard_ms=400)
            told = await one.until(lambda m: "c1" in m.get("lines", {}))
            assert [(s["text"], s["heard_ms"]) for s in told["lines"]["c1"]] == [("Hello.", 400)]
            shown.store.put("c1", worker="another", fence=1)
            told = await one.until(lambda m: "worker" in m.get("calls", {}).get("c1", {}))
            assert told["calls"]["c1"] == {"worker": "another"}, "only what has changed"
            shown.store.put("c1", state="ended", ended=time.time())
            told = await one.until(lambda m: m.get("gone"))
            assert told["gone"] == ["c1"]


async def test_a_viewer_is_told_when_redis_is_away_and_back(redis, tmp_path):
    async with (
        stage(redis, tmp_path) as shown,
        aiohttp.ClientSession(shown.url, headers=LOGIN) as session,
        session.get("/v1/live") as answer,
    ):
        viewer = Viewer(answer)
        await viewer.until(lambda m: True)
        redis.stop()
        told = await viewer.until(lambda m: m.get("away"))
        assert "does not answer" in told["away"]
        redis.start()
        await viewer.until(lambda m: m.get("away") == "")
