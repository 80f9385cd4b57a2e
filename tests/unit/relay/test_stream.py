"""Messages and packets: what becomes of each on its way."""

import struct

import pytest

from bridge.audio.codecs import CODECS
from bridge.relay.stream import (
    FORMS,
    KEEP,
    MOST_WAITING,
    Downstream,
    Upstream,
    command,
    queue_length,
)

FRAME = bytes(range(160))
QUIET = b"\xff" * 160


def upstream(name="PCMU"):
    return Upstream(FORMS[name], ssrc=7, sequence=65535, timestamp=0xFFFFFFFF)


def header(packet):
    first, kind, sequence, timestamp, ssrc = struct.unpack("!BBHII", packet[:12])
    assert (first, ssrc) == (0x80, 7)
    return kind >> 7, kind & 0x7F, sequence, timestamp


def one(stream, now_ms, message=FRAME, *, alone=True):
    (packet,) = stream.packets(now_ms, message, alone=alone)
    return packet


def packet(payload, kind=0):
    return struct.pack("!BBHII", 0x80, kind, 1, 2, 3) + payload


@pytest.mark.parametrize("name", FORMS)
def test_the_forms_are_the_media_process_own(name):
    form, codec = FORMS[name], CODECS[name]
    assert (form.payload_type, form.bytes_per_ms) == (codec.payload_type, codec.bytes_per_ms)
    assert codec.clock_rate == 8000
    assert not codec.down, "what is sent is what is received"


def test_numbers_go_on_and_wrap():
    stream = upstream()
    heads = [header(one(stream, 20.0 * n)) for n in range(3)]
    assert heads == [(1, 0, 65535, 0xFFFFFFFF), (0, 0, 0, 159), (0, 0, 1, 319)]


def test_timestamps_count_samples_whatever_the_jitter():
    stream = upstream("L16")
    one(stream, 0.0, bytes(320))
    late = header(one(stream, 99.0, bytes(320)))
    assert (late[0], late[3]) == (0, 159)


def test_time_in_which_nothing_was_sent_passes():
    stream = upstream()
    one(stream, 0.0)
    assert header(one(stream, 241.0))[::3] == (1, 159 + 220 // 20 * 160)
    assert header(one(stream, 261.0))[::3] == (0, 159 + 12 * 160)


def test_what_the_network_held_back_is_no_pause():
    stream = upstream()
    one(stream, 0.0)
    heads = [header(one(stream, 241.0, alone=n == 11)) for n in range(12)]
    assert [head[3] for head in heads] == [159 + 160 * n for n in range(12)]
    assert not any(head[0] for head in heads)


def test_long_messages_become_several_packets():
    stream = upstream()
    packets = list(stream.packets(0.0, b"x" * 1000, alone=True))
    assert [len(p) - 12 for p in packets] == [480, 480, 40]
    assert [header(p)[::3] for p in packets] == [(1, 0xFFFFFFFF), (0, 479), (0, 959)]
    assert list(stream.packets(0.0, b"", alone=True)) == []


def test_l16_is_turned_both_ways():
    assert one(upstream("L16"), 0.0, b"\x01\x02\x03\x04")[12:] == b"\x02\x01\x04\x03"
    assert Downstream(FORMS["L16"]).message(packet(b"\x01\x02", 10)) == b"\x02\x01"


@pytest.mark.parametrize("bad", [b"", packet(b""), packet(b"x", 8), b"\x90" + packet(b"x")[1:]])
def test_what_is_no_packet_of_ours_goes_nowhere(bad):
    assert Downstream(FORMS["PCMU"]).message(bad) is None


def test_silence_is_left_out_while_too_much_waits():
    down = Downstream(FORMS["PCMU"])
    assert not down.told(KEEP + 2)
    went = [down.message(packet(p)) for p in (FRAME, QUIET, FRAME, QUIET, QUIET)]
    assert went == [FRAME, None, FRAME, None, QUIET]
    assert down.left_out == 2


def test_jitter_leaves_nothing_out():
    down = Downstream(FORMS["PCMU"])
    assert not down.told(KEEP)
    assert down.message(packet(QUIET)) == QUIET


def test_an_agent_who_never_pauses_loses_a_frame_a_second():
    down = Downstream(FORMS["PCMU"])
    down.told(KEEP + 3)
    assert down.message(packet(FRAME)) == FRAME
    for left in (3, 2, 1):
        down.told(KEEP + left)
        assert [down.message(packet(FRAME)) for _ in range(3)] == [None, FRAME, FRAME]
    down.told(KEEP)
    assert down.message(packet(FRAME)) == FRAME
    assert down.left_out == 3


def test_one_who_has_just_paused_loses_none():
    down = Downstream(FORMS["PCMU"])
    down.told(KEEP + 3)
    assert down.message(packet(QUIET)) is None
    down.told(KEEP + 2)
    assert [down.message(packet(FRAME)) for _ in range(50)] == [FRAME] * 50


def test_half_a_second_is_flushed():
    down = Downstream(FORMS["PCMU"])
    assert not down.told(MOST_WAITING)
    assert down.told(MOST_WAITING + 1)
    assert down.message(packet(QUIET)) == QUIET


def test_the_queue_is_asked_for_once_a_second():
    down = Downstream(FORMS["PCMU"])
    asked = []
    for _ in range(100):
        down.message(packet(FRAME))
        asked.append(down.asks)
    assert [n for n, asks in enumerate(asked) if asks] == [49, 99]


def test_both_kinds_of_control_messages():
    plain = b"STATUS channel_id:1.2 queue_length:31 xon_level:800 xoff_level:900 queue_full:false"
    assert queue_length(plain) == 31
    assert queue_length(b'{"event":"STATUS","channel_id":"1.2","queue_length":7}') == 7
    assert queue_length(b"MEDIA_XOFF") is None
    assert command("GET_STATUS", as_json=False) == b"GET_STATUS"
    assert command("GET_STATUS", as_json=True) == b'{"command":"GET_STATUS"}'
