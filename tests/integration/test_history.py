"""Calls that are over, on a real Redis: searched, exported, told to a webhook, erased."""

import asyncio
import contextlib
import hashlib
import hmac
import io
import json
import wave

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridge.config import AgentsSettings, Config
from bridge.recording import notes
from bridge.recording.notes import Notes
from bridge.recording.sealed import Key, SealedFile
from bridge.recording.wav import WavFile
from bridge.sessions import webhook
from bridge.sessions.model import RECORDS, Line
from bridge.sessions.reader import Reader
from bridge.sessions.redis import RedisStore
from bridge.sessions.settings import HistorySettings, RedisSettings
from bridge.sessions.webhook import Webhook
from bridge.web.parts import Parts
from bridge.web.server import application
from tests.lab.redis import Redis

TOKEN = "a-token-of-the-tests"
AGENT = '[recording]\nenabled = true\nfolder = "records"\n'


@pytest.fixture(scope="module")
def server():
    with Redis() as server:
        yield server


class House:
    """A store that is written to, and the API that reads it."""

    def __init__(self, store, reader, folder):
        self.store, self.reader, self.folder = store, reader, folder

    async def call(self, call_id, started, said=(), **more):
        self.store.begin(call_id)
        self.store.put(call_id, **{"agent": "demo", "caller": "555", "started": started, **more})
        for role, text in said:
            self.store.say(call_id, Line(started + 1, role, text, begin=started, end=started + 1))
        if "state" not in more:
            ended = {"state": "ended", "ended": started + 60, "result": "done"}
            self.store.put(call_id, **{**ended, **more})
        assert await self.store.flush(5)

    def record(self, call_id, sound, key=None, caller="555"):
        """A recording as the recorder leaves it; gives what stands in the call's record."""
        path = notes.base(self.folder / "agents" / "records", call_id, "demo", 1e9)
        path.parent.mkdir(parents=True, exist_ok=True)
        one = Notes(
            *(call_id, str(path), "demo", caller),
            started=1e9,
            state="ready",
            rate=8000,
            duration_ms=len(sound) // 8,
            pauses=[(100, 200)],
            sound=path.name + (".wav.sealed" if key else ".wav"),
            key_file=str(key or ""),
        )
        one.save()
        kept = (
            SealedFile(one.sound_file, 8000, Key.read(key))
            if key
            else WavFile(one.sound_file, 8000)
        )
        kept.write(0, sound.tobytes())
        kept.close(len(sound))
        return json.dumps({"parts": [str(path)], "on": True, "started": 1e9})


@contextlib.asynccontextmanager
async def running(work):
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def house(server, tmp_path):
    settings = RedisSettings(url=server.url)
    store, reader = RedisStore(settings, tell=True), Reader(settings)
    await reader.server.flushdb()
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "demo.toml").write_text(AGENT)
    async with running(store.run()):
        yield House(store, reader, tmp_path)
    await store.close()
    await reader.close()


@pytest.fixture
async def api(house):
    config = Config(agents=AgentsSettings(folder=str(house.folder / "agents")))
    login = {"Authorization": f"Bearer {TOKEN}"}
    server = TestServer(application(Parts(config, house.reader), TOKEN))
    async with TestClient(server, headers=login) as client:
        yield client


async def got(answer, status=200):
    answer = await answer
    assert answer.status == status, await answer.text()
    return await answer.json()


async def test_calls_are_found_by_who_when_how_and_what_was_said(house, api):
    await house.call("a", 1000.0, [("caller", "Where can I park?")])
    await house.call("b", 2000.0, [("agent", "Behind the shop.")], caller="+49 30 777")
    await house.call("c", 3000.0, result="failed", agent="sales")
    await house.call("d", 4000.0, state="talking")
    for query, ids in {
        "": "cba",
        "caller=777": "b",
        "agent=sales": "c",
        "result=done": "ba",
        "text=PARK": "a",
        "text=shop&caller=555": "",
        "since=2000": "cb",
        "until=2000": "a",
        "since=1500&until=2500": "b",
    }.items():
        found = await got(api.get(f"/v1/history?{query}"))
        assert "".join(c["id"] for c in found["calls"]) == ids, query
    (call,) = (await got(api.get("/v1/history?caller=777")))["calls"]
    assert (call["duration_s"], call["recording"], call["result"]) == (60.0, False, "done")


