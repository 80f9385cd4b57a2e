"""The capture's parser and clock, on synthetic captures whose truth is known."""

import io
import struct

import dpkt
import numpy as np
import pytest

from tests.lab.capture import (
    PCMA,
    PCMU,
    RATE,
    TABLES,
    Digit,
    RtpPacket,
    digits,
    entropy,
    lay_out,
    read_pcap,
)

PORTS = range(20000, 20008)
START = 1000.0


def frame(source: int, target: int, data: bytes) -> bytes:
    udp = dpkt.udp.UDP(sport=source, dport=target, data=data)
    udp.ulen = len(udp)
    ip = dpkt.ip.IP(src=b"\x7f\0\0\1", dst=b"\x7f\0\0\1", p=dpkt.ip.IP_PROTO_UDP, data=udp)
    ip.len = len(ip)
    return bytes(dpkt.ethernet.Ethernet(data=ip, type=dpkt.ethernet.ETH_TYPE_IP))


def pcap(frames: list[tuple[float, bytes]]) -> io.BytesIO:
    file = io.BytesIO()
    writer = dpkt.pcap.Writer(file)
    for at, data in frames:
        writer.writepkt(data, ts=at)
    file.seek(0)
    return file


def rtp(seq: int = 1, ts: int = 160, pt: int = PCMU, payload: bytes = b"\xff" * 160) -> bytes:
    return struct.pack("!BBHII", 0x80, pt, seq, ts, 7) + payload


def packet(
    n: int, at: float, *, ts: int | None = None, code: int = 0xFF, **other: object
) -> RtpPacket:
    values = {"sent": False, "pt": PCMU, "ssrc": 7, "payload": bytes([code]) * 160} | other
    return RtpPacket(
        at,
        20000,
        bool(values["sent"]),
        int(values["pt"]),  # type: ignore[call-overload]
        False,
        n % 0x10000,
        (160 * n if ts is None else ts) % 0x100000000,
        int(values["ssrc"]),  # type: ignore[call-overload]
        bytes(values["payload"]),  # type: ignore[call-overload]
    )


LOUD, QUIET = 0x80, 0xFF  # PCMU: +32124 and 0


def loud_from(pcm: np.ndarray) -> int:
    return int(np.flatnonzero(pcm)[0])


def test_reads_both_directions_and_leaves_the_rest_out() -> None:
    file = pcap(
        [
            (1.0, frame(20000, 9000, rtp(seq=5, ts=800))),
            (1.02, frame(9000, 20000, rtp(seq=65535, pt=PCMA))),
            (1.03, frame(9001, 20001, b"\x81\xc8" + bytes(26))),  # RTCP sender report
            (1.04, frame(9000, 9002, rtp())),  # another call's
            (1.05, frame(9000, 20000, b"hello")),
        ]
    )
    sent, received = read_pcap(file, PORTS)
    assert (sent.sent, sent.port, sent.seq, sent.ts, sent.pt) == (True, 20000, 5, 800, PCMU)
    assert (received.sent, received.port, received.seq, received.pt) == (False, 20000, 65535, PCMA)
    assert received.at == pytest.approx(1.02)
    assert len(received.payload) == 160


def test_header_extension_and_padding_are_not_payload() -> None:
    extended = struct.pack("!BBHII", 0x80 | 0x10 | 0x20, 0, 1, 2, 3)
    extended += struct.pack("!HH", 0xBEDE, 1) + b"\1\2\3\4" + b"payload!" + b"\0\0\3"
    [found] = read_pcap(pcap([(1.0, frame(9000, 20000, extended))]), PORTS)
    assert found.payload == b"payload!"


def test_g711_tables_match_the_recommendation() -> None:
    ulaw, alaw = TABLES[PCMU].astype(int), TABLES[PCMA].astype(int)
    # G.711 tables 2a and 1a: the first, smallest and largest values, positive and negative.
    for code, value in {0x80: 32124, 0x00: -32124, 0xFF: 0, 0x7F: 0, 0xFE: 8, 0x8F: 16764}.items():
        assert ulaw[code] == value
    for code, value in {0xD5: 8, 0x55: -8, 0xAA: 32256, 0x2A: -32256, 0x80: 5504}.items():
        assert alaw[code] == value
    assert len(set(alaw)) == 256
    assert len(set(ulaw)) == 255  # +0 and -0


def test_received_sound_is_heard_when_its_packet_has_come() -> None:
    packets = [packet(n, START + 0.02 * n, code=LOUD if n == 50 else QUIET) for n in range(100)]
    track = lay_out(packets, sent=False, start=START, end=START + 2)
    assert loud_from(track.pcm) == RATE
    assert track.time(RATE) == pytest.approx(START + 1.0, abs=1e-6)


def test_sent_sound_was_spoken_before_its_packet_left() -> None:
    packets = [
        packet(n, START + 0.02 * n, code=LOUD if n == 50 else QUIET, sent=True) for n in range(100)
    ]
    track = lay_out(packets, sent=True, start=START, end=START + 2)
    assert loud_from(track.pcm) == RATE - 160
    assert np.flatnonzero(track.pcm)[-1] == RATE - 1


