"""One call's sockets: who may speak, and what happens when the network can't keep up."""

import asyncio
import socket

import pytest
from picows import WSMsgType
from picows.picows import _make_test_ws_frame as frame_of

from bridge.errors import PbxRefused
from bridge.relay.flow import Flow, media_socket
from bridge.relay.stream import ASK_EVERY

QUIET = b"\xff" * 160


class Below:
    """asyncio's transport."""

    def set_write_buffer_limits(self, high):
        self.high = high

    def get_extra_info(self, name):
        return None


class Transport:
    """picows' transport."""

    is_disconnected = False

    def __init__(self):
        self.underlying_transport, self.sent = Below(), []

    def send(self, kind, data):
        self.sent.append((kind, bytes(data)))

    def send_close(self, code):
        self.sent.append((WSMsgType.CLOSE, code))

    def disconnect(self):
        self.is_disconnected = True


@pytest.fixture
async def media():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5.0)
        yield sock


@pytest.fixture
async def flow(media):
    ended = []
    flow = Flow("PCMU", media_socket(media.getsockname()), ended.append)
    flow.ended, flow.wire = ended, Transport()
    flow.on_ws_connected(flow.wire)
    yield flow
    flow.close()


def packet(payload=QUIET):
    return bytes((0x80, 0)) + bytes(10) + payload


async def through(flow, media, payload=QUIET):
    """Send it down, and wait until it was taken."""
    media.sendto(packet(payload), flow.address)
    await asyncio.sleep(0)
    flow._from_media()


def kinds(flow):
    return [kind for kind, _ in flow.wire.sent]


async def test_audio_goes_both_ways(flow, media):
    flow.on_ws_frame(flow.wire, frame_of(WSMsgType.BINARY, b"x" * 160, True, False))
    data, source = media.recvfrom(2048)
    assert (data[12:], source) == (b"x" * 160, flow.address)
    await through(flow, media)
    assert flow.wire.sent == [(WSMsgType.BINARY, QUIET)]


async def test_nobody_else_may_speak(flow, media):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(packet(), flow.address)
    await asyncio.sleep(0)
    flow._from_media()
    assert flow.wire.sent == []


async def test_what_the_network_is_too_slow_for_is_not_sent_later(flow, media):
    flow.pause_writing()
    await through(flow, media)
    flow.resume_writing()
    await through(flow, media, b"y" * 160)
    assert flow.wire.sent == [(WSMsgType.BINARY, b"y" * 160)]
    assert flow.refused == 1


@pytest.mark.parametrize("start", [b"MEDIA_START format:ulaw", b'{"event":"MEDIA_START"}'])
async def test_asterisks_queue(flow, media, start):
    as_json = start[:1] == b"{"
    flow.on_ws_frame(flow.wire, frame_of(WSMsgType.TEXT, start, True, False))
    for _ in range(ASK_EVERY):
        await through(flow, media)
    asked = b'{"command":"GET_STATUS"}' if as_json else b"GET_STATUS"
    assert flow.wire.sent[-1] == (WSMsgType.TEXT, asked)
    told = b'{"queue_length":26}' if as_json else b"STATUS queue_length:26"
    flow.on_ws_frame(flow.wire, frame_of(WSMsgType.TEXT, told, True, False))
    assert b"FLUSH_MEDIA" in flow.wire.sent[-1][1]
    flow.on_ws_frame(flow.wire, frame_of(WSMsgType.TEXT, b"MEDIA_XOFF", True, False))
    await through(flow, media)
    assert flow.refused == 1
    flow.on_ws_frame(flow.wire, frame_of(WSMsgType.TEXT, b"MEDIA_XON", True, False))
    await through(flow, media)
    assert kinds(flow)[-1] is WSMsgType.BINARY


async def test_it_ends_once_and_gives_its_port_back(flow, media):
    port = flow.address[1]
    flow.on_ws_disconnected(flow.wire)
    assert flow.ended == [flow]
    media_socket(media.getsockname(), port).close()


async def test_a_successor_takes_the_same_port(flow, media):
    address = flow.address
    with pytest.raises(PbxRefused, match="can't be had again"):
        media_socket(media.getsockname(), address[1])
    flow.close()
    again = media_socket(media.getsockname(), address[1])
    assert again.getsockname() == address
    again.close()


def test_audio_never_leaves_the_host_in_plain():
    with pytest.raises(PbxRefused, match="would leave it unencrypted"):
        media_socket(("192.0.2.7", 7000))
    sock = media_socket(("0.0.0.0", 7000))
    assert sock.getpeername() == ("127.0.0.1", 7000)
    sock.close()
