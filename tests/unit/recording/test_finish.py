"""What becomes of a recording once its call is over."""

import os
import subprocess
import sys
import time
import wave

import numpy as np
import pytest

from bridge.agent import recording_folders
from bridge.recording import finish, notes, process
from bridge.recording.notes import Notes
from bridge.recording.process import Recorder
from bridge.recording.sealed import Key, SealedFile, pieces
from bridge.recording.wav import WavFile

SOUND = np.random.default_rng(1).integers(-9000, 9000, (8000, 2)).astype(np.int16)

# Stands in for ffmpeg: says what it was asked for, of how much sound, and which files hold that.
FFMPEG = """#!{python}
import io, os, pathlib, sys, wave
words = sys.argv[1:]
assert words[words.index("-i") + 1] == "pipe:0" and words[-1] == "pipe:1"
given = wave.open(io.BytesIO(sys.stdin.buffer.read()))
sound = given.readframes(given.getnframes())
if os.environ.get("BROKEN"):
    sys.exit("no such codec")
files = [file for file in pathlib.Path({watched!r}).rglob("*") if file.is_file()]
clear = [file.name for file in files if sound[4000:8000] in file.read_bytes()]
print("made of", given.getnframes(), *words, "clear:", *clear)
"""


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "ffmpeg").write_text(FFMPEG.format(python=sys.executable, watched=str(tmp_path)))
    (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("TMPDIR", str(folder))


def recorded(folder, key=None, **about):
    """A recording whose call is over."""
    path = notes.base(folder / "records", "c", "demo", 1e9)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = ".wav.sealed" if key else ".wav"
    about = {"state": "ended", "format": "opus", **about}
    one = Notes(
        "c", str(path), rate=8000, sound=path.name + suffix, key_file=str(key or ""), **about
    )
    file = SealedFile(one.sound_file, 8000, Key.read(key)) if key else WavFile(one.sound_file, 8000)
    file.write(0, SOUND.tobytes())
    file.close(len(SOUND))
    one.save()
    return one


def finished(one):
    command = [sys.executable, "-m", "bridge.recording.finish", str(one.file)]
    subprocess.run(command, check=True, timeout=60)
    return Notes.read(one.file)


@pytest.mark.parametrize(("kind", "words"), [("opus", "libopus"), ("mp3", "64k")])
def test_ffmpeg_makes_what_was_asked_for(tmp_path, ffmpeg, kind, words):
    one = finished(recorded(tmp_path, format=kind))
    assert (one.state, one.fault) == ("ready", "")
    made = one.sound_file.read_text()
    assert made.startswith("made of 8000 ")
    assert words in made
    assert made.endswith("clear: " + f"{one.file.stem}.wav\n"), "that is what it is made of"
    names = {file.suffix for file in one.file.parent.iterdir()}
    assert names == {".json", f".{kind}"}, "the WAV is gone"
    assert one.sound_file.stat().st_mode & 0o777 == 0o600
    assert one.peaks["per_s"] == 10


def test_with_a_key_no_file_holds_the_sound_in_clear(tmp_path, ffmpeg):
    key = tmp_path / "key"
    key.write_text("q" * 43 + "=")
    one = finished(recorded(tmp_path, key))
    assert one.sound.endswith(".opus.sealed")
    assert b"made of" not in one.sound_file.read_bytes()
    whole = b"".join(piece for _, piece in pieces(one.sound_file, Key.read(key)))
    assert whole.startswith(b"made of 8000 ")
    assert whole.endswith(b" clear:\n"), "while it is made"


@pytest.mark.parametrize("broken", [True, False])
def test_without_ffmpeg_the_wav_stays(tmp_path, ffmpeg, monkeypatch, broken):
    if broken:
        monkeypatch.setenv("BROKEN", "1")
    else:
        (tmp_path / "programs" / "ffmpeg").unlink()
        monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    one = finished(recorded(tmp_path))
    assert one.state == "ready"
    assert one.fault == "no opus, it is WAV: ffmpeg " + (
        "failed: no such codec" if broken else "is not installed"
    )
    with wave.open(str(one.sound_file)) as file:
        assert file.readframes(8000) == SOUND.tobytes()


def test_what_its_writer_did_not_end_has_its_length_all_the_same(tmp_path):
    one = recorded(tmp_path, state="recording", format="wav")
    finish.finish(one)
    assert (one.state, one.duration_ms) == ("ready", 1000)


# ---- the process around it


def until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def look(recorder):
    recorder._look_at = 0.0
    recorder._finish()
    until(lambda: recorder._finishing is None or recorder._finishing.poll() is not None)


def test_recordings_are_deleted_when_their_time_is_over(tmp_path, caplog):
    old = recorded(tmp_path, state="ready", delete_at=time.time() - 1)
    new = recorded(tmp_path / "b", state="ready", delete_at=time.time() + 60)
    kept = recorded(tmp_path / "c", state="ready")
    folders = [one.file.parents[1] for one in (old, new, kept)]
    look(Recorder(tmp_path, lambda: folders))
    assert list(old.file.parent.iterdir()) == []
    assert new.sound_file.is_file()
    assert kept.sound_file.is_file()


def test_what_a_dead_host_left_is_finished(tmp_path):
    left = recorded(tmp_path, state="recording", format="wav")
    living = recorded(tmp_path / "b", state="recording", format="wav")
    ago = time.time() - process._ABANDONED_S - 5
    os.utime(left.sound_file, (ago, ago))
    recorder = Recorder(tmp_path, lambda: [one.file.parents[1] for one in (left, living)])
    look(recorder)
    assert Notes.read(left.file).state == "ready"
    assert Notes.read(living.file).state == "recording", "another host's recorder is at it"


def test_an_order_goes_when_it_is_done_and_no_other_with_it(tmp_path):
    first, second = Notes("c", "/a/first"), Notes("c", "/a/second")
    notes.order(tmp_path, first)
    notes.order(tmp_path, second)  # the call has come to another slot
    notes.done(tmp_path, first)
    assert notes.ordered(tmp_path, "c") == second
    notes.done(tmp_path, second)
    assert notes.ordered(tmp_path, "c") is None
    notes.done(tmp_path, second)


def test_orders_of_long_ago_are_swept(tmp_path):
    for name in ("old", "new"):
        notes.order(tmp_path, Notes(name, "/a/b"))
    old = notes._order(tmp_path, "old")
    os.utime(old, (1e9, 1e9))
    look(Recorder(tmp_path, list))
    assert notes.ordered(tmp_path, "old") is None
    assert notes.ordered(tmp_path, "new") is not None


def test_there_is_one_recorder_and_everybody_can_tell(tmp_path):
    assert not notes.recorder_runs(tmp_path)
    lock = notes.take(tmp_path)
    assert notes.recorder_runs(tmp_path)
    os.close(lock)
    assert not notes.recorder_runs(tmp_path)


def test_where_agents_record_to(tmp_path, caplog):
    (tmp_path / "a.toml").write_text('[recording]\nenabled = true\nfolder = "x"\n')
    (tmp_path / "b.toml").write_text("")
    (tmp_path / "c.toml").write_text("[recording]\nfolder = 7\n")
    assert recording_folders(tmp_path) == {tmp_path / "x"}
    assert "c.toml" in caplog.text
