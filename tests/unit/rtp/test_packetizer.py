"""Continuity of what we send."""

import numpy as np

from bridge.audio.columns import heap
from bridge.rtp.packetizer import SPEC, Packetizer

CALL = np.array([1])


def numbered(packetizer, step=160):
    marker, seq, ts, ssrc = packetizer.number(CALL, step)
    return bool(marker[0]), int(seq[0]), int(ts[0]), int(ssrc[0])


def test_numbers_rise_and_wrap():
    p = Packetizer(heap(SPEC, 3))
    p.begin(1, ssrc=77, seq=65535, ts=2**32 - 160)
    assert numbered(p) == (True, 65535, 2**32 - 160, 77)
    assert numbered(p) == (False, 0, 0, 77)
    assert numbered(p) == (False, 1, 160, 77)


def test_after_a_pause_time_has_gone_on_and_a_talkspurt_begins():
    p = Packetizer(heap(SPEC, 3))
    p.begin(1, ssrc=77, seq=10, ts=0)
    numbered(p)
    p.pass_over(CALL, 160)
    p.pass_over(CALL, 160)
    assert numbered(p) == (True, 11, 480, 77)
    assert numbered(p)[0] is False


def test_calls_do_not_touch_each_other():
    p = Packetizer(heap(SPEC, 3))
    p.begin(0, 1, 100, 0)
    p.begin(1, 2, 200, 0)
    p.begin(2, 3, 300, 0)
    _, seq, _, _ = p.number(np.array([2, 0]), np.array([160, 320]))
    assert seq.tolist() == [300, 100]
    assert p.seq.tolist() == [101, 200, 301]
    assert p.ts.tolist() == [320, 0, 160]
