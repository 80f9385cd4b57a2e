"""What this machine lacks is named with its cure."""

import resource

import pytest

from bridge.check import system
from bridge.media.settings import MediaSettings


@pytest.fixture
def media(tmp_path):
    return MediaSettings(runtime_dir=str(tmp_path / "run"), max_calls=10)


def found(media):
    return {one.check: one for one in system.findings(media)}


def test_every_check_says_something(media):
    all_of_them = found(media)
    assert list(all_of_them) == ["sockets", "files", "slots", "time", "priority"]
    assert all(one.said for one in all_of_them.values())
    assert all(one.cure for one in all_of_them.values() if one.state in ("warn", "fail"))


def test_too_few_files(media, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (100, 4096))
    one = found(media)["files"]
    assert (one.state, one.figures["needed"]) == ("fail", 240)
    assert "LimitNOFILE=240" in one.cure
    monkeypatch.setattr(resource, "getrlimit", lambda what: (240, 4096))
    assert found(media)["files"].state == "ok"


def test_small_socket_buffers(media, monkeypatch):
    monkeypatch.setattr(system, "BUFFER", 1)
    assert found(media)["sockets"].state == "ok"
    monkeypatch.setattr(system, "BUFFER", 1 << 60)
    assert found(media)["sockets"].state == "warn"


def test_slots_without_room_or_on_a_disk(media, monkeypatch):
    monkeypatch.setattr(system, "SLOT_MIB", 1e12)
    assert found(media)["slots"].state == "fail"
    monkeypatch.setattr(system, "SLOT_MIB", 0.0)
    monkeypatch.setattr(system, "_type_of", lambda place: "ext4")
    one = found(media)["slots"]
    assert (one.state, "/dev/shm" in one.cure) == ("warn", True)
    monkeypatch.setattr(system, "_type_of", lambda place: "tmpfs")
    assert found(media)["slots"].state == "ok"


def test_slots_that_others_may_write(media, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o777)
    one = found(media)["slots"]
    assert (one.state, "is not ours alone" in one.said) == ("fail", True)


def test_slots_of_another_user(media, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(system.os, "geteuid", lambda: 12345)
    one = found(media)["slots"]
    assert (one.state, one.cure) == ("warn", "check as the user that the bridge runs as")


def test_the_file_system_of_a_place():
    assert system._type_of(system.Path("/proc/self")) == "proc"


@pytest.mark.parametrize(("status", "state"), [(0, "ok"), (0x40, "warn")])
def test_a_clock_that_nothing_keeps_right(media, monkeypatch, status, state):
    class Kernel:
        def adjtimex(self, buffer):
            buffer[40:44] = status.to_bytes(4, "little")
            return 0

    monkeypatch.setattr(system.ctypes, "CDLL", lambda *_, **__: Kernel())
    one = found(media)["time"]
    assert (one.state, "chrony" in one.cure) == (state, state == "warn")


@pytest.mark.parametrize(("user", "nice", "state"), [(0, 0, "ok"), (9, 31, "ok"), (9, 30, "warn")])
def test_a_media_process_that_may_not_raise_its_priority(media, monkeypatch, user, nice, state):
    monkeypatch.setattr(system.os, "geteuid", lambda: user)
    monkeypatch.setattr(resource, "getrlimit", lambda what: (nice, nice))
    one = found(media)["priority"]
    assert (one.state, "LimitNICE" in one.cure) == (state, state == "warn")
