"""What a service manager is told."""

import socket

import pytest

from bridge import notify


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """Its socket; gives what has come."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))

        def told():
            lines = []
            while True:
                try:
                    lines.append(sock.recv(4096).decode())
                except BlockingIOError:
                    return lines

        yield told


def test_it_is_told(manager):
    notify.ready("serves")
    notify.alive()
    notify.stopping()
    ready = "READY=1\nSTATUS=serves\nWATCHDOG=1"  # a spare that now serves lives
    assert manager() == [ready, "WATCHDOG=1", "STOPPING=1"]


def test_an_abstract_socket(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")  # the kernel chooses an abstract name
        name = sock.getsockname()
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name[1:].decode())
        notify.alive()
        assert sock.recv(4096) == b"WATCHDOG=1"


def test_who_does_not_read_holds_nobody_up(manager):
    for _ in range(10_000):  # more than any queue takes
        notify.alive()
    assert set(manager()) == {"WATCHDOG=1"}


@pytest.mark.parametrize("place", ["", "vsock:2:1", "/nowhere/at/all"])
def test_nobody_is_there(monkeypatch, place):
    monkeypatch.setenv("NOTIFY_SOCKET", place)
    notify.ready("serves")


@pytest.mark.parametrize(
    ("asked", "watched", "each_s"),
    [
        ("20000000", None, 10.0),
        ("20000000", "us", 10.0),
        ("20000000", "1", None),  # our parent is meant
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_how_often_a_sign_of_life_is_wanted(manager, monkeypatch, asked, watched, each_s):
    for name, value in (("WATCHDOG_USEC", asked), ("WATCHDOG_PID", watched)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(notify.os.getpid()) if value == "us" else value)
    assert notify.interval_s() == each_s


def test_none_is_wanted_where_nobody_could_get_it(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify.interval_s() is None
