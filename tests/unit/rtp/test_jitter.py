"""Order, waiting, giving up."""

import numpy as np
import pytest

from bridge.audio.columns import heap
from bridge.rtp import jitter
from bridge.rtp.jitter import JitterBank, Packets

SSRC = 9


class Bench:
    """A bank of three calls, fed packets whose payload is their sequence number."""

    def __init__(self, pool=64):
        self.columns = heap(jitter.SPEC, 3)
        self.bank = JitterBank(self.columns, pool, 16)
        self.up = []

    def push(self, now, *packets):
        """Each packet: (call, seq) or (call, seq, ssrc)."""
        rows = [(*p, SSRC)[:3] for p in packets]
        call, seq, ssrc = (np.array(v, np.int64) for v in zip(*rows, strict=True))
        buffer = np.zeros((len(rows), 16), np.uint8)
        buffer[:, 0], buffer[:, 1] = (seq & 0xFFFF) >> 8, seq & 0xFF
        self.take(
            self.bank.arrive(
                now,
                Packets(
                    call.astype(np.intp),
                    ssrc,
                    seq & 0xFFFF,
                    seq * 160,
                    np.zeros(len(rows), bool),
                    buffer,
                    np.arange(len(rows)),
                    np.zeros(len(rows), np.int64),
                    np.full(len(rows), 2),
                ),
            )
        )
        return self

    def expire(self, now):
        self.take(self.bank.expire(now))
        return self

    def take(self, releases):
        for r in releases:
            assert len(set(r.packets.call.tolist())) == len(r.packets.call), "one a call"
            self.keep(r.packets, r.lost)
            if r.behind is not None:
                assert set(r.behind.call.tolist()) <= set(r.packets.call.tolist())
                self.keep(r.behind, np.zeros(len(r.behind.call), int))

    def keep(self, p, lost):
        stored = p.buffer[p.row, 0].astype(int) << 8 | p.buffer[p.row, 1]
        assert (stored == p.seq).all(), "the payload is the packet's own"
        for i in range(len(p.call)):
            self.up.append((int(p.call[i]), int(p.seq[i]), int(lost[i])))

    def seqs(self, call=0):
        return [seq for c, seq, _ in self.up if c == call]

    def count(self, name, call=0):
        return int(self.columns[f"n_{name}"][call])


def test_in_order_goes_up_at_once():
    b = Bench().push(0, (0, 5)).push(20, (0, 6)).push(40, (0, 7))
    assert b.seqs() == [5, 6, 7]
    assert len(b.bank) == 0


def test_the_sequence_wraps():
    b = Bench().push(0, (0, 65534)).push(20, (0, 65535)).push(40, (0, 0)).push(60, (0, 1))
    assert b.seqs() == [65534, 65535, 0, 1]
    assert b.count("lost") == 0


def test_many_packets_of_many_calls_in_one_batch():
    b = Bench().push(0, (0, 1), (1, 50), (0, 2), (2, 7), (1, 51), (0, 3))
    assert (b.seqs(0), b.seqs(1), b.seqs(2)) == ([1, 2, 3], [50, 51], [7])


def test_reordered_packets_are_put_in_order():
    b = Bench().push(0, (0, 1)).push(20, (0, 3)).push(21, (0, 4))
    assert b.seqs() == [1]
    b.push(25, (0, 2))
    assert b.seqs() == [1, 2, 3, 4]
    assert (b.count("reordered"), b.count("lost")) == (1, 0)
    assert len(b.bank) == 0


def test_reordered_within_a_batch():
    b = Bench().push(0, (0, 1), (0, 3), (0, 2), (0, 4))
    assert b.seqs() == [1, 2, 3, 4]


def test_a_gap_waits_for_its_deadline_and_no_longer():
    b = Bench().push(0, (0, 1)).push(40, (0, 3)).push(60, (0, 4))
    b.expire(99.9)
    assert b.seqs() == [1]
    b.expire(100)
    assert b.up == [(0, 1, 0), (0, 3, 1), (0, 4, 0)]
    assert b.count("lost") == 1


def test_two_gaps_are_given_up_each_in_its_time():
    b = Bench().push(0, (0, 1)).push(40, (0, 3)).push(80, (0, 6))
    b.expire(100)
    assert b.seqs() == [1, 3]
    b.expire(139)
    assert b.seqs() == [1, 3]
    b.expire(140)
    assert b.up[-1] == (0, 6, 2)
    assert b.count("lost") == 3


def test_a_gap_across_the_wrap():
    b = Bench().push(0, (0, 65535)).push(20, (0, 2)).expire(80)
    assert b.up == [(0, 65535, 0), (0, 2, 2)]


