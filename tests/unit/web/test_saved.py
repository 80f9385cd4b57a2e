"""A call's page as one file. That it opens and plays is seen in tests/browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest

from bridge.recording.notes import Notes
from bridge.recording.wav import WavFile
from bridge.sessions.model import Line, Record
from bridge.web import saved
from tests.unit.web.conftest import TOKEN

EVIL = "</script><script>alert(1)</script><!--<script>"


def recorded(folder, parts):
    """What stands in the call's record of a recording with those sounds; None: not here."""
    paths = []
    for number, data in enumerate(parts):
        one = Notes("c", str(folder / f"{number}"), sound=f"{number}.wav", rate=8000)
        one.state, one.started, one.duration_ms = "ready", 1000.0 + number, 500
        paths.append(one.path)
        if data is not None:
            one.save()
            file = WavFile(one.sound_file, 8000)
            file.write(0, data)
            file.close(0)
    return json.dumps({"parts": paths, "on": True, "started": 1000.0})


def add(sessions, folder, parts=(b"\1\2\3\4" * 4000,), **more):
    record = Record("c/1", state="ended", started=1000.0, caller=EVIL, **more)
    record.recording = recorded(folder, parts) if parts else ""
    sessions.add(record, [Line(1001.0, "caller", EVIL)])


async def page(api):
    answer = await api.get("/v1/calls/c%2F1/page.html")
    text = await answer.text()
    assert answer.status == 200, text
    return answer, text


def scripts(text):
    """(attributes, content) of each as a browser finds them: up to the first end."""
    return re.findall(r"<script([^>]*)>(.*?)</script", text, re.DOTALL | re.IGNORECASE)


async def test_it_holds_all_that_the_api_tells_of_a_call(api, sessions, tmp_path):
    add(sessions, tmp_path)
    _, text = await page(api)
    (_, data), (about, sound), _, _ = scripts(text)
    told = json.loads(data)
    assert set(told) == {"", "transcript.json", "recording.json?part=0", "peaks?part=0"}
    assert told[""]["caller"] == told["transcript.json"]["lines"][0]["text"] == EVIL
    assert 'id="sound-0" data-kind="audio/wav"' in about
    assert base64.b64decode(sound).endswith(b"\1\2\3\4" * 4000)
    assert TOKEN not in text


async def test_a_long_sound_is_whole(api, sessions, tmp_path, monkeypatch):
    monkeypatch.setattr(saved, "_PIECE", 3)
    data = bytes(range(256)) * 4
    add(sessions, tmp_path, parts=(data, data[::-1]))
    _, first, second, *_ = scripts((await page(api))[1])
    assert base64.b64decode(first[1])[44:] == data
    assert base64.b64decode(second[1])[44:] == data[::-1]


async def test_nothing_runs_in_it_but_what_we_wrote(api, sessions, tmp_path):
    add(sessions, tmp_path, parts=())
    answer, text = await page(api)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="call-c_1.html"'
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    found = scripts(text)
    assert [about for about, _ in found] == [
        ' type="application/json" id="saved"',
        ' type="importmap"',
        ' type="module"',
    ]
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    for content in (found[1][1], found[2][1], style):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


async def test_every_module_that_is_named_is_in_it(api, sessions, tmp_path):
    add(sessions, tmp_path, parts=())
    _, text = await page(api)
    modules = json.loads(scripts(text)[1][1])["imports"]
    for address in modules.values():
        kind, _, data = address.partition(",")
        assert kind == "data:text/javascript;base64"
        code = base64.b64decode(data).decode()
        assert "'./" not in code, "what can't be found from within it"
        named = re.findall(r"^(?:import|export).* from '(.*)'", code, re.MULTILINE)
        assert set(named) <= set(modules)


async def test_a_part_that_is_elsewhere_is_left_out(api, sessions, tmp_path):
    add(sessions, tmp_path, parts=(None, b"\1\2\3\4" * 400))
    told = json.loads(scripts((await page(api))[1])[0][1])
    assert told[""]["recording_parts"] == 2
    assert [name for name in told if "part" in name] == ["recording.json?part=1", "peaks?part=1"]


@pytest.mark.parametrize(
    ("most", "state", "error"), [(100, "ended", "too-large"), (1 << 20, "talking", "goes-on")]
)
async def test_what_can_not_be_saved(api, sessions, tmp_path, monkeypatch, most, state, error):
    monkeypatch.setattr(saved, "MOST_BYTES", most)
    add(sessions, tmp_path)
    sessions.stored["c/1"].state = state
    answer = await api.get("/v1/calls/c%2F1/page.html")
    assert (answer.status, (await answer.json())["error"]) == (409, error)
