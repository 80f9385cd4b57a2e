"""Table [media]: what may be written there, and which directory is taken where none is."""

import os
import tempfile
from pathlib import Path

import pytest

from bridge.media import settings
from bridge.media.server import Server
from bridge.media.settings import MediaSettings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": 65536}, "'port' must be between 0 and 65535"),
        ({"max_calls": 0}, "'max_calls' must be between 1 and 20000"),
        ({"playout_ms": 1001}, "'playout_ms' must be a multiple of 40"),
        ({"runtime_dir": ""}, "'runtime_dir' is empty; leave it out, or name a directory"),
        ({"runtime_dir": "/run/" + 92 * "x"}, "'runtime_dir' must be a path of at most 96 bytes"),
        ({"runtime_dir": "/run/" + 46 * "ä"}, "'runtime_dir' must be a path of at most 96 bytes"),
        ({"runtime_dir": "/run\0"}, "'runtime_dir' must be a path of at most 96 bytes"),
    ],
)
def test_says_what_is_wrong(given, message):
    with pytest.raises(ValueError, match=message):
        MediaSettings(**given)


def test_the_longest_directory_is_short_enough_for_a_socket():
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short) / ("x" * (96 - len(short) - 1))
        Server(MediaSettings(port=0, runtime_dir=str(folder), max_calls=1)).close()


def test_each_user_has_a_directory_of_his_own(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert MediaSettings().runtime_dir.endswith("/ari-bridge-1234")
    monkeypatch.setattr(settings, "_MEMORY", tmp_path / "none")
    assert MediaSettings().runtime_dir == "/tmp/ari-bridge-1234"


def test_a_small_file_system_in_memory_is_no_place(monkeypatch):
    """A container's /dev/shm: full, it would kill whoever writes there."""
    monkeypatch.setattr(settings, "_WORTH_BYTES", 1 << 60)
    assert MediaSettings().runtime_dir.startswith("/tmp/")
