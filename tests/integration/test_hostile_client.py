"""Hostile clients at the API's own process: one made from its description, and ones that know no
HTTP. It answers each with less than 500 or not at all, logs no traceback, and serves on."""

import asyncio
import os
import resource
import sys
import time
from pathlib import Path

import pytest

from bridge.sessions.model import Line
from bridge.sessions.redis import RedisStore
from bridge.sessions.settings import RedisSettings
from tests.integration.test_web import TOKEN, web
from tests.lab.redis import Redis
from tests.lab.root import free_port

EXAMPLES = 6
"""Made-up requests an operation, beside those at the borders of what its schema takes."""
MOST_MIB = 64
WITHOUT_END = ("/v1/live", "/v1/calls/{id}/listen", "/v1/phone/sip")


@pytest.fixture
def redis():
    with Redis() as server:
        asyncio.run(note_calls(server))
        yield server


async def note_calls(server):
    """Calls that are over: who wants something of them is told so at once."""
    store = RedisStore(RedisSettings(url=server.url), "w1")
    writing = asyncio.create_task(store.run())
    now = time.time()
    for name in ("a", "b"):
        store.begin(name)
        store.put(name, worker="w1", agent="demo", state="ended", started=now, ended=now + 9)
        store.say(name, Line(now, "caller", "Hello?"))
    assert await store.flush(10)
    writing.cancel()
    await store.close()


def memory_mib(pid):
    """What a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def log_of(process):
    """All that it has said, once it has ended."""
    process.terminate()
    said = await process.stderr.read()
    assert await process.wait() == 0
    return said.decode()


async def test_one_that_has_read_the_description(redis, tmp_path):
    port = free_port()
    async with web(redis, tmp_path, port) as (_, process):
        words = [sys.executable, "-m", "schemathesis.cli", "run"]
        words += [f"http://127.0.0.1:{port}/v1/openapi.json"]
        words += ["-H", f"Authorization: Bearer {TOKEN}", "--phases", "coverage,fuzzing"]
        words += ["--max-examples", str(EXAMPLES), "--seed", "9", "--continue-on-failure"]
        words += ["--request-timeout", "30", "--no-color", "--suppress-health-check", "all"]
        for path in WITHOUT_END:
            words += ["--exclude-path", path]
        client = await asyncio.create_subprocess_exec(
            *words,
            cwd=tmp_path,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await client.communicate()
        assert client.returncode == 0, said.decode()
        assert b"Operations:" in said
        log = await log_of(process)
        assert "Traceback" not in log, log


SENT = {
    "nothing at all": b"",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "a NUL in a header": b"GET /v1/calls HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
    "a line without end": b"GET /" + b"a" * 200_000,
    "headers without end": b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 50_000,
    "a path that climbs": b"GET /static/..%2f..%2f..%2fetc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": b"POST /v1/calls HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "a body without end": b"POST /v1/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    + TOKEN.encode()
    + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"8000\r\n"
    + b"[" * 0x8000
    + b"\r\n",
    "deep JSON": b"POST /v1/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    + TOKEN.encode()
    + b"\r\nContent-Length: 60000\r\n\r\n"
    + b"[" * 60_000,
}


WHOLE = ("a NUL in a header", "a path that climbs", "two lengths", "deep JSON")
"""After which an answer is due; behind the others their sender says that no more comes."""


async def thrown(port, name):
    """What comes back to who sends that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in range(40 if name == "a body without end" else 1):
            writer.write(SENT[name])
            await writer.drain()
        if name not in WHOLE:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(100_000), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_ones_that_know_no_http(redis, tmp_path):
    port = free_port()
    async with web(redis, tmp_path, port) as (session, process):
        assert (await session.get("/v1/calls")).status == 200
        before = memory_mib(process.pid)
        for name in SENT:
            answer = await thrown(port, name)
            assert (not answer and name not in WHOLE) or answer.startswith(
                (b"HTTP/1.1 4", b"HTTP/1.0 4")
            ), (name, answer)
            assert b"root:" not in answer
        # So many who never say what they want, and one who does.
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
        assert (await session.get("/v1/calls/a")).status == 200
        for _, writer in idle:
            writer.close()
        assert memory_mib(process.pid) - before < MOST_MIB
        said = await log_of(process)
        assert "Traceback" not in said, said
