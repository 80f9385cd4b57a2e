"""A recorded call on a real Asterisk, held against what the caller's phone sent and received."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import socket
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt
import pytest
from aiohttp import web
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from bridge.recording import notes
from bridge.recording.notes import Notes
from bridge.tracing import trace_id
from bridge.transcript import HIDDEN
from tests.demo.voice import clip
from tests.lab.capture import RATE, Track, lay_out
from tests.lab.collector import Collector
from tests.lab.root import free_port
from tests.lab.stack import Stack, capture
from tests.pbx.test_calls import Memory, until

SAMPLES = Path(__file__).parents[2] / "agents"
TOKEN = "a-token-of-the-tests"
SETTINGS = """
[recording]
enabled = true
folder = "records"
consent = "This call is recorded."
pause_keys = "*7"
"""
SEALED = """
[recording]
enabled = true
folder = "sealed"
encrypt_key_file = "key"
"""
MOST_APART_MS = 80.0
"""11 to 13 on a quiet machine, 41 on a busy one, whose phone loses frames and sends late."""
Pcm = npt.NDArray[np.float64]
MOVED = (
    *("calls_begun_total", "calls_ended_total", "call_duration_seconds_sum"),
    *("call_setup_seconds_sum", "voice_to_voice_seconds_sum", "turn_stage_seconds_sum"),
    *("turns_total", "heard_seconds_total", "audio_packets_received_total"),
    *("audio_lateness_seconds_count", "one_way_delay_seconds_sum", "media_lateness_seconds_count"),
    *("media_tick_seconds_total", "worker_lag_seconds_count", "redis_up", "asterisk_up"),
    *("media_up", "workers", "worker_ready", "web_redis_up"),
)
"""Figures that a call of half a minute moves, whatever else happens."""


@dataclass
class Site:
    """A stack whose calls are recorded, its API, and where its call records and traces go."""

    stack: Stack
    folder: Path
    port: int
    hook: socket.socket
    collector: Collector

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        """Status and body of the API's answer."""
        url = f"http://127.0.0.1:{self.port}{path}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, url, **options) as answer,
        ):
            return answer.status, await answer.read()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("agents"), free_port()
    (folder / "demo.toml").write_text((SAMPLES / "demo.toml").read_text() + SETTINGS)
    (folder / "echo.toml").write_text((SAMPLES / "echo.toml").read_text() + SEALED)
    (folder / "key").write_bytes(base64.b64encode(os.urandom(32)))
    with socket.create_server(("127.0.0.1", 0)) as hook, Collector() as collector:
        settings = {
            "agents": {"folder": str(folder)},
            "web": {"enabled": True, "port": port},
            "telemetry": {"endpoint": collector.url},
            "history": {
                "webhook_url": f"http://127.0.0.1:{hook.getsockname()[1]}/calls",
                "webhook_secret": "s3cret",
            },
        }
        options = ("--workers", "2")
        environment = {"ARI_BRIDGE_TOKEN": TOKEN, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with Stack(settings=settings, options=options, environment=environment) as stack:
            stack.wait_for_workers(2)
            yield Site(stack, folder, port, hook, collector)
            assert stack.pbx.wait_idle() == []


def found(memory: Memory) -> Notes | None:
    """The recording of a call, as its record names it."""
    told = json.loads(memory.record().get("recording") or '{"parts": []}')
    assert len(told["parts"]) <= 1, "one slot, one file"
    file = Path(told["parts"][0] + ".json") if told["parts"] else None
    return Notes.read(file) if file is not None and file.is_file() else None


def said(memory: Memory) -> list[tuple[str, str]]:
    """Who said what."""
    return [(line.role, line.text) for line in memory.lines()]


def ready(memory: Memory) -> bool:
    one = found(memory)
    return one is not None and one.state == "ready"


def lags(side: Pcm, track: Track, started: float) -> dict[float, float]:
    """How much later (ms) each second of a recording lies than the phone had it, by its place (s);
    seconds in which the phone had nothing to compare are left out."""
    lags = {}
    near = RATE // 5
    for at in range(RATE, len(side) - 2 * RATE, RATE // 2):
        here = round((started - track.start) * RATE) + at
        want = track.pcm[max(here, 0) : here + RATE].astype(float)
        if len(want) < RATE or np.sqrt((want**2).mean()) < 300:
            continue
        have = side[at - near : at + RATE + near]
        if np.sqrt((have**2).mean()) < 100:
            continue  # it was paused
        dots = np.correlate(have, want, "valid")
        power = np.convolve(have**2, np.ones(RATE), "valid")
        like = dots / np.sqrt(np.maximum(power, 1.0) * (want**2).sum())
        best = int(np.argmax(like))
        if like[best] > 0.9:
            lags[at / RATE] = (best - near) * 1000 / RATE
    return lags


async def test_it_is_what_the_caller_said_and_heard_through_pause_and_death(
    site: Site, tmp_path: Path
) -> None:
    stack, memory = site.stack, Memory(site.stack)
    async with stack.phone() as phone:
        with capture(phone, tmp_path / "call.pcap") as packets:
            await phone.dial("700")
            await until(lambda: "help you" in memory.agent_said(), "the greeting was heard")
            await phone.speak(clip("Where can I park?").pcm, RATE)
            await until(lambda: "behind the shop" in memory.agent_said(), "he has his answer")
            await phone.dtmf("*7")
            await until(lambda: "recording paused" in str(memory.lines()), "it is paused")
            await phone.speak(clip("When are you open on Sunday?").pcm, RATE)
            await until(lambda: ("caller", HIDDEN) in said(memory), "nobody writes it down")
            resume = {"json": {"action": "resume"}}
            path = f"/v1/calls/{memory.call_id()}/recording"
            assert await site.ask("POST", path, **resume) == (204, b"")
            await until(lambda: "recording goes on" in str(memory.lines()), "it goes on")
            os.kill(stack.bridge.child("recorder"), signal.SIGKILL)
            await phone.speak(clip("Do you sell gift cards?").pcm, RATE)
            await asyncio.sleep(2.5)
            stack.kill_worker()
            await until(lambda: "taken over" in str(memory.lines()), "another worker has the call")
            await phone.speak(clip("Where can I park, please, and when are you open?").pcm, RATE)
            await asyncio.sleep(4)  # long enough to be compared, whatever the agent makes of it
            await phone.hangup()
        await until(lambda: ready(memory), f"the recording is there: {stack.bridge.log()}")
    one = found(memory)
    assert one is not None
    with wave.open(str(one.sound_file)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, RATE)
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    begin, end = packets.packets[0].at, packets.packets[-1].at
    told = {}
    for side, sent in ((0, True), (1, False)):
        track = lay_out(packets.packets, sent=sent, start=begin, end=end)
        told[side] = lags(sound[:, side].astype(float), track, one.started)
    caller, agent = list(told[0].values()), list(told[1].values())
    assert len(caller) >= 3, told
    assert len(agent) >= 6, told
    assert max(agent) - min(caller) <= MOST_APART_MS, told
    assert max(caller) - min(agent) <= MOST_APART_MS, told
    # The paused seconds are silent on both sides, and there is no word of them.
    assert len(one.pauses) == 1, (one.pauses, memory.lines())
    ((first, last),) = one.pauses
    paused_s = {line.text: line.at for line in memory.lines()}
    paused_ms = (paused_s["recording goes on"] - paused_s["recording paused"]) * 1000
    # Never shorter; longer by what media had no time for when it began.
    assert paused_ms - 100 <= last - first < paused_ms + 2500
    assert not sound[first * RATE // 1000 : last * RATE // 1000].any()
    assert "Sunday" not in str(memory.lines())
    assert max(told[0]) > last / 1000, "the caller is there again after the worker's death"
    # The announcement came first, and is in it.
    assert memory.agent_said().startswith("This call is recorded.")
    assert np.abs(sound[: 2 * RATE, 1]).max() > 3000
    assert notes.ordered(stack.bridge.runtime_dir, one.call_id) is None
    await traced(site, memory)
    await counted(site, memory)


async def traced(site: Site, memory: Memory) -> None:
    """One trace, though two workers had the call; and nothing in it that was said."""
    of_call = trace_id(memory.call_id() or "").to_bytes(16)
    spans: list[Span] = []

    def there() -> bool:
        spans[:] = [span for span in site.collector.spans() if span.trace_id == of_call]
        return any(span.name == "call" for span in spans)

    await until(there, "its trace is collected")
    [call] = [span for span in spans if span.name == "call"]
    assert not call.parent_span_id
    assert {span.parent_span_id for span in spans if span is not call} == {call.span_id}
    rows = json.loads(memory.record()["latency"])
    answered = [row["voice_to_voice_ms"] for row in rows if "voice_to_voice_ms" in row]
    assert answered
    name = "ari_bridge.voice_to_voice_ms"
    attributes = [{one.key: one.value.double_value for one in span.attributes} for span in spans]
    assert sorted(told[name] for told in attributes if name in told) == sorted(answered)
    for span in spans:
        assert call.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= call.end_time_unix_nano
    sent = b"".join(body for _, body in site.collector.got)
    spoken = [line.text for line in memory.lines() if line.role in ("caller", "agent")]
    words = [word for text in spoken for word in text.split() if len(word) > 5]
    assert len(words) > 5
    assert [word for word in words if word.encode() in sent] == []


async def counted(site: Site, memory: Memory) -> None:
    """What Prometheus is told of that call: each figure has moved."""
    _, text = await site.ask("GET", "/metrics")
    told: dict[str, float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            told[sample.name] = told.get(sample.name, 0.0) + sample.value
    assert {name: told.get(f"ari_bridge_{name}", 0.0) for name in MOVED} == {
        name: pytest.approx(1e9, abs=1e9 - 1e-6) for name in MOVED
    }
    assert told["ari_bridge_takeovers_total"] == 1


async def test_a_sealed_one_is_heard_told_of_and_erased_over_the_api(
    site: Site, tmp_path: Path
) -> None:
    taken: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(await request.json())
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/calls", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, site.hook).start()  # those of calls before came to nobody
    memory = Memory(site.stack)
    async with site.stack.phone(codec="g722") as phone:
        await phone.dial("701")
        await until(lambda: memory.record().get("state") == "talking", "he is answered")
        await phone.speak(clip("Where can I park, please, and when are you open?").pcm, RATE)
        await asyncio.sleep(4)
        await phone.hangup()
    await until(lambda: ready(memory), f"the recording is there: {site.stack.bridge.log()}")
    call = f"/v1/calls/{memory.call_id()}"
    status, about = await site.ask("GET", f"{call}/recording.json")
    told = json.loads(about)
    assert (status, told["state"], told["rate"], told["encrypted"]) == (200, "ended", 16000, True)
    status, whole = await site.ask("GET", f"{call}/recording")
    with wave.open(io.BytesIO(whole)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    said, echoed = np.sqrt((sound.astype(float) ** 2).mean(axis=0))
    assert said > 200
    assert echoed > 100
    one = found(memory)
    assert one is not None
    assert sound[8000:8400].tobytes() not in one.sound_file.read_bytes()
    await until(lambda: any(c["call"]["id"] == memory.call_id() for c in taken), "it is told of")
    caller = memory.record()["caller"]
    assert caller
    status, erased = await site.ask("DELETE", f"/v1/callers/{caller}")
    assert json.loads(erased)["recordings"] >= 1
    assert (await site.ask("GET", f"{call}/recording"))[0] == 404
    assert list(site.folder.glob("*/????-??-??/*")) == []
    await runner.cleanup()
