"""Launchers, their children, and what those find out of one another by locks."""

import os
import subprocess
import sys

import pytest

from bridge import keeper
from bridge.errors import ConfigError

HOLD = """
import sys
from pathlib import Path
from bridge import keeper
keeper.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def launcher(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    with process:
        yield process
        process.kill()


def test_one_launcher_a_directory(tmp_path, launcher, monkeypatch):
    monkeypatch.setattr(keeper, "_PATIENCE_S", 0)
    assert keeper.holder(tmp_path) == launcher.pid
    with pytest.raises(ConfigError, match=f"process {launcher.pid}"):
        keeper.take(tmp_path)


def test_a_killed_launcher_holds_nothing(tmp_path, launcher):
    launcher.kill()
    launcher.wait()
    assert keeper.holder(tmp_path) is None
    lock = keeper.take(tmp_path)
    assert keeper.holder(tmp_path) == os.getpid()
    os.close(lock)
    assert keeper.holder(tmp_path) is None


def test_without_a_directory_there_is_nobody(tmp_path):
    assert keeper.holder(tmp_path / "none") is None
    assert not keeper.somebody_stands_by(tmp_path / "none")
    with pytest.raises(ConfigError, match="runtime_dir"):
        keeper.take(tmp_path / os.fsdecode(b"x" * 300))


def test_an_orphan_has_another_parent(monkeypatch):
    monkeypatch.delenv(keeper.LAUNCHER, raising=False)
    assert not keeper.orphaned(), "a service manager's"
    monkeypatch.setenv(keeper.LAUNCHER, str(os.getppid()))
    assert not keeper.orphaned()
    monkeypatch.setenv(keeper.LAUNCHER, str(os.getpid()))
    assert keeper.orphaned()


def test_who_stands_by_is_seen_while_he_does(tmp_path):
    assert not keeper.somebody_stands_by(tmp_path)
    spares = [keeper.stand_by(tmp_path), keeper.stand_by(tmp_path)]
    assert keeper.somebody_stands_by(tmp_path)
    os.close(spares.pop())
    assert keeper.somebody_stands_by(tmp_path)
    os.close(spares.pop())
    assert not keeper.somebody_stands_by(tmp_path)
