"""The tick: who sends when, what a late tick does, and slots that come and go."""

import itertools

import numpy as np
import pytest

from bridge.media import plane
from bridge.media.plane import AHEAD, PERIOD_MS, PHASES
from bridge.media.slots import ORPHAN
from tests.unit.media.simulated import IP, Simulation


def sent(sim, call=0):
    """(sequence number, timestamp) of each packet to a call."""
    packets = [data for to, data in sim.link.sent if to == call]
    return [(int.from_bytes(p[2:4], "big"), int.from_bytes(p[4:8], "big")) for p in packets]


def steps(numbers, bits):
    return [(b - a) % (1 << bits) for a, b in itertools.pairwise(numbers)]


def test_one_packet_each_20_ms_and_the_first_at_once(tmp_path):
    sim = Simulation(tmp_path, calls=9)
    assert [len(sent(sim, i)) for i in range(9)] == [1] * 9
    sim.run_to(1000)
    for call in range(9):
        seq, ts = zip(*sent(sim, call), strict=True)
        assert len(seq) == 51
        assert set(steps(seq, 16)) == {1}
        assert set(steps(ts, 32)) == {160}


def test_a_call_that_comes_much_later_is_told_when_its_frames_leave(tmp_path):
    sim = Simulation(tmp_path, calls=2).run_to(4000)
    sim.plane.close(1)
    assert sim.plane.open(sim.now, "late", (IP, 999), "PCMU") == 1
    assert 0 < sim.c["down_ms"][1] <= 20
    sim.run_to(5000)
    assert len(sent(sim, 1)) == 201 + 51


def per_tick(sim):
    sim.run_to(100)
    for _ in range(PHASES):
        before = len(sim.link.sent)
        sim.run_to(sim.now + PERIOD_MS)
        yield len(sim.link.sent) - before


def test_few_calls_send_together_and_many_spread_over_the_phases(tmp_path, monkeypatch):
    assert sorted(per_tick(Simulation(tmp_path, calls=10))) == [0, 10]
    monkeypatch.setattr(plane, "BURST", 3)
    (tmp_path / "many").mkdir()
    assert sorted(per_tick(Simulation(tmp_path / "many", calls=5))) == [2, 3]
    (tmp_path / "more").mkdir()
    assert sorted(per_tick(Simulation(tmp_path / "more", calls=11))) == [5, 6]


def test_a_late_tick_sends_what_it_missed(tmp_path):
    sim = Simulation(tmp_path).run_to(100)
    before = len(sent(sim))
    sim.now = 155
    sim.run_to(160)
    assert len(sent(sim)) - before == 3
    assert set(steps([ts for _, ts in sent(sim)], 32)) == {160}


def test_a_very_late_tick_passes_time_over_and_keeps_the_queue(tmp_path):
    sim = Simulation(tmp_path).run_to(100)
    sim.c["play_write"][0, 0] = 40
    before = len(sent(sim))
    sim.now = 595
    sim.run_to(600)
    assert len(sent(sim)) - before == 3, "no burst"
    seq, ts = zip(*sent(sim), strict=True)
    assert set(steps(seq, 16)) == {1}
    assert sum(steps(ts, 32)) == 160 * 30, "the timestamp is the time's"
    assert sim.c["play_read"][0, 0] == 3, "nothing of the queue is lost"
    assert sim.c["n_skipped"][0] == 22


def test_numbers_begin_ahead_of_what_was_sent_before(tmp_path):
    sim = Simulation(tmp_path, after=(77, 65_000, 2**32 - 800))
    seq, ts = sent(sim)[0]
    assert (seq - 65_000) % 65_536 == AHEAD
    assert (ts - (2**32 - 800)) % 2**32 == AHEAD * 160
    assert sim.c["out_ssrc"][0] == 77


def test_slots_run_out_and_are_used_again_clean(tmp_path):
    sim = Simulation(tmp_path, calls=2).run_to(200)
    assert sim.plane.open(sim.now, "more", (IP, 9), "PCMU") is None
    sim.plane.close(0)
    before = len(sent(sim, 0))
    sim.run_to(300)
    assert len(sent(sim, 0)) == before, "a closed slot is silent"
    assert sim.plane.open(sim.now, "more", (IP, 9), "PCMA") == 0
    assert sim.c["t_head"][0] == 0
    assert sim.c["generation"][0] == 2


def test_orphans_are_found_when_their_grace_is_over(tmp_path):
    sim = Simulation(tmp_path, calls=2)
    sim.c["state"][1], sim.c["orphan_ms"][1] = ORPHAN, 100.0
    assert sim.plane.overdue(1099, 1000).tolist() == []
    assert sim.plane.overdue(1100, 1000).tolist() == [1]
    sim.run_to(200)
    assert len(sent(sim, 1)) == 11, "until then it lives on"


@pytest.mark.parametrize("calls", [1, 40])
def test_a_successor_maps_the_same_slots_and_goes_on(tmp_path, calls):
    """All that it needs is in the map: numbers, phases, positions, audio time."""
    from bridge.media.plane import Plane
    from bridge.media.slots import SlotMap
    from tests.unit.media.simulated import SimulatedLink

    sim = Simulation(tmp_path, calls=calls).run_to(500)
    sim.c["play_write"][:, 0] = 50
    sim.run_to(600)
    heads = sim.c["t_head"].copy()
    link = SimulatedLink(calls)
    heir = Plane(SlotMap.attach(tmp_path / "slots"), link, 700.0)
    heir.tick(700.0)
    assert sorted(to for to, _ in link.sent) == list(range(calls)), "at once, and once"
    for now in np.arange(705.0, 905.0, 5):
        heir.tick(now)
    for call in range(calls):
        last = sent(sim, call)[-1]
        seq, ts = (
            int.from_bytes(next(d for to, d in link.sent if to == call)[at], "big")
            for at in (slice(2, 4), slice(4, 8))
        )
        assert (seq - last[0]) % 65_536 == 1
        assert (ts - last[1]) % 2**32 == 160
    assert (heir.slots.columns["play_read"][:, 0] == 16).all()
    assert (heir.slots.columns["t_head"] - heads == 2400).all()
