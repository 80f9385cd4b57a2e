"""Which packets are just what was due."""

import numpy as np
import pytest

from bridge.rtp.header import parse
from bridge.rtp.ordinary import Ordinary, fields

CALLS, SIZE, SOURCE = 3, 160, 77


def datagram(seq, ts, ssrc=9, kind=0, marker=0, first=0x80):
    head = bytes([first, marker << 7 | kind]) + seq.to_bytes(2, "big")
    return head + ts.to_bytes(4, "big") + ssrc.to_bytes(4, "big") + bytes(SIZE)


def found(*datagrams, source=SOURCE):
    buffer = np.zeros((len(datagrams), 512), np.uint8)
    length = np.array([len(d) for d in datagrams])
    for row, data in enumerate(datagrams):
        buffer[row, : len(data)] = np.frombuffer(data, np.uint8)
    h = parse(buffer, length)
    assert (h.seq >= 0).all(), "what the general way makes of it is defined"
    return fields(buffer, length, np.full(len(datagrams), source))


def expecting(seq=100, ts=1600, calls=(0, 1, 2)):
    ordinary, n = Ordinary(CALLS), len(calls)
    ordinary.expect(
        np.array(calls), 0, np.full(n, seq), np.full(n, ts), np.full(n, 9),
        np.full(n, SIZE), np.full(n, SOURCE),
    )  # fmt: skip
    return ordinary


def test_nothing_is_ordinary_until_it_is_expected():
    call, packets = np.array([0]), found(datagram(100, 1600))
    assert not Ordinary(CALLS).match(call, packets).any()
    assert expecting().match(call, packets).all()


@pytest.mark.parametrize(
    "change",
    [{"seq": 101}, {"ts": 1760}, {"ssrc": 8}, {"kind": 8}, {"marker": 1}, {"first": 0x90}],
)
def test_any_other_header_is_not(change):
    header = {"seq": 100, "ts": 1600} | change
    assert not expecting().match(np.array([0]), found(datagram(**header))).any()


def test_nor_is_another_length_or_source():
    ordinary, call = expecting(), np.array([0])
    assert not ordinary.match(call, found(datagram(100, 1600) + b"x")).any()
    assert not ordinary.match(call, found(datagram(100, 1600), source=SOURCE + 1)).any()


def test_it_goes_on_by_itself():
    ordinary, call = expecting(), np.array([2, 0])
    for k in range(5):
        packets = found(*[datagram(100 + k, 1600 + 160 * k)] * 2)
        assert ordinary.match(call, packets).all()
        ordinary.go_on(call, packets, 160)
    ordinary.forget(2)
    packets = found(*[datagram(105, 2400)] * 2)
    assert ordinary.match(call, packets).tolist() == [False, True]


def test_numbers_that_wrap_are_looked_at():
    for seq, ts in ((0xFFFF, 1600), (100, 2**32 - 160)):
        ordinary, call = expecting(seq, ts), np.array([0])
        packets = found(datagram(seq, ts))
        assert ordinary.match(call, packets).all()
        ordinary.go_on(call, packets, 160)
        after = datagram(seq + 1 & 0xFFFF, (ts + 160) % 2**32)
        assert not ordinary.match(call, found(after)).any()


def test_of_twins_one_is_ordinary():
    packets = found(*[datagram(100, 1600)] * 3, datagram(101, 1760))
    plain = expecting().match(np.array([0, 0, 1, 0]), packets)
    assert plain[:2].sum() == 1
    assert plain[2:].tolist() == [True, False]
