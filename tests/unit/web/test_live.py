"""The live feed: one reader for all viewers, everything first, then what has changed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bridge.media import control
from bridge.media.slots import OPEN, SlotMap
from bridge.web.levels import Levels
from bridge.web.token import PROTOCOL, token_in


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