def test_duplicates_go_up_once():
    b = Bench().push(0, (0, 1)).push(1, (0, 1)).push(20, (0, 2), (0, 2)).push(21, (0, 1))
    assert b.seqs() == [1, 2]
    assert (b.count("duplicate"), b.count("late")) == (3, 0)


def test_a_duplicate_of_a_waiting_packet():
    b = Bench().push(0, (0, 1)).push(1, (0, 3)).push(2, (0, 3), (0, 3)).push(3, (0, 2))
    assert b.seqs() == [1, 2, 3]
    assert b.count("duplicate") == 2


def test_late_after_its_gap_was_given_up():
    b = Bench().push(0, (0, 1)).push(20, (0, 3)).expire(80).push(90, (0, 2))
    assert b.seqs() == [1, 3]
    assert (b.count("late"), b.count("duplicate")) == (1, 0)
    b.push(91, (0, 2))
    assert b.count("duplicate") == 1


def test_one_wild_packet_changes_nothing():
    b = Bench().push(0, (0, 1)).push(20, (0, 40_000)).push(21, (0, 2, 66)).push(40, (0, 2))
    assert b.seqs() == [1, 2]
    assert (b.count("wild"), b.count("resync")) == (2, 0)


def test_a_new_ssrc_is_believed_at_its_second_packet():
    b = Bench().push(0, (0, 1)).push(20, (0, 700, 66)).push(40, (0, 701, 66)).push(60, (0, 702, 66))
    assert b.seqs() == [1, 701, 702]
    assert b.count("resync") == 1


def test_stragglers_of_the_ssrc_that_was_left_change_nothing():
    b = Bench().push(0, (0, 1)).push(20, (0, 700, 66)).push(40, (0, 701, 66))
    b.push(41, (0, 2), (0, 3), (0, 4)).push(60, (0, 702, 66))
    assert b.seqs() == [1, 701, 702]
    assert b.count("late") == 3
    b.push(5000, (0, 5), (0, 6), (0, 7))
    assert b.seqs() == [1, 701, 702, 6, 7], "unless it really comes back"


def test_a_jump_beyond_3000_is_believed_at_its_second_packet():
    b = Bench().push(0, (0, 1)).push(20, (0, 9000)).push(40, (0, 9001))
    assert b.seqs() == [1, 9001]


def test_a_restart_forgets_what_waited():
    b = Bench().push(0, (0, 1)).push(20, (0, 3)).push(21, (0, 700, 66), (0, 701, 66)).expire(500)
    assert b.seqs() == [1, 701]
    assert len(b.bank) == 0


def test_the_pool_is_bounded_and_used_again():
    b = Bench(pool=8).push(0, (0, 1))
    b.push(10, *[(0, 3 + i) for i in range(20)])
    assert len(b.bank) == 8
    assert b.count("overflow") == 12
    b.expire(100)
    assert b.seqs() == [1, *range(3, 11)]
    for turn in range(50):
        base = 100 + turn * 10
        b.push(200 + turn * 100, (0, base), (0, base + 1)).expire(290 + turn * 100)
    assert len(b.bank) == 0
    assert b.seqs()[-1] == 591


def test_too_many_waiting_ends_the_wait():
    b = Bench(pool=200).push(0, (0, 1))
    b.push(1, *[(0, 3 + i) for i in range(jitter.MAX_WAITING + 1)]).expire(1)
    assert b.seqs()[-1] == 3 + jitter.MAX_WAITING


def test_a_flood_of_one_call_keeps_the_newest():
    b = Bench(pool=400).push(0, (0, 1), (1, 1))
    b.push(20, *[(0, 2 + i) for i in range(300)], (1, 2))
    assert b.count("overflow") == 300 - jitter.MAX_ROUNDS
    b.expire(200)
    assert b.seqs()[-1] == 301
    assert b.seqs(1) == [1, 2]


def test_forget_lets_go():
    b = Bench().push(0, (0, 1), (1, 1)).push(1, (0, 3), (1, 3))
    b.bank.forget(0)
    b.expire(500)
    assert (b.seqs(0), b.seqs(1)) == ([1], [1, 3])


@pytest.mark.parametrize("seed", range(5))
def test_a_shuffled_stream_comes_out_in_order(seed):
    rng = np.random.default_rng(seed)
    n = 400
    arrival = np.arange(n) * 20 + rng.uniform(0, 55, n)
    b = Bench()
    for at in np.argsort(arrival):
        b.expire(arrival[at]).push(arrival[at], (0, 65_300 + int(at)))
    b.expire(1e9)
    steps = np.diff(np.array(b.seqs())) & 0xFFFF
    assert (steps >= 1).all()
    assert (steps < 5).all()
    assert len(b.seqs()) + b.count("late") == n
    assert b.count("late") < n / 50
