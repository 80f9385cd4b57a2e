"""The API's process, with a real Redis: it needs no worker to tell what is known."""

import asyncio
import contextlib
import os
import signal
import sys
import time

import aiohttp
import pytest

from bridge.sessions.model import Line
from bridge.sessions.redis import RedisStore
from bridge.sessions.settings import RedisSettings
from tests.lab.redis import Redis
from tests.lab.root import free_port

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def redis():
    with Redis() as server:
        yield server


@contextlib.asynccontextmanager
async def web(redis, folder, port):
    (folder / "agents").mkdir(exist_ok=True)
    file = folder / "bridge.toml"
    file.write_text(
        f'[redis]\nurl = "{redis.url}"\n[web]\nport = {port}\n'
        f'[agents]\nfolder = "agents"\n[media]\nruntime_dir = "{folder}/run"\n'
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "web", "--config", str(file)),
        env={**os.environ, "ARI_BRIDGE_TOKEN": TOKEN},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            while b"API at" not in (line := await process.stderr.readline()):
                assert line, "it ended"
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {TOKEN}"}
        ) as session:
            yield session, process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


async def note_a_call(redis):
    store = RedisStore(RedisSettings(url=redis.url), "w1")
    writing = asyncio.create_task(store.run())
    store.begin("a")
    store.put("a", worker="w1", agent="demo", state="talking", started=time.time())
    store.say("a", Line(time.time(), "caller", "Hello?"))
    assert await store.flush(10)
    writing.cancel()
    await store.close()


async def test_it_knows_as_much_after_its_death_as_before(redis, tmp_path):
    await note_a_call(redis)
    port = free_port()
    for _ in range(2):
        async with web(redis, tmp_path, port) as (session, process):
            async with session.get("/v1/calls?live=true") as answer:
                assert [c["id"] for c in (await answer.json())["calls"]] == ["a"]
            async with session.get("/v1/calls/a") as answer:
                assert [s["text"] for s in (await answer.json())["transcript"]] == ["Hello?"]
            async with session.get("/v1/workers") as answer:
                assert (await answer.json())["workers"] == []
            process.kill()


async def test_redis_away_is_told(redis, tmp_path):
    async with web(redis, tmp_path, free_port()) as (session, process):
        redis.stop()
        async with session.get("/v1/calls") as answer:
            assert answer.status == 503
            assert "does not answer" in (await answer.json())["reason"]
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
