"""Headers: what is used, what is dropped, and why."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rtp.header import Cause, headers_view, parse, serialise

ROOM = 256


def batch(*datagrams):
    buffer = np.full((len(datagrams), ROOM), 0xEE, np.uint8)
    for row, data in enumerate(datagrams):
        kept = data[:ROOM]
        buffer[row, : len(kept)] = np.frombuffer(kept, np.uint8)
    return parse(buffer, np.array([len(d) for d in datagrams])), buffer


def rtp(b0=0x80, b1=0, seq=7, ts=1600, ssrc=0xCAFE, rest=b"\x01" * 160):
    return struct.pack(">BBHII", b0, b1, seq, ts, ssrc) + rest


def payload(headers, buffer, row):
    begin = headers.offset[row]
    return buffer[row, begin : begin + headers.size[row]].tobytes()


def test_a_plain_packet():
    h, buffer = batch(rtp(b1=0x88, seq=65535, ts=2**32 - 1, ssrc=2**32 - 1, rest=b"abc"))
    assert h.cause[0] == Cause.OK
    assert (h.payload_type[0], h.marker[0]) == (8, True)
    assert (h.seq[0], h.timestamp[0], h.ssrc[0]) == (65535, 2**32 - 1, 2**32 - 1)
    assert payload(h, buffer, 0) == b"abc"


def test_csrcs_extension_and_padding_are_taken_off():
    csrcs = rtp(b0=0x82, rest=b"\0" * 8 + b"voice")
    extension = rtp(b0=0x90, rest=struct.pack(">HH", 0xBEDE, 2) + b"\0" * 8 + b"voice")
    padding = rtp(b0=0xA0, rest=b"voice" + b"\0\0\x03")
    every = rtp(b0=0xB1, rest=b"\0" * 4 + struct.pack(">HH", 1, 1) + b"\0" * 4 + b"voice\0\x02")
    h, buffer = batch(csrcs, extension, padding, every, rtp(rest=b"voice"))
    assert h.cause.tolist() == [Cause.OK] * 5
    assert [payload(h, buffer, row) for row in range(5)] == [b"voice"] * 5


@pytest.mark.parametrize(
    ("datagram", "cause"),
    [
        (b"", Cause.TRUNCATED),
        (b"\x80\0\0", Cause.TRUNCATED),
        (rtp(b0=0x8F, rest=b"\0" * 59), Cause.TRUNCATED),
        (rtp(b0=0x90, rest=b"\0\0"), Cause.TRUNCATED),
        (rtp(b0=0x90, rest=struct.pack(">HH", 0, 0xFFFF)), Cause.TRUNCATED),
        (rtp(b0=0x40), Cause.VERSION),
        (rtp(b0=0xC0), Cause.VERSION),
        (rtp(b1=200), Cause.RTCP),
        (rtp(b1=204), Cause.RTCP),
        (rtp(b0=0xA0, rest=b"ab\0"), Cause.PADDING),
        (rtp(b0=0xA0, rest=b"ab\x09"), Cause.PADDING),
        (rtp(rest=b"\0" * 300), Cause.OVERSIZED),
    ],
)
def test_what_is_dropped(datagram, cause):
    h, _ = batch(rtp(), datagram, rtp())
    assert h.cause.tolist() == [Cause.OK, cause, Cause.OK]


def test_an_empty_payload_is_no_error():
    h, _ = batch(rtp(rest=b""))
    assert (h.cause[0], h.size[0]) == (Cause.OK, 0)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=8))
def test_anything_at_all_is_judged(datagrams):
    h, _ = batch(*datagrams)
    good = h.cause == Cause.OK
    assert (h.size[good] >= 0).all()
    lengths = np.array([len(d) for d in datagrams])
    assert (h.offset[good] + h.size[good] <= lengths[good]).all()


def test_what_we_write_we_read():
    buffer = np.zeros((3, ROOM), np.uint8)
    numbers = np.array([0, 65536 + 5]), np.array([2**32 + 9, 160]), np.array([1, 2**32 - 1])
    serialise(headers_view(buffer), np.array([8, 9]), np.array([True, False]), *numbers)
    h = parse(buffer[:2], np.array([12, 12]))
    assert h.cause.tolist() == [Cause.OK] * 2
    assert h.payload_type.tolist() == [8, 9]
    assert h.marker.tolist() == [True, False]
    assert h.seq.tolist() == [0, 5]
    assert h.timestamp.tolist() == [9, 160]
    assert h.ssrc.tolist() == [1, 2**32 - 1]
    assert not buffer[2].any()