async def test_a_long_history_comes_page_by_page(house, api, monkeypatch):
    for n in range(7):
        await house.call(f"c{n}", 1000.0 + n, caller="555" if n % 2 else "556")
    seen, cursor = [], ""
    for _ in range(9):
        page = await got(api.get(f"/v1/history?caller=556&limit=3{cursor}"))
        seen += [call["id"] for call in page["calls"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == ["c6", "c4", "c2", "c0"]


async def test_a_transcript_as_json_and_as_webvtt(house, api):
    await house.call("a", 1000.0, [("agent", "Hello."), ("caller", "Hi.")], answered=999.5)
    told = await got(api.get("/v1/calls/a/transcript.json"))
    assert told["zero"] == 999.5
    assert told["lines"][0]["text"] == "Hello."
    assert (told["lines"][0]["begin_ms"], told["lines"][0]["end_ms"]) == (500, 1500)
    answer = await api.get("/v1/calls/a/transcript.vtt")
    assert answer.content_type == "text/vtt"
    assert "00:00:00.500 --> 00:00:01.500\n<v Caller>Hi." in await answer.text()
    assert (await got(api.get("/v1/calls/none/transcript.json"), 404))["error"] == "not-found"


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_recording_can_be_heard_and_seen(house, api, tmp_path, sealed):
    sound = np.zeros((16_000, 2), np.int16)
    sound[8000:, 0], sound[:8000, 1] = 12_800, -25_600
    key = tmp_path / "key"
    key.write_text("q" * 43 + "=")
    await house.call("a", 1000.0, recording=house.record("a", sound, key if sealed else None))
    about = await got(api.get("/v1/calls/a/recording.json"))
    assert (about["state"], about["format"], about["duration_ms"]) == ("ended", "wav", 2000)
    assert (about["pauses"], about["encrypted"]) == ([[100, 200]], sealed)
    answer = await api.get("/v1/calls/a/recording")
    assert answer.content_type == "audio/wav"
    whole = await answer.read()
    with wave.open(io.BytesIO(whole)) as file:
        assert file.readframes(16_000) == sound.tobytes()
    part = await api.get("/v1/calls/a/recording", headers={"Range": "bytes=44-1043"})
    assert part.status == 206
    assert await part.read() == whole[44:1044]
    beyond = await api.get("/v1/calls/a/recording", headers={"Range": "bytes=99999999-"})
    assert beyond.status == 416
    loud = await got(api.get("/v1/calls/a/peaks?per_s=10"))
    assert loud["caller"] == [0] * 10 + [100] * 10
    assert loud["agent"] == [200] * 10 + [0] * 10
    odd = await got(api.get("/v1/calls/a/peaks?per_s=171"))
    assert (odd["per_s"], len(odd["caller"])) == (160, 320), "each is as long as it says"
    assert "no recording 1" in (await got(api.get("/v1/calls/a/recording?part=1"), 404))["reason"]


async def test_a_recording_that_goes_on_is_as_long_as_its_file(house, api):
    told = house.record("a", np.ones((8000, 2), np.int16))
    await house.call("a", 1000.0, state="talking", recording=told)
    one = Notes.read(next(house.folder.glob("agents/records/*/*.json")))
    one.state, one.duration_ms = "recording", 0
    one.save()
    about = await got(api.get("/v1/calls/a/recording.json"))
    assert (about["state"], about["duration_ms"]) == ("recording", 1000)
    paused = json.dumps({**json.loads(told), "on": False})
    await house.call("b", 1001.0, state="talking", recording=paused)
    assert (await got(api.get("/v1/calls/b/recording.json")))["state"] == "paused"


async def test_a_recording_on_another_host_or_deleted_is_said_so(house, api):
    told = json.dumps({"parts": ["/nowhere/x"], "on": True, "started": 1.0})
    await house.call("a", 1000.0, recording=told)
    reason = (await got(api.get("/v1/calls/a/recording"), 404))["reason"]
    assert "lies on the host that recorded it" in reason
    await house.call("b", 1000.0)
    assert "not recorded" in (await got(api.get("/v1/calls/b/recording"), 404))["reason"]


async def test_all_of_one_caller_is_erased_and_nothing_of_others(house, api):
    sound = np.ones((80, 2), np.int16)
    await house.call("a", 1000.0, [("caller", "secret")], recording=house.record("a", sound))
    await house.call("b", 1001.0, caller="5551", recording=house.record("b", sound, caller="5551"))
    await house.call("c", 1002.0, state="talking", recording=house.record("c", sound))
    house.record("old", sound)  # Redis has forgotten this call
    elsewhere = json.dumps({"parts": ["/nowhere/x"], "on": True, "started": 1.0})
    await house.call("d", 1003.0, recording=elsewhere)
    want = {"calls": 2, "recordings": 2, "live": 1, "not_here": 1}
    assert await got(api.delete("/v1/callers/555")) == want
    keys = " ".join(await house.reader.server.keys("*{a}*"))
    assert keys == ""
    left = {one.call_id for one in notes.all_in(house.folder / "agents" / "records")}
    assert left == {"b", "c"}
    assert len(list(house.folder.glob("agents/records/*/*"))) == 4
    assert [c["id"] for c in (await got(api.get("/v1/history")))["calls"]] == ["b"]
    assert (await got(api.delete("/v1/callers/555")))["calls"] == 0


# ---- the webhook


class Service:
    """The operator's; takes records as `statuses` say, then always."""

    def __init__(self, *statuses):
        self.statuses, self.tries, self.taken = list(statuses), 0, []

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/calls", self._take)
        self._server = TestServer(app)
        await self._server.start_server()
        self.url = str(self._server.make_url("/calls"))
        return self

    async def __aexit__(self, *_):
        await self._server.close()

    async def _take(self, request):
        self.tries += 1
        status = self.statuses.pop(0) if self.statuses else 204
        if status == 204:
            self.taken.append((dict(request.headers), await request.read()))
        return web.Response(status=status)

    async def has(self, count):
        async with asyncio.timeout(20):
            while len(self.taken) < count:
                await asyncio.sleep(0.01)


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(webhook, "_FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(webhook, "_LOOK_S", 0.02)


async def test_a_record_is_sent_signed_until_it_is_taken(house, soon, caplog):
    async with Service(500, 503) as service:
        hook = Webhook(HistorySettings(service.url, "s3cret"), house.reader, "w1")
        async with running(hook.run()):
            await house.call("a", 1000.0, [("caller", "Hi.")])
            await service.has(1)
            while await house.reader.server.xlen(RECORDS):
                await asyncio.sleep(0.01)
    assert service.tries == 3
    headers, body = service.taken[0]
    at, _, made = headers["Ari-Bridge-Signature"].partition(",")
    at = at.removeprefix("t=")
    want = hmac.new(b"s3cret", f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert made == f"v1={want}"
    told = json.loads(body)
    assert (told["event"], told["call"]["id"], told["call"]["seconds"]) == ("call.ended", "a", 60.0)
    assert [line["text"] for line in told["transcript"]] == ["Hi."]
    assert "s3cret" not in caplog.text
    assert "answers 500" in caplog.text


async def test_what_a_dead_worker_took_another_sends_once(house, soon):
    await house.call("a", 1000.0)
    await house.call("b", 1001.0)
    dead = Webhook(HistorySettings("http://127.0.0.1:9"), house.reader, "dead")
    await dead._make_group()
    assert len(await dead._fresh()) == 2, "and it dies"
    async with Service() as service, contextlib.AsyncExitStack() as stack:
        for worker in ("w1", "w2"):
            hook = Webhook(HistorySettings(service.url), house.reader, worker)
            await stack.enter_async_context(running(hook.run()))
        await house.call("c", 1002.0)
        await service.has(3)
        while await house.reader.server.xlen(RECORDS):
            await asyncio.sleep(0.01)
        ids = [json.loads(body)["call"]["id"] for _, body in service.taken]
    assert sorted(ids) == ["a", "b", "c"]
    assert "Ari-Bridge-Signature" not in service.taken[0][0]


async def test_an_erased_call_is_told_to_nobody(house, api, soon):
    await house.call("a", 1000.0)
    await got(api.delete("/v1/callers/555"))
    await house.call("b", 1001.0, caller="556")
    async with Service() as service:
        hook = Webhook(HistorySettings(service.url), house.reader, "w1")
        async with running(hook.run()):
            await service.has(1)
    assert [json.loads(body)["call"]["id"] for _, body in service.taken] == ["b"]


async def test_a_record_that_cannot_be_told_holds_up_no_other(house, soon, monkeypatch, caplog):
    """And is told once the fault is mended."""
    body, broken = webhook.body, {"a"}

    def made(record, lines, delivery):
        if record.call_id in broken:
            raise ValueError("not what we thought")
        return body(record, lines, delivery)

    monkeypatch.setattr(webhook, "body", made)
    await house.call("a", 1000.0)
    await house.call("b", 1001.0)
    async with Service() as service:
        hook = Webhook(HistorySettings(service.url), house.reader, "w1")
        async with running(hook.run()):
            await service.has(1)
            assert "call a: its record can't be sent" in caplog.text
            broken.clear()
            await service.has(2)
    assert [json.loads(text)["call"]["id"] for _, text in service.taken] == ["b", "a"]


async def test_whatever_fails_the_webhook_goes_on(house, soon, monkeypatch, caplog):
    hook = Webhook(HistorySettings("http://127.0.0.1:9"), house.reader, "w1")
    fresh, faults = hook._fresh, ["a fault"]

    async def failing():
        if faults:
            raise KeyError(faults.pop())
        return await fresh()

    monkeypatch.setattr(hook, "_fresh", failing)
    async with Service() as service:
        hook._settings = HistorySettings(service.url)
        async with running(hook.run()):
            await house.call("a", 1000.0)
            await service.has(1)
    assert "a fault of ours while sending call records" in caplog.text


async def test_a_redis_that_comes_back_empty_is_no_end(house, soon):
    async with Service() as service:
        hook = Webhook(HistorySettings(service.url), house.reader, "w1")
        async with running(hook.run()):
            await house.call("a", 1000.0)
            await service.has(1)
            await house.reader.server.flushdb()
            await house.call("b", 1001.0)
            await service.has(2)
