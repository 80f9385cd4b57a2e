"""`ari-bridge check`: each thing that a recording needs, broken in turn."""

import base64
import shutil
import sys
from dataclasses import replace

import pytest

from bridge.agent import Agent, RecordingSettings
from bridge.check import recordings
from bridge.media import control
from bridge.media.settings import MediaSettings
from bridge.recording import notes


@pytest.fixture
def media(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return MediaSettings(runtime_dir=str(folder))


@pytest.fixture
def agent(tmp_path):
    """One that records, sealed, by what is there."""
    (tmp_path / "key").write_bytes(base64.b64encode(bytes(32)))
    table = RecordingSettings(enabled=True, folder="calls/new", encrypt_key_file="key")
    return Agent("demo", file=str(tmp_path / "demo.toml"), recording=table)


def with_(agent, **changes):
    return replace(agent, recording=replace(agent.recording, **changes))


def only(agent, media):
    (found,) = recordings.findings([agent], media)
    return found


def test_all_is_well_and_nothing_is_left(agent, media, tmp_path):
    found = only(agent, media)
    assert (found.check, found.state) == ("recording demo", "ok"), found
    assert "h of calls" in found.said
    assert not (tmp_path / "calls").exists()


def test_who_does_not_record_needs_nothing(agent, media):
    assert recordings.findings([with_(agent, enabled=False)], media) == []


def test_a_folder_that_can_not_be_written(agent, media, tmp_path):
    (tmp_path / "calls").write_text("a file")  # also root can't make a folder below it
    found = only(agent, media)
    assert (found.state, "[recording]" in found.cure) == ("fail", True)


@pytest.mark.parametrize("text", [None, "", "no base64!", "QUJD"])
def test_a_key_that_is_none(agent, media, tmp_path, text):
    (tmp_path / "key").unlink()
    if text is not None:
        (tmp_path / "key").write_text(text)
    found = only(agent, media)
    assert (found.state, "openssl rand -base64 32" in found.cure) == ("fail", True)


def test_the_extra_is_missing(agent, media, monkeypatch):
    monkeypatch.setitem(sys.modules, "bridge.recording.sealed", None)  # as if it can't be imported
    found = only(agent, media)
    assert (found.state, found.cure) == ("fail", "pip install 'ari-bridge[encrypt]'")


def test_ffmpeg_is_missing(agent, media, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert only(with_(agent, format="wav"), media).state == "ok"
    found = only(with_(agent, format="opus"), media)
    assert (found.state, "ffmpeg" in found.said) == ("fail", True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert only(with_(agent, format="opus"), media).state == "ok"


def test_a_disk_that_is_nearly_full(agent, media, monkeypatch):
    monkeypatch.setattr(recordings, "_LEAST_MIB", 1e12)
    assert only(agent, media).state == "warn"


def test_a_bridge_that_runs_without_a_recorder(agent, media, tmp_path):
    with control.new_socket() as listener:
        listener.bind(str(control.socket_path(tmp_path / "run")))
        listener.listen()
        found = recordings.findings([agent], media)
        assert [(one.check, one.state) for one in found][1:] == [("recorder", "fail")]
        lock = notes.take(tmp_path / "run")
        assert len(recordings.findings([agent], media)) == 1
        notes.os.close(lock)
