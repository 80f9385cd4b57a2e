"""The live feed: one reader for all viewers, everything first, then what has changed."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import numpy as np
import pytest

from bridge.config import Config
from bridge.media import control
from bridge.media.slots import OPEN, SlotMap
from bridge.web import live
from bridge.web.levels import Levels
from bridge.web.parts import Parts
from bridge.web.token import PROTOCOL, token_in
from tests.unit.web.conftest import TOKEN


@pytest.fixture
def slots(tmp_path):
    made = SlotMap.create(tmp_path / control.SLOTS, 4, 1000)
    c = made.columns
    c["state"][2], c["call_id"][2], c["t_rate"][2] = OPEN, b"a", 8
    return made


def test_how_loud_a_caller_is_comes_from_the_map(tmp_path, slots):
    levels = Levels(str(tmp_path))
    assert levels.now(["a"]) == {"a": (0, 0)}
    slots.columns["up"][2][:] = 32767
    assert levels.now(["a"]) == {"a": (100, 0)}
    assert levels.now(["a"]) == {}, "it hasn't changed"
    slots.columns["up"][2][:] = 33  # -60 dB
    assert levels.now(["a"]) == {"a": (0, 0)}
    assert levels.now(["another"]) == {}


def test_the_agent_is_as_loud_as_what_was_played_since(tmp_path, slots):
    levels = Levels(str(tmp_path))
    slots.play[8][2, 0, :3] = 32767
    levels.now(["a"])
    slots.columns["play_read"][2, 0] = 3
    slots.columns["n_played"][2] = 3
    assert levels.now(["a"]) == {"a": (0, 100)}
    assert levels.now(["a"]) == {"a": (0, 0)}, "nothing was played since"


def test_nothing_is_kept_of_a_call_that_is_over(tmp_path, slots):
    levels = Levels(str(tmp_path))
    slots.play[8][2, 0, :3] = 32767
    levels.now(["a"])
    levels.now([])
    assert levels.told == {}
    slots.columns["play_read"][2, 0] = 3
    slots.columns["n_played"][2] = 3
    assert levels.now(["a"]) == {"a": (0, 0)}, "what was played before it was looked at"


def test_a_host_without_media_has_no_levels(tmp_path):
    assert Levels(str(tmp_path)).now(["a"]) == {}


def test_the_map_is_only_looked_at(tmp_path, slots):
    seen = SlotMap.attach(tmp_path / control.SLOTS, write=False)
    with pytest.raises(ValueError, match="read-only"):
        seen.columns["state"][0] = OPEN
    assert np.array_equal(seen.columns["state"], slots.columns["state"])


@pytest.mark.parametrize(
    ("named", "token"),
    [
        ("sip, ari-bridge.token.YWJj", "abc"),
        ("ari-bridge.token.w6TDtg", "äö"),
        ("sip", ""),
        (f"{PROTOCOL}%%%", ""),
        (f"{PROTOCOL}w6Q", "ä"),
        (f"{PROTOCOL}ä", ""),
        (f"{PROTOCOL}\udcff", ""),
        ("", ""),
    ],
)
def test_a_websocket_names_the_token_as_a_protocol(named, token):
    assert token_in(named) == token


async def test_a_fault_is_told_and_the_feed_goes_on(tmp_path, sessions, monkeypatch, caplog):
    monkeypatch.setattr(live, "TICK_S", 0.0)
    media = dataclasses.replace(Config().media, runtime_dir=str(tmp_path))
    feed = live.Feed(Parts(dataclasses.replace(Config(), media=media), sessions))
    looks = iter([{"gone": ["a"]}, ValueError("secret"), ValueError("secret"), {"gone": ["b"]}])

    async def look():
        found = next(looks, {})
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(feed, "_look", look)
    viewer = asyncio.Queue()
    feed._viewers.add(viewer)
    reading = asyncio.create_task(feed._read())
    try:
        async with asyncio.timeout(10):
            told = [json.loads((await viewer.get())[6:]) for _ in range(3)]
    finally:
        reading.cancel()
    assert told[:2] == [
        {"gone": ["a"]},
        {"away": "a fault of the bridge: see the web process' log"},
    ]
    assert told[2]["all"], "who knows what was read before it failed"
    assert told[2]["away"] == ""
    assert len(caplog.records) == 1


async def test_a_feed_that_has_ended_begins_anew(api, monkeypatch):
    begun = []

    async def ends(feed):
        begun.append(feed)

    monkeypatch.setattr(live.Feed, "_read", ends)
    for times in (1, 2):
        answer = await api.get("/v1/live")  # and looks on
        assert (await answer.content.readline()).startswith(b"data: ")
        assert len(begun) == times


async def test_a_viewer_who_takes_nothing_is_let_go(api, monkeypatch):
    """Its connection lives, but nobody reads."""
    gone, told = asyncio.Event(), {"calls": {"a": {"text": "x" * 100_000}}}

    async def read(feed):
        try:
            while True:
                feed._tell(told)
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            assert feed._viewers == set()
            gone.set()
            raise

    monkeypatch.setattr(live.Feed, "_read", read)
    monkeypatch.setattr(live, "_STALLED_S", 0.05)
    _, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1)
    asked = f"GET /v1/live HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    writer.write(asked.encode())
    async with asyncio.timeout(60):
        await gone.wait()
    writer.close()


async def test_a_page_is_sent_with_what_keeps_foreign_scripts_out(api):
    answer = await api.get("/", headers={"Authorization": ""})
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    text = await answer.text()
    assert "<script>" not in text
    assert "style=" not in text


async def test_no_file_beside_the_pages_is_sent(api):
    for path in ("/static/../page.py", "/static/%2e%2e/page.py", "/static/none.js"):
        assert (await api.get(path)).status == 404


async def test_without_an_account_there_is_no_telephone(api):
    answer = await api.get("/v1/phone")
    assert answer.status == 404
    assert "[web.phone]" in json.loads(await answer.text())["reason"]
