"""From the slots' rings into files, on a simulated link: in step, whatever dies."""

import json
import tracemalloc

import numpy as np
import pytest

from bridge.audio import g711
from bridge.media import handle
from bridge.media.frames import Lane
from bridge.media.plane import Plane
from bridge.media.player import Player
from bridge.media.slots import FREE, SPEECH, SlotMap
from bridge.recording import finish
from bridge.recording import notes as recordings
from bridge.recording.finish import peaks, samples
from bridge.recording.notes import Notes
from bridge.recording.sealed import Key, SealedFile
from bridge.recording.taker import Taker
from bridge.recording.wav import WavFile
from tests.unit.media.simulated import IP, Simulation, packet


class Studio(Simulation):
    """A plane whose first call is recorded; rounds of the taker come every 500 ms."""

    def __init__(self, folder, calls=1, **about):
        super().__init__(folder, calls)
        self.folder, self.full = folder, False
        self.taker = Taker(folder, self.slots, self.put)
        self.code = np.random.default_rng(3).integers(0, 256, (2, 4000, 160)).astype(np.uint8)
        self.slots.play[8][0, 0] = g711.decode_ulaw(self.code[1, :50])
        self.about = about
        self.c["down_ms"][:] = 0.0  # both sides' frames begin together

    def put(self, size, job):
        if not (self.full and size):
            job()
            return True
        return False

    def order(self, call=0):
        path = recordings.base(self.folder / "out", f"c{call}", "demo", 1e9)
        recordings.order(self.folder, Notes(f"c{call}", str(path), **self.about))
        self.mark(True, call)

    def mark(self, on, call=0):
        count = int(self.c["record_count"][call])
        self.c["record_marks"][call, count % 16] = self.c["t_head"][call] // 160, on
        self.c["record_count"][call], self.c["record"][call] = count + 1, True

    def slot(self):
        """As its worker has it."""
        generation = int(self.c["generation"][0])
        player = Player(self.slots, 0, 0, 8000)
        return handle.Slot("c0", generation, self.slots, None, Lane(0, 8, 8000), player, None)

    def go(self, until, rounds=True, plane=None, stands=False):
        """The caller says frame k of his code at k * 20 ms; the agent speaks without end. What he
        says while media `stands` waits."""
        while self.now < until:
            self.now += 20
            self.c["play_write"][0, 0] = self.c["play_read"][0, 0] + 10
            k = int(self.now) // 20 - 1
            data = packet(k, k * 160, self.code[0, k].tobytes())
            self.link.inbox.append((data, 1))
            if not stands:
                (plane or self.plane).tick(self.now)
            if rounds and self.now % 500 == 0:
                self.taker.round()
        return self

    def end(self, call=0):
        self.plane.close(call)
        self.taker.round()
        return self.notes(call)

    def notes(self, call=0):
        (file,) = (self.folder / "out").glob(f"*/*-c{call}-*.json")
        return Notes.read(file)

    def said(self, first, last):
        return g711.decode_ulaw(self.code[0, first:last]).reshape(-1)


def sides(notes):
    return samples(notes).T


def test_both_sides_are_there_to_the_sample(tmp_path):
    studio = Studio(tmp_path)
    studio.go(200)
    studio.order()
    begin = int(studio.c["t_head"][0]) // 160
    studio.go(3000)
    notes = studio.end()
    left, right = sides(notes)
    assert (notes.state, notes.sound.rpartition(".")[2]) == ("ready", "wav")
    assert notes.duration_ms == 3000 - begin * 20
    assert (left == studio.said(begin, 150)).all()
    out = [np.frombuffer(data[12:], np.uint8) for _, data in studio.link.sent][1 + begin : 151]
    assert (g711.encode_ulaw(right) == np.concatenate(out)).all()
    assert not studio.c["record"].any(), "the slot may be used again"
    for made in (notes.file.parents[1], notes.file.parent, notes.file, notes.sound_file):
        assert made.stat().st_mode & 0o077 == 0, "the operator's alone"
    assert recordings.ordered(tmp_path, "c0") is None


