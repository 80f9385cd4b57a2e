"""The bridge as systemd starts it, everything by TLS, with callers that another SIP server sends.

One host of an operator who trusts nobody: ARI by https, audio by wss, Redis by rediss as a user of
its ACL, the API by https with two tokens. Its processes are those of the units in systemd/, of all
of them; the test is their service manager.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import ssl
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge import config
from bridge.agent import Agent
from bridge.check import pbx, rtp
from bridge.check import redis as store
from bridge.check.run import findings
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import to_toml
from tests.lab.certificate import Authority
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY, free_port
from tests.lab.services import UNITS as SYSTEMD
from tests.lab.services import Services, file_of

WORKER, WEB = "ari-bridge-worker@1.service", "ari-bridge-web.service"
UNITS = (
    *("ari-bridge-media@1.service", "ari-bridge-media@2.service"),
    *("ari-bridge-relay@1.service", "ari-bridge-relay@2.service", WORKER),
    *("ari-bridge-recorder.service", WEB),
)
WITHIN_S = 60.0
SECRETS = {
    "redis": "secret-of-redis-0123",
    "operate": "secret-of-the-api-0123",
    "read": "secret-of-readers-0123",
    "engine": "secret-of-a-vendor-0123",
    "trunk": "secret-of-the-trunk-0123",
}


@dataclass
class House:
    """What there is."""

    asterisk: Asterisk
    services: Services
    settings: config.Config
    path: Path
    trust: ssl.SSLContext

    def get(self, path: str, token: str = "operate") -> bytes:
        """What the API gives."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.settings.web.port}{path}",
            headers={"Authorization": f"Bearer {SECRETS[token]}"},
        )
        with urllib.request.urlopen(request, timeout=20, context=self.trust) as answer:
            return answer.read()

    def figures(self) -> dict[str, float]:
        """What Prometheus would read, summed over labels."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics").decode()):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    async def settled(self, name: str, value: float) -> dict[str, float]:
        """The figures, once this one is so."""
        async with asyncio.timeout(WITHIN_S):
            while (found := self.figures()).get(name, 0.0) != value:
                await asyncio.sleep(0.2)
        return found


@pytest.fixture(scope="module")
def house(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    authority = Authority(folder)
    both = str(authority.issue("127.0.0.1"))
    port = str(free_port())
    options = {"tls-port": port, "tls-cert-file": both, "tls-key-file": both}
    options |= {"tls-ca-cert-file": str(authority.file), "tls-auth-clients": "no"}
    (folder / "agents").mkdir()
    shutil.copy(REPOSITORY / "agents" / "echo.toml", folder / "agents")
    for name in ("operate", "read"):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(SECRETS[name])
    tables = {
        "asterisk": {
            "url": f"https://127.0.0.1:{asterisk.wss_port}",
            "ca_file": str(asterisk.certificate),
            "media_transport": "websocket",
            "username": asterisk.ari_username,
            "password": asterisk.ari_password,
        },
        "media": {"port": free_port(socket.SOCK_DGRAM), "runtime_dir": str(folder / "run")},
        "redis": {
            "url": f"rediss://127.0.0.1:{port}/0",
            "ca_file": authority.file.name,
            "username": "bridge",
            "password": SECRETS["redis"],
        },
        "agents": {"folder": "agents"},
        "web": {
            "port": free_port(),
            "certificate_file": both,
            "token_file": "operate",
            "read_token_file": "read",
        },
        "log": {"level": "debug"},
    }
    path = folder / "bridge.toml"
    path.write_text(to_toml(tables))
    with ExitStack() as stack:
        redis = stack.enter_context(Redis(persist=True, options=options))
        rights = ("~ari-bridge:*", "+@all", "-@dangerous", "+info")
        redis.command("ACL", "SETUSER", "bridge", "on", f">{SECRETS['redis']}", *rights)
        services = stack.enter_context(
            Services(folder, path, {"OPENAI_API_KEY": SECRETS["engine"]})
        )
        for unit in UNITS:
            services.start(unit)
        trust = ssl.create_default_context(cafile=authority.file)
        yield House(asterisk, services, config.load(path), path, trust)
        running = sorted(services.running, reverse=True)
        assert {unit: services.stop(unit) for unit in running} == dict.fromkeys(running, 0)
        assert asterisk.wait_idle() == []


async def test_a_call_and_what_prometheus_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtp, "PACKETS", 30)
    told = await house.settled("ari_bridge_worker_ready", 1)
    begun, ended = (told.get(f"ari_bridge_calls_{x}_total", 0.0) for x in ("begun", "ended"))
    asterisk, media = house.settings.asterisk[0], house.settings.media
    found = {one.check: one for one in await pbx.findings(asterisk, media, [Agent("echo")], "echo")}
    assert [one.line for one in found.values() if one.state != "ok"] == []
    assert "agent 'echo' answered" in found["call"].said
    assert {one.state for one in await store.findings(house.settings.redis)} == {"ok"}
    told = await house.settled("ari_bridge_calls_ended_total", ended + 1)
    assert told["ari_bridge_calls_begun_total"] == begun + 1
    assert told["ari_bridge_call_setup_seconds_count"] == begun + 1
    assert told["ari_bridge_audio_packets_received_total"] > 10
    assert told["ari_bridge_asterisk_up"] == told["ari_bridge_redis_up"] == 1
    assert told["ari_bridge_media_up"] == told["ari_bridge_workers"] == 1
    assert told["ari_bridge_media_tick_seconds_total"] > 0
    house.get("/ready")
    found = {one.check: one for one in await pbx.findings(asterisk, media, [], "nobody")}
    assert found["call"].state == "fail", found["call"]


async def test_killed_a_worker_takes_no_figure_with_it(house: House) -> None:
    before = await house.settled("ari_bridge_worker_ready", 1)
    process = house.services.running[WORKER].process
    process.kill()
    process.wait()
    told = await house.settled("ari_bridge_worker_ready", 0)
    await asyncio.to_thread(house.services.start, WORKER)
    again = await house.settled("ari_bridge_worker_ready", 1)
    name = "ari_bridge_calls_ended_total"
    assert before.get(name) == told.get(name) == again.get(name)


def test_no_unit_is_forgotten(house: House) -> None:
    assert {file_of(unit) for unit in house.services.running} == {*SYSTEMD.glob("*.service")}


async def test_they_tell_their_service_manager_that_they_live(house: House) -> None:
    for service in house.services.running.values():
        service.told.clear()
        await asyncio.to_thread(service.hear, "WATCHDOG=1")


# Another SIP server, in FreeSWITCH's place --------------------------------------------------------

PJSIP = """\
[transport-udp]
type = transport
protocol = udp
bind = @BIND@:@SIP_PORT@

