"""What becomes of a recording once its call is over."""

import collections
import fcntl
import os
import subprocess
import sys
import threading
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


def told(one):
    return one.file.read_bytes(), one.sound_file.read_bytes()


def test_what_is_finished_stays_as_it_is(tmp_path, ffmpeg):
    one = finished(recorded(tmp_path))
    before = told(one)
    finished(one)
    assert told(one) == before


def test_while_another_finishes_it_nothing_is_touched(tmp_path, ffmpeg):
    one = recorded(tmp_path)
    before = told(one)
    with one.sound_file.open("r+b") as sound:
        fcntl.flock(sound, fcntl.LOCK_EX)
        finished(one)
        assert told(one) == before
    assert finished(one).state == "ready", "he has died"


def test_who_comes_when_another_is_just_done_believes_the_notes_of_then(
    tmp_path, ffmpeg, monkeypatch
):
    one, lock, done = recorded(tmp_path), fcntl.flock, []

    def late(*what):  # between the first look and the lock
        monkeypatch.setattr(finish.fcntl, "flock", lock)
        finish.finish(Notes.read(one.file))
        done.append(told(Notes.read(one.file)))
        lock(*what)

    monkeypatch.setattr(finish.fcntl, "flock", late)
    monkeypatch.setattr(finish.os, "nice", lambda _: 0)
    monkeypatch.setattr(sys, "argv", ["finish", str(one.file)])
    assert finish.main() == 0
    assert [told(Notes.read(one.file))] == done


def test_whoever_dies_before_the_notes_are_written_leaves_all_that_the_next_needs(
    tmp_path, ffmpeg, monkeypatch
):
    one = recorded(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Notes, "save", lambda _: sys.exit("killed"))
        with pytest.raises(SystemExit):
            finish.finish(Notes.read(one.file))
    after = finished(one)
    assert (after.state, after.fault) == ("ready", "")
    assert after.sound_file.name.endswith(".opus")
    assert len([*one.file.parent.iterdir()]) == 2


@pytest.mark.parametrize("sealed", [False, True])
def test_what_is_erased_while_ffmpeg_is_at_it_stays_erased(tmp_path, ffmpeg, monkeypatch, sealed):
    key = tmp_path / "key"
    key.write_text("q" * 43 + "=")
    one, encoded = recorded(tmp_path, key if sealed else None), finish._encoded

    def erased(*what):
        sound = encoded(*what)
        notes.erase(Notes.read(one.file))
        return sound

    monkeypatch.setattr(finish, "_encoded", erased)
    finish.finish(Notes.read(one.file))
    assert list(one.file.parent.iterdir()) == []


def test_an_eraser_waits_until_what_was_made_counts_and_takes_it_too(tmp_path, ffmpeg, monkeypatch):
    one, save, at_it = recorded(tmp_path), Notes.save, []

    def saved(self):
        eraser = threading.Thread(target=lambda: notes.erase(self))
        eraser.start()
        eraser.join(0.3)  # it has to wait; if it doesn't, there will be files
        save(self)
        at_it.append(eraser)

    monkeypatch.setattr(Notes, "save", saved)
    finish.finish(Notes.read(one.file))
    at_it[0].join()
    assert list(one.file.parent.iterdir()) == []


def test_what_a_finisher_that_was_killed_has_half_made_is_erased_with_the_rest(tmp_path):
    one = recorded(tmp_path)
    one.file.with_name(f".{one.file.stem}.opus.new").write_text("half")
    notes.erase(one)
    assert list(one.file.parent.iterdir()) == []


def test_half_made_sounds_of_long_ago_are_swept(tmp_path):
    one = recorded(tmp_path, state="ready")
    old, new = (one.file.with_name(f".{name}.opus.new") for name in ("old", "new"))
    for file in (old, new):
        file.write_text("half")
    os.utime(old, (1e9, 1e9))
    look(Recorder(tmp_path, lambda: [one.file.parents[1]]))
    assert (old.exists(), new.exists()) == (False, True)


def test_what_was_erased_before_anybody_came_to_it_is_no_error(tmp_path):
    one = recorded(tmp_path)
    notes.erase(one)
    command = [sys.executable, "-m", "bridge.recording.finish", str(one.file)]
    subprocess.run(command, check=True, timeout=60)


def test_notes_are_renewed_unless_they_were_erased(tmp_path):
    one = recorded(tmp_path)
    one.duration_ms = 7
    assert one.renew()
    assert Notes.read(one.file).duration_ms == 7
    notes.erase(one)
    assert not one.renew()
    assert list(one.file.parent.iterdir()) == []


def test_a_sound_that_is_gone(tmp_path):
    one = recorded(tmp_path, state="recording", format="wav")
    one.sound_file.unlink()
    assert "it is WAV" in finished(one).fault


# ---- the process around it


def until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def look(recorder):
    recorder._look_at = 0.0
    recorder._finish()
    until(lambda: not recorder._looking.is_alive())
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


def test_however_long_looking_takes_calls_are_recorded_meanwhile(tmp_path):
    """A round is half a second; the rings hold 2.4."""
    rounds, over = threading.Event(), threading.Event()

    class Taker:
        def __init__(self):
            self.ended, self.count = collections.deque(), 0

        def round(self):
            self.count += 1
            if self.count == 3:
                rounds.set()

        def leave(self):
            pass

    def folders():
        over.set() if rounds.wait(60) else None
        return []

    recorder = Recorder(tmp_path, folders)
    recorder._taker, recorder._same = Taker(), lambda: True
    running = threading.Thread(target=recorder.run)
    running.start()
    assert over.wait(60), "three rounds while one look goes on"
    recorder.stop()
    running.join()


def test_a_fault_while_looking_ends_nothing(tmp_path, caplog):
    recorder = Recorder(tmp_path, lambda: 1 / 0)
    look(recorder)
    assert "a fault of ours while looking" in caplog.text
    look(recorder)


def test_what_ends_during_a_look_is_finished_once(tmp_path):
    ended, other = recorded(tmp_path), tmp_path / "other.json"
    recorder = Recorder(tmp_path, list)
    recorder._looking, recorder._found = threading.Thread(), [ended.file, other]
    recorder._left = [ended.file]
    recorder._finish()
    until(lambda: recorder._finishing.poll() is not None)
    assert (recorder._looking, recorder._left) == (None, [other])


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