def test_a_pause_is_silence_of_its_length(tmp_path):
    studio = Studio(tmp_path)
    studio.order()
    studio.go(900).mark(False)
    studio.go(1700).mark(True)
    studio.go(2500)
    notes = studio.end()
    assert notes.pauses == [(900, 1700)]
    left, right = sides(notes)
    for side in (left, right):
        assert not side[900 * 8 : 1700 * 8].any()
        assert side[880 * 8 : 900 * 8].any()
        assert side[1700 * 8 : 1720 * 8].any()
    assert (left[1700 * 8 :] == studio.said(85, 125)).all()


@pytest.mark.parametrize("stood_ms", [0, 600])
def test_what_media_had_no_time_for_until_the_pause_was_over_was_said_in_it(
    tmp_path, monkeypatch, stood_ms
):
    studio = Studio(tmp_path)
    monkeypatch.setattr(handle, "now_ms", lambda: studio.now)
    studio.order()
    slot = studio.go(900).slot()
    slot.record(False)
    studio.go(1700).go(1700 + stood_ms, stands=True)
    slot.record(True)
    studio.go(3000)
    notes = studio.end()
    assert notes.pauses == [(900, 1700 + stood_ms)]
    for side in sides(notes):
        assert not side[900 * 8 : (1700 + stood_ms) * 8].any()
        assert side[(1700 + stood_ms) * 8 :].any()


def test_what_media_had_no_time_for_until_the_pause_began_is_left_out_too(tmp_path, monkeypatch):
    studio = Studio(tmp_path)
    monkeypatch.setattr(handle, "now_ms", lambda: studio.now)
    studio.order()
    slot = studio.go(900).go(1500, stands=True).slot()
    slot.record(False)
    slot.record(True)
    slot.record(False)  # not before what was just told
    studio.go(2000)
    slot.record(True)
    assert studio.go(3000).end().pauses == [(900, 2000)]


def test_what_is_erased_while_it_is_written_does_not_come_back(tmp_path, caplog):
    caplog.set_level("INFO")
    studio = Studio(tmp_path, format="opus")
    studio.order()
    studio.go(1000)
    recordings.erase(studio.notes())
    studio.mark(False)  # which is noted
    studio.go(2000)
    studio.plane.close(0)
    studio.taker.round()
    assert [*tmp_path.glob("out/*/*")] == []
    assert not studio.taker.ended, "there is nothing to be finished"
    assert recordings.ordered(tmp_path, "c0") is None
    assert "was erased while it was written" in caplog.text


def test_nothing_of_a_pause_ever_reaches_a_file(tmp_path):
    studio = Studio(tmp_path)
    studio.order()
    studio.go(500).mark(False)
    studio.go(3000)
    secret = studio.said(30, 31).tobytes()
    assert all(secret not in file.read_bytes() for file in tmp_path.glob("out/*/*"))


@pytest.mark.parametrize(("away_ms", "lost_ms"), [(1500, 0), (4000, 2220)])
def test_a_successor_goes_on_in_the_same_file(tmp_path, away_ms, lost_ms):
    studio = Studio(tmp_path)
    studio.order()
    studio.go(1000)
    studio.taker = None  # killed
    studio.go(1000 + away_ms, rounds=False)
    studio.taker = Taker(tmp_path, SlotMap.attach(tmp_path / "slots"), studio.put)
    studio.go(8000)
    notes = studio.end()
    assert notes.lost == ([(1000, 1000 + lost_ms)] if lost_ms else [])
    left, right = sides(notes)
    said = studio.said(0, 400)
    assert len(left) == len(said)
    assert not left[8000 : 8000 + lost_ms * 8].any()
    assert (left[8000 + lost_ms * 8 :] == said[8000 + lost_ms * 8 :]).all()
    assert (left[:8000] == said[:8000]).all()
    assert right[8000 + lost_ms * 8 :].any()


def test_a_successor_knows_of_the_pause(tmp_path):
    studio = Studio(tmp_path)
    studio.order()
    studio.go(700).mark(False)
    studio.go(1500)
    studio.taker = Taker(tmp_path, SlotMap.attach(tmp_path / "slots"), studio.put)
    studio.go(2000).mark(True)
    studio.go(2500)
    notes = studio.end()
    assert notes.pauses == [(700, 2000)]
    assert not sides(notes)[0][700 * 8 : 2000 * 8].any()


