"""The relay's ears: what a phone makes of a loss; and its places in what SIP tells."""

from tests.lab.capture import PCMU, RtpPacket
from tests.lab.relay import Relay, as_played


def packet(seq, at, sent=False):
    return RtpPacket(
        at, 5000, sent, PCMU, False, seq & 0xFFFF, seq * 160, 1, bytes([seq & 255]) * 160
    )


def test_a_lost_packet_is_the_last_one_again():
    came = [packet(k, k * 0.02) for k in (65534, 65535, 65537, 65541)]
    played = as_played(came)
    assert [(p.seq, p.payload[0]) for p in played] == [
        *((65534, 254), (65535, 255), (0, 255), (1, 1), (2, 1), (3, 1), (4, 1), (5, 5)),
    ]
    assert played[2].ts == came[2].ts - 160


def test_what_comes_late_is_not_lost_and_an_end_is_an_end():
    came = [packet(10, 0.2), packet(12, 0.21), packet(11, 0.24), packet(13, 0.26)]
    assert as_played(came) == came
    assert as_played([packet(1, 0.0, sent=True)]) == [packet(1, 0.0, sent=True)]


def test_a_description_names_the_relay_and_keeps_its_length():
    body = b"v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp:4001\r\n"
    head = (
        b"INVITE sip:700@127.0.0.1:5060 SIP/2.0\r\nContact: <sip:a@127.0.0.1:5070>\r\n"
        b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    relay = Relay(5060)
    told = relay._rewritten(head + body, from_phone=True)
    rtp, rtcp = (stream.inner.getsockname()[1] for stream in relay._streams)
    after = told.partition(b"\r\n\r\n")[2]
    assert (b"m=audio %d RTP" % rtp) in after
    assert (b"a=rtcp:%d\r\n" % rtcp) in after
    assert (b"Content-Length: %d\r\n" % len(after)) in told
    assert b"5070" not in told
    assert [stream.phone for stream in relay._streams] == [("127.0.0.1", 4000), ("127.0.0.1", 4001)]
    for sock in [*relay._sockets(), relay._stop]:
        sock.close()