def test_jitter_neither_moves_nor_tears_the_sound() -> None:
    rng = np.random.default_rng(1)
    packets = [
        packet(n, START + 0.02 * n + (0 if n % 20 == 0 else rng.uniform(0, 0.015)), code=LOUD)
        for n in range(200)
    ]
    track = lay_out(packets, sent=False, start=START, end=START + 5)
    assert loud_from(track.pcm) <= 40
    assert np.count_nonzero(track.pcm) == 200 * 160


def test_a_stall_made_good_by_a_burst_keeps_its_place_but_is_heard_late() -> None:
    # Packets 50 to 54 come together, 100 ms after the first of them was due.
    at = [START + 0.02 * (54 if 50 <= n < 55 else n) for n in range(100)]
    packets = [packet(n, at[n], code=LOUD if n == 50 else QUIET) for n in range(100)]
    track = lay_out(packets, sent=False, start=START, end=START + 3)
    assert loud_from(track.pcm) == RATE
    assert track.time(RATE) == pytest.approx(START + 1.08, abs=1e-3)
    assert track.packet_gap() == pytest.approx(0.1)


def test_a_pause_of_the_sender_moves_what_follows() -> None:
    # After packet 49 nothing for 300 ms, then on with the next timestamp: never made good.
    packets = [
        packet(n, START + 0.02 * n + (0.3 if n >= 50 else 0), code=LOUD if n == 50 else QUIET)
        for n in range(100)
    ]
    track = lay_out(packets, sent=False, start=START, end=START + 3)
    assert loud_from(track.pcm) == pytest.approx(1.3 * RATE, abs=40)


@pytest.mark.parametrize("jump", [100_000_000, -90_000, 1280])
def test_a_timestamp_jump_does_not_move_the_sound(jump: int) -> None:
    packets = [
        packet(n, START + 0.02 * n, ts=160 * n + (jump if n >= 50 else 0), code=LOUD)
        for n in range(100)
    ]
    track = lay_out(packets, sent=False, start=START, end=START + 3)
    assert np.count_nonzero(track.pcm) == 100 * 160
    assert np.flatnonzero(track.pcm)[-1] == 100 * 160 - 1


def test_sequence_and_timestamp_wrap() -> None:
    packets = [
        packet(0xFFF0 + n, START + 0.02 * n, ts=0xFFFFF000 + 160 * n, code=LOUD) for n in range(100)
    ]
    track = lay_out(packets, sent=False, start=START, end=START + 3)
    assert np.count_nonzero(track.pcm) == 100 * 160


def test_reordered_lost_and_doubled_packets() -> None:
    came = [(0, 0.0), (1, 0.02), (3, 0.06), (2, 0.065), (4, 0.08), (4, 0.081), (6, 0.12), (7, 0.14)]
    packets = [packet(n, START + at, code=LOUD) for n, at in came]
    track = lay_out(packets, sent=False, start=START, end=START + 1)
    silent = np.flatnonzero(track.pcm[: 8 * 160] == 0)
    assert len(silent) == 160  # only the lost one


def test_two_streams_after_each_other_keep_their_times() -> None:
    first = [packet(n, START + 0.02 * n, code=LOUD) for n in range(50)]
    second = [
        packet(n, START + 2 + 0.02 * n, ts=99 + 160 * n, code=LOUD, ssrc=8) for n in range(50)
    ]
    track = lay_out([*first, *second], sent=False, start=START, end=START + 4)
    loud = np.flatnonzero(track.pcm)
    assert [loud[7999], loud[8000]] == [RATE - 1, 2 * RATE]


def test_what_is_not_g711_is_counted() -> None:
    packets = [packet(n, START + 0.02 * n, pt=9) for n in range(3)]
    track = lay_out(packets, sent=False, start=START, end=START + 1)
    assert track.foreign == 3
    assert not track.pcm.any()


def test_digits_are_told_apart_by_their_timestamps() -> None:
    def event(at: float, code: int, ts: int, *, end: bool = False) -> RtpPacket:
        payload = bytes([code, 10 | 0x80 * end, 0, 160])
        return packet(1, at, ts=ts, pt=101, payload=payload, sent=True)

    packets = [
        event(1.0, 4, 0),
        *(event(at, 4, 0, end=True) for at in (1.1, 1.12, 1.14)),
        event(1.5, 4, 9000),
        event(1.6, 11, 9900),
    ]
    assert digits(packets) == [
        Digit("4", 1.0, 1.1),
        Digit("4", 1.5, 1.5),
        Digit("#", 1.6, 1.6),
    ]
    assert digits(packets, sent=False) == []


def test_entropy_tells_noise_from_silence() -> None:
    rng = np.random.default_rng(5)
    noise = [packet(n, 1.0, payload=rng.bytes(160)) for n in range(200)]
    assert entropy(noise, sent=False) > 7.98
    assert entropy([packet(1, 1.0)], sent=False) == 0
    assert entropy(noise, sent=True) == 0