def test_a_successor_of_one_that_died_between_its_notes_and_its_sound(tmp_path):
    studio = Studio(tmp_path)
    studio.order()
    studio.go(700).mark(False)
    studio.go(1700).mark(True)
    put, studio.taker._put = studio.put, lambda size, job: size or put(0, job)  # notes alone
    studio.go(2000)
    assert studio.notes().pauses == [(700, 1700)]
    studio.taker = Taker(tmp_path, SlotMap.attach(tmp_path / "slots"), put)
    studio.go(2500)
    notes = studio.end()
    assert notes.pauses == [(700, 1700)]
    left = sides(notes)[0]
    assert not left[700 * 8 : 1700 * 8].any()
    assert (left[1700 * 8 :] == studio.said(85, 125)).all()


def test_a_dead_media_process_is_a_gap_in_step(tmp_path):
    studio = Studio(tmp_path)
    studio.order()
    studio.go(1000)
    studio.now = 1400.0
    heir = Plane(SlotMap.attach(tmp_path / "slots"), studio.link, studio.now)
    studio.go(3000, plane=heir)
    notes = studio.end()
    left, right = sides(notes)
    assert abs(notes.duration_ms - 3000) <= 40
    # What the caller says and hears at 2.8 s lies together, to the frame.
    out = [np.frombuffer(data[12:], np.uint8) for _, data in studio.link.sent]
    at = 2800 * 8
    heard = g711.encode_ulaw(right[at : at + 160]).tolist()
    assert heard in [frame.tolist() for frame in out[-13:-7]]
    said = left[at : at + 160].tolist()
    assert said in [studio.said(k, k + 1).tolist() for k in (139, 140, 141)]


def test_a_slot_that_is_used_again_at_once_ends_its_recording(tmp_path):
    studio = Studio(tmp_path)
    studio.order()
    studio.go(1000)
    studio.plane.close(0)
    assert studio.plane.open(studio.now, "c1", (IP, 1), "PCMU") == 0
    studio.order(0)
    path = recordings.base(tmp_path / "out", "c1", "demo", 1e9)
    recordings.order(tmp_path, Notes("c1", str(path)))
    studio.taker.round()
    assert studio.notes(0).state == "ready"
    assert studio.notes(1).state == "recording"


def test_a_slot_that_changes_hands_while_it_is_read_gives_nothing_of_the_next_call(tmp_path):
    studio = Studio(tmp_path)
    studio.order()
    studio.go(1000)
    studio.go(1400, rounds=False)

    class Rings(dict):
        def __getitem__(self, rate):
            studio.c["generation"][0] += 1
            return super().__getitem__(rate)

    studio.slots.up = Rings(studio.slots.up)
    studio.taker.round()
    studio.taker.round()
    assert len(sides(studio.notes())[0]) == 1000 * 8


def test_a_disk_that_is_too_slow_leaves_a_gap(tmp_path):
    studio = Studio(tmp_path)
    studio.order()
    studio.go(1000)
    studio.full = True
    studio.go(2000)
    studio.full = False
    studio.go(3000)
    notes = studio.end()
    assert [notes.lost[0][0], notes.lost[-1][1]] == [1000, 2000]
    left = sides(notes)[0]
    assert not left[8000:16000].any()
    assert (left[16000:] == studio.said(100, 150)).all()


@pytest.mark.parametrize(("late_ms", "frames"), [(9.0, 0), (21.0, 1), (-38.0, -2)])
def test_a_caller_whose_audio_time_lags_or_leads_is_put_in_step(tmp_path, late_ms, frames):
    studio = Studio(tmp_path)
    studio.go(500)
    studio.c["down_ms"][0] = -late_ms
    studio.order()
    studio.go(3000)
    left, _ = sides(studio.end())
    said = studio.said(25 - frames, 150)
    assert (left == said[: len(left)]).all()
    assert len(left) >= 123 * 160


def test_a_clock_that_goes_wrong_is_put_right_in_a_silence(tmp_path):
    studio = Studio(tmp_path)
    studio.order()
    studio.go(1500)
    studio.c["down_ms"][0] = -20.0
    studio.go(1980, rounds=False)
    studio.c["up_flags"][0] = SPEECH
    studio.c["up_flags"][0, 90] = 0
    studio.taker.round()
    left, _ = sides(studio.end())
    said = studio.said(0, 99)
    assert (left[: 91 * 160] == said[: 91 * 160]).all(), "it is said as it was"
    assert (left[91 * 160 :] == said[90 * 160 : -160]).all(), "the silent frame comes twice"


