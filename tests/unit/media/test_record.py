"""What media keeps for the recorder: what was really sent, in step with what was heard."""

import numpy as np

from bridge.audio import g711
from bridge.media.plane import Plane
from bridge.media.slots import SlotMap
from tests.unit.media.simulated import IP, SimulatedLink, Simulation


def packets(link, call=0):
    return [
        g711.decode_ulaw(np.frombuffer(data[12:], np.uint8)) for to, data in link.sent if to == call
    ]


def recorded(slots, first, last, call=0):
    return slots.down[8][call, np.arange(first, last) % 120]


def play(sim, call=0, frames=200):
    """Endless agent audio, as u-law knows it."""
    codes = np.random.default_rng(5).integers(0, 256, (len(sim.slots.play[8][call, 0]), 160))
    sim.slots.play[8][call, 0] = g711.decode_ulaw(codes.astype(np.uint8))
    sim.c["play_write"][call, 0] = frames


def test_the_frames_that_went_out_are_kept_of_recorded_calls_only(tmp_path):
    sim = Simulation(tmp_path, calls=3)
    sim.c["record"][1] = True
    for call in range(3):
        play(sim, call, 40)
    sim.run_to(1000)
    out = packets(sim.link, 1)[1:]  # the first one opened the slot
    assert sim.c["down_head"].tolist() == [50, 50, 50]
    kept = recorded(sim.slots, 0, 50, 1)  # exact; what left went through the codec
    assert (g711.encode_ulaw(kept.reshape(-1)) == g711.encode_ulaw(np.concatenate(out))).all()
    assert np.array(out).any()
    assert not sim.slots.columns["down"][[0, 2]].any()


def test_a_pause_and_its_fade_are_kept_as_they_were_heard(tmp_path):
    sim = Simulation(tmp_path)
    sim.c["record"][0] = True
    play(sim)
    sim.run_to(200)
    sim.c["play_pause"][0, 0] = True
    sim.run_to(400)
    sim.c["play_pause"][0, 0] = False
    sim.run_to(600)
    # What is kept is exact; what left went through the codec.
    kept, out = recorded(sim.slots, 0, 30), np.array(packets(sim.link)[1:])
    assert (g711.encode_ulaw(kept.reshape(-1)) == g711.encode_ulaw(out.reshape(-1))).all()
    assert not kept[12:19].any()


def test_it_is_in_step_with_what_the_caller_said(tmp_path):
    sim = Simulation(tmp_path)
    sim.run_to(5000)
    up = sim.c["t_head"][0] / 160
    assert abs(sim.c["down_head"][0] - up) <= 5, "where nothing comes, the clock is 100 ms behind"
    assert sim.c["down_head"][0] == 250


def test_time_that_was_passed_over_is_silence(tmp_path):
    sim = Simulation(tmp_path)
    sim.c["record"][0] = True
    sim.slots.columns["down"][:] = 99
    play(sim)
    sim.run_to(100)
    sim.now = 595
    sim.run_to(600)
    kept = recorded(sim.slots, 0, 30)
    assert sim.c["down_head"][0] == 30
    assert kept[:5].any(axis=1).all()
    assert not kept[5:27].any()
    assert kept[27:].any(axis=1).all()


def test_a_dead_media_process_leaves_silence_of_the_right_length(tmp_path):
    sim = Simulation(tmp_path, calls=2)
    sim.c["record"][:] = True
    sim.slots.columns["down"][:] = 99
    play(sim, 0)
    sim.run_to(600)
    link = SimulatedLink(2)
    heir = Plane(SlotMap.attach(tmp_path / "slots"), link, 1000.0)
    for now in np.arange(1000.0, 1205.0, 5):
        heir.tick(now)
    assert abs(int(sim.c["down_head"][0]) - 60) <= 1
    kept = recorded(heir.slots, 0, 60)
    assert kept[:30].any(axis=1).all()
    assert not kept[30:50].any()
    assert kept[50:].any(axis=1).all()
    assert not recorded(heir.slots, 30, 50, 1).any()


def test_the_end_of_a_recorded_call_waits_to_be_read(tmp_path):
    sim = Simulation(tmp_path, calls=3).run_to(200)
    sim.c["record"][1] = True
    sim.plane.close(1)
    sim.plane.close(2)
    assert sim.plane.open(sim.now, "next", (IP, 8), "PCMU") == 2, "the other one goes first"
    assert sim.c["t_head"][1], "it is all still there"
    assert sim.plane.open(sim.now, "then", (IP, 9), "PCMU") == 1, "but nobody is turned away"
    assert not sim.c["record"][1]


def left_at(sim, plane, call, until):
    """When each frame left, by frame."""
    times, head = {}, int(sim.c["down_head"][call])
    while sim.now < until:
        sim.now += 1
        plane.tick(sim.now)
        for frame in range(head, int(sim.c["down_head"][call])):
            times[frame] = sim.now
        head = int(sim.c["down_head"][call])
    return times


def test_it_is_known_when_each_frame_leaves_also_of_a_successor(tmp_path):
    sim = Simulation(tmp_path, calls=3)
    left_at(sim, sim.plane, 0, 33)
    sim.plane.close(1)
    assert sim.plane.open(sim.now, "late", (IP, 9), "PCMU") == 1
    for plane in (sim.plane, None):
        if plane is None:
            sim.now += 417
            plane = Plane(sim.slots, sim.link, sim.now)
            plane.tick(sim.now)  # what is owed leaves at once
        begin = sim.now
        for call in (0, 1):
            times = left_at(sim, plane, call, begin + 100 * (call + 1))
            opened, first = sim.c["t_open_ms"][call], sim.c["down_ms"][call]
            assert len(times) == 5
            assert all(0 <= t - (opened + first + 20 * n) < 1 for n, t in times.items())
