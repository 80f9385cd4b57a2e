"""Redis by TLS, as a user of its ACL who may do no more than sessions need."""

import asyncio
import time

import pytest

from bridge.check import redis as check
from bridge.errors import StoreUnreachable
from bridge.sessions.model import Line
from bridge.sessions.reader import Reader
from bridge.sessions.redis import RedisStore
from bridge.sessions.settings import RedisSettings
from tests.lab.certificate import Authority
from tests.lab.redis import Redis, Sentinel
from tests.lab.root import free_port

RIGHTS = ("~ari-bridge:*", "+@all", "-@dangerous", "+info")
"""As `ari-bridge check` proposes them."""


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def by_tls(authority):
    """Options of a server for 127.0.0.1, whose own connections to others are by TLS, too."""
    both = str(authority.issue("127.0.0.1"))
    return {
        "tls-port": str(free_port()),
        "tls-cert-file": both,
        "tls-key-file": both,
        "tls-ca-cert-file": str(authority.file),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }


def let_in(server):
    """Make a user `ann`."""
    server.command("ACL", "SETUSER", "ann", "on", ">pass:word", *RIGHTS)


@pytest.fixture
def served(authority):
    with Redis(persist=True, options=by_tls(authority)) as server:
        let_in(server)
        yield server, server.served


def settings(port, authority, host="127.0.0.1", kind="", service="0", **more):
    login = {"username": "ann", "password": "pass:word", "timeout_s": 5.0}
    url = f"rediss{kind}://{host}:{port}/{service}"
    return RedisSettings(url=url, ca_file=str(authority.file), **{**login, **more})


async def test_a_session_is_kept_and_read(served, authority):
    await kept(settings(served[1], authority))


async def test_by_a_sentinel_that_is_asked_by_tls(served, authority):
    with Sentinel(served[0], by_tls(authority)) as sentinel:
        await kept(settings(sentinel.served, authority, kind="+sentinel", service="calls"))


async def kept(known):
    store = RedisStore(known, "w1")
    writing = asyncio.create_task(store.run())
    store.begin("a")
    store.put("a", worker="w1", agent="demo", state="talking", started=time.time())
    store.say("a", Line(time.time(), "caller", "Hello?"))
    assert await store.flush(10)
    writing.cancel()
    await store.close()
    reader = Reader(known)
    assert [line.text for line in await reader.transcript("a")] == ["Hello?"]
    await reader.close()
    found = {one.check: one for one in await check.findings(known)}
    assert [one.line for one in found.values() if one.state != "ok"] == []


async def test_who_can_not_be_trusted_is_not_spoken_with(served, authority, tmp_path):
    port = served[1]
    stranger = Authority(tmp_path, "a stranger")
    for wrong, why in (
        (settings(port, stranger), "certificate verify failed"),
        (settings(port, authority, host="localhost"), "Hostname mismatch"),
    ):
        reader = Reader(wrong)
        with pytest.raises(StoreUnreachable):
            await reader.load("a")
        await reader.close()
        (found,) = await check.findings(wrong)
        assert (found.state, why in found.said) == ("fail", True), found
    (found,) = await check.findings(settings(port, authority, password="not-hers"))
    assert found.cure == "set [redis] username and password"
    assert "not-hers" not in found.line


async def test_a_ca_file_that_is_not_there(served, authority, tmp_path):
    known = settings(served[1], authority)
    (found,) = await check.findings(RedisSettings(url=known.url, ca_file=str(tmp_path / "none")))
    assert found.state == "fail"