def test_a_folder_that_cannot_be_written_to_ends_nothing_else(tmp_path, caplog):
    studio = Studio(tmp_path, calls=2)
    (tmp_path / "file").write_text("")
    recordings.order(tmp_path, Notes("c1", str(tmp_path / "file" / "day" / "x")))
    studio.mark(True, 1)
    studio.order()
    studio.go(1500)
    assert caplog.text.count("call c1 can't be recorded") == 1
    assert len(samples(studio.end())) == 1500 * 8


def test_a_worker_that_leaves_no_order_is_said_once(tmp_path, caplog):
    studio = Studio(tmp_path)
    studio.mark(True)
    studio.go(2000)
    assert caplog.text.count("its order is missing") == 1
    studio.c["state"][0] = FREE
    studio.taker.round()
    assert not studio.c["record"][0]


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_peaks_are_as_fine_as_can_be_without_running_away(rate):
    for per_s in range(1, 201):
        fine = finish.fineness(rate, per_s)
        assert rate % fine == 0
        assert per_s / 2 < fine <= per_s


def test_peaks_say_how_loud_it_was():
    sound = np.zeros((16000, 2), np.int16)
    sound[8000:8800, 0], sound[0, 1] = -32768, 12_800
    loud = peaks(sound, 8000, 10)
    assert loud.shape == (2, 20)
    assert np.flatnonzero(loud[0]).tolist() == [10]
    assert (loud[0, 10], loud[1, 0]) == (255, 100)


@pytest.mark.parametrize("sealed", [True, False])
def test_peaks_of_a_file_are_those_of_its_sound(tmp_path, monkeypatch, sealed):
    monkeypatch.setattr(finish, "_BLOCK", 999)
    sound = np.random.default_rng(1).integers(-32768, 32767, (8190, 2)).astype(np.int16)
    (tmp_path / "key").write_text("q" * 43 + "=")
    key = tmp_path / "key" if sealed else None
    one = Notes("c", str(tmp_path / "a"), rate=8000, sound="a.wav", key_file=str(key or ""))
    file = SealedFile(one.sound_file, 8000, Key.read(key)) if key else WavFile(one.sound_file, 8000)
    file.write(0, sound[:3001].tobytes())
    file.write(5000, sound[5000:].tobytes())
    file.close(9001)
    for per_s in (7, 10, 200):
        assert np.array_equal(finish.peaks_of(one, per_s), peaks(samples(one), 8000, per_s))


def test_an_hour_is_not_held_in_memory_for_its_peaks(tmp_path):
    one = Notes("c", str(tmp_path / "a"), rate=8000, sound="a.wav")
    file = WavFile(one.sound_file, 8000)
    file.close(3600 * 8000)  # 115 MB of silence, none of it on the disk
    tracemalloc.start()
    try:
        assert finish.peaks_of(one, 20).shape == (2, 72_000)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_notes_of_a_newer_version_can_be_read(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps({"call_id": "1", "path": str(tmp_path / "a"), "mood": "calm"})
    )
    assert Notes.read(tmp_path / "a.json").call_id == "1"


@pytest.mark.parametrize(("line", "rate"), [(16, 16), (24, 16)])
def test_wide_band_calls_are_recorded_as_wide_as_they_are_heard(tmp_path, line, rate):
    studio = Studio(tmp_path)
    studio.c["t_rate"][0], studio.c["down_rate"][0] = line, rate
    studio.order()
    samples_up = np.arange(100 * line * 20)
    tone = (8000 * np.sin(2 * np.pi * 3 / line * samples_up)).astype(np.int16)  # 3 kHz
    studio.slots.up[line][0, :100] = tone.reshape(100, -1)
    studio.slots.down[rate][0, :100] = np.arange(100)[:, None]
    for head in (25, 50, 75, 100):
        studio.c["t_head"][0], studio.c["down_head"][0] = head * line * 20, head
        studio.taker.round()
    notes = studio.end()
    assert notes.rate == rate * 1000
    left, right = sides(notes)
    assert (right == np.repeat(np.arange(100), rate * 20)).all()
    spectrum = np.abs(np.fft.rfft(left[1600:].astype(float)))
    assert spectrum.argmax() * rate * 1000 / len(left[1600:]) == pytest.approx(3000, abs=2)
    assert np.abs(left[1600:]).max() == pytest.approx(8000, rel=0.05)
