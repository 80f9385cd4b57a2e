"""Batches over a real socket, fast and portable alike."""

import select
import socket

import numpy as np
import pytest

from bridge.errors import MediaError
from bridge.media.udp import ROOM, Link, Portable, ip_number, key, make_link, open_socket

HOME = ip_number("127.0.0.1")


@pytest.fixture(params=[Link, Portable])
def link(request):
    sock = open_socket("127.0.0.1", 0)
    yield request.param(sock, 4, 200)
    sock.close()


@pytest.fixture
def peer():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def wait(link):
    assert select.select([link.socket], [], [], 5)[0]


def test_a_batch_in(link, peer):
    for data in (b"a", b"", b"x" * 1500):
        peer.sendto(data, link.socket.getsockname())
    wait(link)
    n, length, sender = link.receive()
    assert (n, length.tolist()) == (3, [1, 0, 1500])
    mine = key(np.array([HOME]), np.array([peer.getsockname()[1]]))[0]
    assert sender.tolist() == [mine] * 3
    assert link.buffer[2, :1500].tobytes() == b"x" * 1500
    assert link.receive()[0] == 0


def test_a_datagram_too_long_is_told(link, peer):
    peer.sendto(b"x" * (ROOM + 500), link.socket.getsockname())
    wait(link)
    n, length, _ = link.receive()
    assert n == 1
    assert length[0] > ROOM


def test_a_batch_out(link, peer):
    link.set_remote(1, HOME, peer.getsockname()[1])
    link.set_remote(3, HOME, peer.getsockname()[1])
    link.out[0, :3], link.out[1, :3] = 65, 66
    assert link.send(np.array([3, 1]), np.array([3, 2])) == 2
    assert [peer.recv(100), peer.recv(100)] == [b"AAA", b"BB"]


def test_a_dead_peer_does_no_harm(link, peer):
    link.set_remote(0, HOME, 9)  # nobody there: ICMP comes back
    link.set_remote(1, HOME, peer.getsockname()[1])
    for _ in range(5):
        link.send(np.array([0, 1]), 4)
        link.receive()
    assert [peer.recv(10) for _ in range(5)]


def test_an_address_that_can_not_be_sent_to_is_passed_over(link, peer):
    link.set_remote(0, ip_number("255.255.255.255"), 9)  # EACCES without SO_BROADCAST
    link.set_remote(1, HOME, peer.getsockname()[1])
    assert link.send(np.array([1, 0, 1]), 4) == 2
    assert link.errors == 1


def test_an_error_that_stays_does_not_keep_us(link):
    link.socket.close()  # every system call on it fails from now on
    assert link.receive()[0] == 0
    assert link.errors > 0


def test_the_fast_one_is_chosen_here():
    sock = open_socket("127.0.0.1", 0)
    assert isinstance(make_link(sock, 1, 200), Link)
    sock.close()


def test_a_port_in_use():
    taken = open_socket("127.0.0.1", 0)
    with pytest.raises(MediaError, match=r"in use.*set another \[media\] port"):
        open_socket("127.0.0.1", taken.getsockname()[1])
    taken.close()


def test_an_address_of_another_machine():
    with pytest.raises(MediaError, match="listen_address"):
        open_socket("192.0.2.1", 0)
