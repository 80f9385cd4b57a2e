"""`ari-bridge check` against a real Asterisk and a real Redis: each thing broken in turn.

With a bridge that runs: test_services.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from bridge import cli
from bridge.agent import Agent, TransferSettings
from bridge.check import engines, finding, pbx, rtp
from bridge.check import redis as store
from bridge.media.settings import MediaSettings
from bridge.pbx.asterisk import AsteriskSettings
from bridge.sessions.settings import RedisSettings
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import asterisk as asterisk_table
from tests.lab.bridge import to_toml
from tests.lab.redis import Cramped, Redis
from tests.lab.root import free_port
from tests.pbx.callers import Callers

DEMO = Agent("demo", transfer=TransferSettings(extensions=("200",)))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtp, "PACKETS", 20)


@pytest.fixture
def media(tmp_path: Path) -> MediaSettings:
    return MediaSettings(port=free_port(socket.SOCK_DGRAM), runtime_dir=str(tmp_path / "run"))


@pytest.fixture
async def ask(callers: Callers, settings: AsteriskSettings, media: MediaSettings):
    """What is found with some settings changed: state and text, by check."""

    async def found(agent: Agent = DEMO, media: MediaSettings = media, **changes: object):
        found = await pbx.findings(replace(settings, **changes), media, [agent])
        return {one.check: (one.state, f"{one.said}: {one.cure}") for one in found}

    return found


async def test_all_is_well(ask):
    found = await ask()
    assert {state for state, _ in found.values()} == {"ok"}, found
    assert list(found) == ["asterisk", "modules", "rtp", "codecs", "dialplan", "transfer"]
    assert "0.0 % of 40 packets lost" in found["rtp"][1]
    assert "handed over" in found["dialplan"][1]
    assert "sends PCMU, PCMA, L16, G722" in found["codecs"][1]


@pytest.mark.parametrize(
    ("changes", "check", "told"),
    [
        ({"password": "wrong"}, "asterisk", "refuses user 'ari-bridge': make username and"),
        ({"url": "http://127.0.0.1:9"}, "asterisk", "nobody listens at http://127.0.0.1:9"),
        ({"app": "other"}, "dialplan", "does not come to 'other': let its line say Stasis(other"),
        ({"rtp_address": "127.0.0.6"}, "rtp", 'set [asterisk] rtp_address = "127.0.0.1"'),
    ],
)
async def test_a_wrong_setting_is_named(ask, changes, check, told):
    state, text = (await ask(**changes))[check]
    assert state == "fail"
    assert told in text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"advertised_address": "127.0.0.9"}, "does not reach 127.0.0.9:"),
        ({"listen_address": "192.0.2.7"}, "set [media] listen_address to an address of this"),
    ],
)
async def test_a_wrong_address_of_ours_is_named(ask, media, monkeypatch, changes, told):
    monkeypatch.setattr(rtp, "_FIRST_S", 0.2)  # nothing is to come
    found = await ask(media=replace(media, **changes))
    assert found["rtp"][0] == "fail"
    assert told in found["rtp"][1]


async def test_a_port_that_somebody_else_has_is_named(ask, media):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", media.port))
        found = await ask()
    assert found["rtp"] == (
        "fail",
        f"UDP port {media.port} on 127.0.0.1 is in use: stop what uses it (`ss -lunp` shows it), "
        "or set another [media] port",
    )


@pytest.mark.parametrize(
    ("host", "moved", "told"),
    [
        ("10.1.2.3", 0, 'set [asterisk] rtp_address = "10.1.2.3"'),
        ("127.0.0.1", 1, "rewrites ports"),
    ],
)
async def test_an_asterisk_whose_rtp_comes_from_elsewhere(ask, monkeypatch, host, moved, told):
    real = rtp._Ear.datagram_received
    monkeypatch.setattr(
        rtp._Ear,
        "datagram_received",
        lambda self, data, addr: real(self, data, (host, addr[1] + moved)),
    )
    state, text = (await ask())["rtp"]
    assert (state, told in text) == ("fail", True)


async def test_a_user_who_may_only_look(ask, asterisk: Asterisk):
    ari = asterisk.etc / "ari.conf"
    was = ari.read_text()
    ari.write_text(f"{was}\n[reader]\ntype = user\nread_only = yes\npassword = secret\n")
    asterisk.cli("module reload res_ari.so")
    try:
        found = await ask(username="reader", password="secret")
    finally:
        ari.write_text(was)
        asterisk.cli("module reload res_ari.so")
    assert found["asterisk"][0] == "fail"
    assert "set read_only=no for our user in its ari.conf" in found["asterisk"][1]
    assert found["rtp"][0] == "skip"


async def test_a_dialplan_without_our_context(ask, asterisk: Asterisk):
    asterisk.cli("dialplan remove context ari-bridge-call")
    try:
        state, text = (await ask())["dialplan"]
    finally:
        asterisk.cli("dialplan reload")
    assert (state, "include ari-bridge-extensions.conf" in text) == ("warn", True)


async def test_a_fallback_that_is_nowhere(ask, asterisk: Asterisk):
    asterisk.cli("dialplan set global ARI_BRIDGE_FALLBACK nowhere,1,1")
    try:
        state, text = (await ask())["fallback"]
    finally:
        asterisk.cli('dialplan set global ARI_BRIDGE_FALLBACK ""')
    assert (state, "no such place" in text) == ("fail", True)


async def test_ours_that_does_not_reach_asterisk(ask, monkeypatch):
    real = rtp._Ear.connection_made

    class Deaf:
        def __init__(self, transport):
            self.close = transport.close

        def sendto(self, data, addr):
            pass  # as a firewall does

    monkeypatch.setattr(rtp._Ear, "connection_made", lambda self, t: real(self, Deaf(t)))
    state, text = (await ask())["rtp"]
    assert (state, "ours does not reach it" in text) == ("fail", True)


async def test_packets_that_get_lost_are_counted(ask, monkeypatch):
    real, count = rtp._Ear.datagram_received, iter(range(10**6))
    monkeypatch.setattr(
        rtp._Ear,
        "datagram_received",
        lambda self, data, addr: next(count) % 5 and real(self, data, addr),
    )
    state, text = (await ask())["rtp"]
    assert state == "warn"
    lost = float(text.partition("), ")[2].partition(" %")[0])
    assert 15 < lost < 25


@pytest.mark.parametrize("module", ["chan_rtp.so", "codec_g722.so", "func_dialplan.so"])
async def test_a_missing_module_is_named(ask, asterisk: Asterisk, module):
    asterisk.cli(f"module unload {module}")
    try:
        found = await ask()
    finally:
        asterisk.cli(f"module load {module}")
    check, state = {
        "chan_rtp.so": ("modules", "fail"),
        "func_dialplan.so": ("modules", "fail"),
        "codec_g722.so": ("codecs", "warn"),
    }[module]
    assert found[check][0] == state
    assert module in found[check][1]
    if module == "chan_rtp.so":
        assert found["rtp"][0] == "fail"


async def test_a_place_to_transfer_to_that_is_not_there(ask):
    found = await ask(Agent("demo", transfer=TransferSettings(extensions=("200", "999"))))
    assert found["transfer"][0] == "fail"
    assert "no extension 999, where demo transfers to" in found["transfer"][1]


# Redis --------------------------------------------------------------------------------------------


async def of_redis(url: str, **more: object) -> dict[str, tuple[str, str]]:
    found = await store.findings(RedisSettings(url=url, **more))
    return {one.check: (one.state, f"{one.said}: {one.cure}") for one in found}


async def test_redis():
    with Redis(persist=True) as server:
        good = await of_redis(server.url)
        assert {state for state, _ in good.values()} == {"ok"}, good
        server.command("CONFIG", "SET", "maxmemory", "50mb")
        server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        state, text = (await of_redis(server.url))["redis memory"]
        assert (state, "maxmemory-policy noeviction" in text) == ("fail", True)
        server.command("CONFIG", "SET", "maxmemory", "1")
        server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        state, text = (await of_redis(server.url))["redis rights"]
        assert (state, "raise maxmemory" in text) == ("fail", True)
        server.command("CONFIG", "SET", "maxmemory", "0")
        server.command("ACL", "SETUSER", "ann", "on", ">pw", "~ari-bridge:*", "+@all", "-eval")
        login = {"username": "ann", "password": "pw"}
        state, text = (await of_redis(server.url, **login))["redis rights"]
        assert (state, "'eval'" in text) == ("fail", True)
        state, text = (await of_redis(server.url, **{**login, "password": "no"}))["redis"]
        assert (state, "set [redis] username and password" in text) == ("fail", True)
        with Redis() as replica:
            replica.command("REPLICAOF", "127.0.0.1", str(server.port))
            state, text = (await of_redis(replica.url))["redis rights"]
            assert (state, "replica" in text) == ("fail", True)
            assert (await of_redis(replica.url))["redis disk"][0] == "warn"
        assert server.command("DBSIZE") == "0", "nothing is left"
    state, text = (await of_redis(server.url))["redis"]
    assert (state, "set [redis] url" in text) == ("fail", True)


@pytest.mark.parametrize(
    ("name", "value", "check", "told"),
    [
        ("LEAST", (99, 0), "redis", ("fail", "Redis 6.2 or newer")),
        ("_SLOW_MS", -1.0, "redis speed", ("warn", "bring it nearer")),
        ("_TOO_SLOW_MS", -1.0, "redis speed", ("fail", "taken for dead")),
        ("_SKEW_S", -1.0, "clock", ("warn", "NTP")),
    ],
)
async def test_what_of_redis_is_measured(redis, monkeypatch, name, value, check, told):
    """A slow, an old or a wrong one: here it is what is asked for that is moved."""
    monkeypatch.setattr(store, name, value)
    state, text = (await of_redis(redis.url))[check]
    assert (state, told[1] in text) == (told[0], True)


async def test_a_redis_whose_disk_is_full():
    with Cramped() as server:
        server.full(True)
        found = await of_redis(server.url)
        assert (found["redis disk"][0], found["redis rights"][0]) == ("fail", "fail"), found
        assert "can't write its append-only file" in found["redis disk"][1]
        assert "MISCONF" in found["redis rights"][1]
        assert "make room on its disk" in found["redis rights"][1]
        server.full(False)
        async with asyncio.timeout(30):  # it tries again once a second
            while (found := await of_redis(server.url))["redis disk"][0] != "ok":
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("persist", [False, True])
async def test_a_redis_whose_snapshots_fail(persist):
    options = {"enable-protected-configs": "yes"}
    with Redis(persist=persist, options=options) as server:
        server.command("CONFIG", "SET", "save", "3600 1")
        server.command("CONFIG", "SET", "dir", "/proc")  # nobody can make a file there
        server.command("BGSAVE")
        async with asyncio.timeout(30):
            while (found := await of_redis(server.url))["redis disk"][0] != "fail":
                await asyncio.sleep(0.05)
        assert "last snapshot has failed" in found["redis disk"][1]
        state, text = (await of_redis(server.url))["redis rights"]
        assert (state, "MISCONF" in text, "make room on its disk" in text) == ("fail", True, True)


async def test_a_redis_that_is_nearly_full():
    with Redis(persist=True) as server:
        server.command("SET", "x", "y" * 8_000_000)
        server.command("CONFIG", "SET", "maxmemory", "10mb")
        state, text = (await of_redis(server.url))["redis memory"]
        assert (state, "raise maxmemory" in text) == ("warn", True)


# Engines and the command --------------------------------------------------------------------------


async def of_agents(folder: Path, **files: str) -> dict[str, tuple[str, str]]:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    agents, found = engines.load(folder)
    found += [one async for one in engines.findings(agents)]
    return {one.check: (one.state, f"{one.said}: {one.cure}") for one in found}


async def test_agents(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = await of_agents(
        tmp_path,
        good='engine = "echo"',
        keyless='engine = "openai-realtime"',
        alone='engine = "twilio"\n[twilio]\nurl = "ws://127.0.0.1:9/"',
        mistyped='engine = "ecco"',
        unread="greting = 1",
        helpless='engine = "echo"\nfallback = "nobody"',
    )
    assert found["agent good"][0] == "ok"
    for check, told in (
        ("agent keyless", "OPENAI_API_KEY"),
        ("agent alone", "can't connect"),
        ("agent mistyped", "did you mean 'echo'?"),
        ("agent unread", "did you mean 'greeting'?"),
        ("fallback helpless", "its fallback 'nobody' can't be used"),
    ):
        assert found[check][0] == "fail"
        assert told in found[check][1]


def test_the_command(asterisk, redis, media, tmp_path, capsys):
    tables = {
        "asterisk": asterisk_table(asterisk),
        "media": {"port": media.port, "runtime_dir": media.runtime_dir},
        "redis": {"url": redis.url},
        "agents": {"folder": "agents"},
    }
    (tmp_path / "agents").mkdir()  # speech models are loaded in test_offline.py
    (tmp_path / "agents" / "demo.toml").write_text(
        'engine = "echo"\n[transfer]\nextensions = ["200"]\n'
    )
    path = tmp_path / "bridge.toml"
    path.write_text(to_toml(tables))
    assert cli.main(["check", "--config", str(path), "--no-connect"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok  ", "warn ")) for line in lines)
    assert any(line.startswith("ok    agent demo") for line in lines)
    tables["asterisk"] = asterisk_table(asterisk, password="wrong")
    path.write_text(to_toml(tables))
    assert cli.main(["check", "--config", str(path), "--no-connect", "--json"]) == 1
    out = capsys.readouterr().out
    assert asterisk.ari_password not in out
    states = {one["check"]: one["state"] for one in json.loads(out)}
    assert (states["asterisk"], states["rtp"], states["redis"]) == ("fail", "skip", "ok")


def test_findings_as_text():
    bad = finding.Finding("rtp", "fail", "nothing comes", "set it")
    assert bad.line == "FAIL  rtp          nothing comes: set it"
    assert finding.status([bad]) == 1
    assert finding.status([finding.Finding("rtp", "warn", "x")]) == 0