[bridge]
type = endpoint
context = probe
disallow = all
allow = ulaw
aors = bridge
outbound_auth = bridge
from_user = freeswitch
send_rpid = yes
[bridge]
type = auth
auth_type = userpass
username = freeswitch
password = {password}
[bridge]
type = aor
contact = sip:127.0.0.1:{port}
"""
EXTENSIONS = """\
[probe]
exten => dial,1,Set(CALLERID(num)=493012345)
 same => n,Dial(PJSIP/{number}@bridge,20)
exten => listen,1,MixMonitor({folder}/both.wav,r({folder}/heard.wav))
 same => n,PlayTones(1004)
 same => n,Wait(2)
 same => n,Hangup()
"""


class OtherPbx(Asterisk):
    """Another SIP server, that has a trunk to the Asterisk with the bridge."""

    def __init__(self, to: Asterisk, password: str, folder: Path) -> None:
        templates = folder / "templates"
        shutil.copytree(REPOSITORY / "tests" / "data" / "existing-pbx", templates)
        (templates / "pjsip.conf").write_text(PJSIP.format(password=password, port=to.sip_port))
        (templates / "extensions.conf").write_text(EXTENSIONS.format(number=701, folder=folder))
        super().__init__(templates=templates, fragments=(), ari=False)


def strongest_hz(path: Path) -> float:
    with wave.open(str(path)) as file:
        rate, data = file.getframerate(), file.readframes(file.getnframes())
    sound = np.frombuffer(data, "<i2").astype(float)
    if len(sound) < rate // 4 or np.abs(sound).max() < 100:
        return 0.0
    return float(np.argmax(np.abs(np.fft.rfft(sound * np.hanning(len(sound))))) * rate / len(sound))


async def test_a_caller_whom_another_sip_server_sends(house: House, tmp_path: Path) -> None:
    main = house.asterisk
    with (main.etc / "pjsip.conf").open(
        "a"
    ) as file:  # as asterisk-config/ari-bridge-trunk.conf says
        file.write(
            "\n#include ari-bridge-trunk.conf\n[freeswitch](ari-bridge-trunk)\nauth = freeswitch\n"
            "[freeswitch](ari-bridge-login)\nusername = freeswitch\n"
            f"password = {SECRETS['trunk']}\n"
        )
    main.cli("module reload res_pjsip.so")
    with OtherPbx(main, SECRETS["trunk"], tmp_path) as other:
        assert "Unable" not in other.cli(
            "channel originate Local/dial@probe/n extension listen@probe"
        )
        heard = tmp_path / "heard.wav"
        async with asyncio.timeout(WITHIN_S):
            while not heard.exists() or other.channels():
                await asyncio.sleep(0.1)
        assert strongest_hz(heard) == pytest.approx(1004, abs=10)
        (call, *_) = json.loads(house.get("/v1/calls", "read"))["calls"]
        assert (call["caller"], call["dialed"], call["agent"]) == ("493012345", "701", "echo")
    with OtherPbx(main, "not-the-password", tmp_path / "again") as stranger:
        stranger.cli("channel originate Local/dial@probe/n extension listen@probe")
        async with asyncio.timeout(WITHIN_S):
            while stranger.channels():
                await asyncio.sleep(0.1)
        assert not (tmp_path / "again" / "heard.wav").exists()
        assert json.loads(house.get("/v1/calls"))["calls"][0]["id"] == call["id"]


# What is told to nobody ---------------------------------------------------------------------------


async def test_no_secret_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {*SECRETS.values(), house.asterisk.ari_password}
    told = {"a log": house.services.logs(), "a figure": house.get("/metrics").decode()}
    assert "ready: Asterisk" in told["a log"]
    for unit, service in house.services.running.items():
        for name in ("cmdline", "comm"):
            words = Path(f"/proc/{service.process.pid}/{name}").read_bytes()
            told[f"{unit}: {name}"] = words.decode(errors="replace")
    for path in ("/v1/openapi.json", "/v1/workers", "/v1/calls", "/"):
        told[path] = house.get(path, "read").decode()
    monkeypatch.setattr(rtp, "PACKETS", 5)
    lines = [one.line async for one in findings(house.settings, connect=False)]
    told["ari-bridge check"] = "\n".join(lines)
    told["a print"] = repr(house.settings)
    assert [(where, s) for where, text in told.items() for s in secrets if s in text] == []


async def test_who_may_look_may_not_hang_up(house: House) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        house.get("/v1/calls/x/listen", "read")
    refused.value.close()
    assert refused.value.code == 403


async def test_a_renewed_certificate_needs_no_restart(house: House, tmp_path: Path) -> None:
    fresh = Authority(tmp_path, "a new authority")
    Path(house.settings.web.certificate_file).write_bytes(fresh.issue("127.0.0.1").read_bytes())
    house.services.running[WEB].process.send_signal(signal.SIGHUP)
    house.trust = ssl.create_default_context(cafile=fresh.file)
    answer = b""
    async with asyncio.timeout(WITHIN_S):
        while not answer:
            with contextlib.suppress(urllib.error.URLError):  # it still shows the old one
                answer = house.get("/v1/token")
            await asyncio.sleep(0.1)
    assert json.loads(answer) == {"role": "operate"}
