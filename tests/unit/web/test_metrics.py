"""/metrics, /live and /ready: who may read them, and what they tell."""

import asyncio
import contextlib
import dataclasses

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge import metrics
from bridge.config import Config
from bridge.errors import StoreUnreachable
from bridge.media import control
from bridge.media.load import LATE_MS, Load
from bridge.web import metrics as collected
from bridge.web.parts import Parts
from tests.unit.web.conftest import running

NOBODY = {"Authorization": ""}


@pytest.fixture
async def api(sessions, tmp_path):
    config = Config()
    media = dataclasses.replace(config.media, runtime_dir=str(tmp_path))
    async with running(Parts(dataclasses.replace(config, media=media), sessions)) as client:
        yield client


async def families(client, **headers):
    response = await client.get("/metrics", headers=headers)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return {f.name: f for f in text_string_to_metric_families(await response.text())}


async def test_who_is_on_this_host_needs_no_token(api):
    assert "ari_bridge_build_info" in await families(api, **NOBODY)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
async def test_who_comes_through_a_proxy_does(api, header):
    refused = await api.get("/metrics", headers={**NOBODY, header: "for=10.0.0.9"})
    assert refused.status == 401
    assert "ari_bridge_build_info" in await families(api, **{header: "for=10.0.0.9"})


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test:8090", ""])
async def test_a_page_whose_name_was_made_to_point_here_does(api, host):
    refused = await api.get("/metrics", headers={**NOBODY, "Host": host})
    assert refused.status == 401


@pytest.mark.parametrize("host", ["localhost:8090", "127.0.0.1", "[::1]:8090"])
async def test_our_own_names(api, host):
    assert (await api.get("/metrics", headers={**NOBODY, "Host": host})).status == 200


async def test_live_and_ready(api, monkeypatch):
    monkeypatch.setattr(collected, "READY_S", 0.0)
    assert (await api.get("/live", headers=NOBODY)).status == 200
    refused = await api.get("/ready", headers=NOBODY)
    assert refused.status == 503
    assert "no worker" in (await refused.json())["reason"]
    one = collected.GaugeMetricFamily("ari_bridge_worker_ready", "x")
    one.add_metric([], 2)
    monkeypatch.setattr(collected, "of_workers", lambda folder: [one])
    assert "2 workers" in await (await api.get("/ready", headers=NOBODY)).text()


async def test_whoever_asks_whether_we_are_ready_makes_no_work(api, sessions, monkeypatch):
    looks = []

    def look(folder):
        looks.append(folder)
        return []

    def not_for_everybody(*_):
        raise AssertionError("a question to Redis or the media process")

    monkeypatch.setattr(collected, "READY_S", 1e9)
    monkeypatch.setattr(collected, "of_workers", look)
    monkeypatch.setattr(collected, "of_media", not_for_everybody)
    sessions.members = not_for_everybody
    asked = await asyncio.gather(*(api.get("/ready", headers=NOBODY) for _ in range(20)))
    assert {answer.status for answer in asked} == {503}
    assert len(looks) == 1


async def test_redis_away_is_told_and_fails_nothing(api, sessions):
    async def away():
        raise StoreUnreachable("away")

    assert (await families(api))["ari_bridge_web_redis_up"].samples[0].value == 1
    sessions.members = away
    assert (await families(api))["ari_bridge_web_redis_up"].samples[0].value == 0


@contextlib.asynccontextmanager
async def media_process(folder, told):
    """What a media process answers."""
    loop = asyncio.get_running_loop()
    listener = control.new_socket()
    listener.bind(str(control.socket_path(folder)))
    listener.listen()

    async def serve():
        while True:
            sock, _ = await loop.sock_accept(listener)
            assert control.decode(await loop.sock_recv(sock, 9999))["op"] == "list"
            await loop.sock_sendall(sock, control.encode(told))
            sock.close()

    task = asyncio.create_task(serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])  # it lets go of the socket's number, which is soon another's
        listener.close()


async def test_the_media_process(api, tmp_path):
    assert (await families(api))["ari_bridge_media_up"].samples[0].value == 0
    load = Load()
    load.tick(100.0, 100.3, 100.8)
    load.tick(105.0, 112.0, 113.0)
    load.tick(float("inf"), 120.0, 121.0)  # nothing was due
    told = {"load": load.told(), "open_calls": 7, "counters": {"unknown_source": 3}}
    async with media_process(tmp_path, told):
        found = await families(api)
    assert found["ari_bridge_media_calls"].samples[0].value == 7
    busy = found["ari_bridge_media_tick_seconds"].samples[0]
    assert (busy.name, busy.value) == ("ari_bridge_media_tick_seconds_total", 0.0025)
    late = {s.labels.get("le", s.name): s.value for s in found[f"{PLANE}_seconds"].samples}
    assert (late["0.0005"], late["0.005"], late["0.01"], late["+Inf"]) == (1, 1, 2, 2)
    assert late[f"{PLANE}_seconds_sum"] == pytest.approx(0.0073)
    dropped = found["ari_bridge_media_dropped_datagrams"].samples[0]
    assert (dropped.labels, dropped.value) == ({"cause": "unknown_source"}, 3)
    assert len(load.told()["late"]) == len(LATE_MS) + 1


PLANE = "ari_bridge_media_lateness"


def test_a_folder_of_counts_that_is_not_there_is_none():
    assert collected.of_workers(metrics.folder(control.Path("/nowhere"))) == []
