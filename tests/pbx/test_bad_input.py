"""What an operator gets wrong first: one line on the terminal that names the cure.

The program is run as they run it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest

from tests.lab.asterisk import Asterisk
from tests.lab.bridge import to_toml
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY, free_port

WAIT_S = 30.0


@pytest.fixture
def tables(asterisk: Asterisk, redis: Redis, tmp_path: Path) -> dict[str, dict[str, object]]:
    """A configuration that works."""
    return {
        "asterisk": {
            "url": asterisk.ari_url,
            "username": asterisk.ari_username,
            "password": asterisk.ari_password,
            "app": f"app-{tmp_path.name}",  # apart from the session's other bridges
        },
        "media": {"port": free_port(socket.SOCK_DGRAM), "runtime_dir": str(tmp_path / "run")},
        "redis": {"url": redis.url},
        "agents": {"folder": str(REPOSITORY / "agents")},
    }


class Program:
    """`ari-bridge COMMAND` in a process of its own."""

    def __init__(self, command: str, folder: Path, text: str | None, **environment: str) -> None:
        self._said = folder / f"{command}.log"
        config = folder / "bridge.toml"
        if text is not None:
            config.write_text(text)
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bridge", command, "--config", config],
                stdout=said,
                stderr=said,
                env={**os.environ, **environment},
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    def ends(self) -> int:
        return self.process.wait(WAIT_S)

    def says(self, text: str) -> None:
        """Wait until it has said so, and goes on."""
        deadline = time.monotonic() + WAIT_S
        while text not in self.said:
            assert self.process.poll() is None, f"it ended: {self.said}"
            assert time.monotonic() < deadline, f"it never said '{text}': {self.said}"
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "bridge.toml can't be read"),
        ("[asterisk\n", "bridge.toml is no TOML"),
        ("[asterisk]\nurll = 'x'\n", "[asterisk]: unknown key 'urll'; did you mean 'url'?"),
        ("[asteriks]\n", "unknown key 'asteriks'; did you mean 'asterisk'?"),
        ("[asterisk]\nurl = 8088\n", "[asterisk]: 'url' is 8088; it takes a string"),
        ("[asterisk]\nurl = 'pbx'\n", "it takes something like http://HOST:8088"),
        ("[redis]\nurl = 'redis://host:x/0'\n", "[redis]: 'url' can't be used"),
        ("[media]\nruntime_dir = ''\n", "[media]: 'runtime_dir' is empty; leave it out"),
        (f"[media]\nruntime_dir = '/run/{'x' * 99}'\n", "must be a path of at most 96 bytes"),
        ("[agents]\nfolder = 'nowhere'\n", "nowhere is not there"),
    ],
)
def test_a_configuration_that_can_not_be_used(tmp_path, text, says):
    with Program("run", tmp_path, text) as program:
        assert program.ends() == 2
        assert says in program.said
        assert program.said.count("\n") == 1


def test_no_configuration_at_all(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 2
    assert "name one with --config, or make bridge.toml" in done.stderr


def test_a_wrong_password(tables, tmp_path):
    tables["asterisk"]["password"] = "not-this-one"
    with Program("run", tmp_path, to_toml(tables)) as program:
        assert program.ends() == 2
        assert "password" in program.said
        assert "not-this-one" not in program.said
        assert "Traceback" not in program.said


def test_a_port_in_use(tables, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        tables["media"]["port"] = other.getsockname()[1]
        with Program("run", tmp_path, to_toml(tables)) as program:
            assert program.ends() == 2
            assert f"{tables['media']['port']}" in program.said
            assert "[media] port" in program.said
            assert "Traceback" not in program.said


def test_asterisk_not_there_yet(tables, tmp_path):
    port = free_port()
    tables["asterisk"]["url"] = f"http://127.0.0.1:{port}"
    with Program("run", tmp_path, to_toml(tables)) as program:
        program.says(f"127.0.0.1:{port}")
        program.says("trying again")
        assert program.process.poll() is None
        assert "Traceback" not in program.said


def test_redis_not_there_yet(tables, tmp_path):
    with Redis() as redis:
        tables["redis"]["url"] = redis.url
        redis.stop()
        with Program("run", tmp_path, to_toml(tables)) as program:
            program.says("start it or set redis.url; trying again")
            redis.start()
            program.says("ready: Asterisk")
            assert "Traceback" not in program.said


def test_a_missing_extra(tables, tmp_path):
    """Other agents are served all the same."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    # A module of that name that says it is not there, as one that isn't installed.
    (hidden / "moonshine_voice.py").write_text(
        "raise ModuleNotFoundError('No module named moonshine_voice', name='moonshine_voice')"
    )
    path = f"{hidden}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with Program("run", tmp_path, to_toml(tables), PYTHONPATH=path) as program:
        program.says("ready: Asterisk")
        assert "pip install 'ari-bridge[offline]'" in program.said
        assert "Traceback" not in program.said


def test_stops_in_order_and_at_once(tables, tmp_path):
    with Program("run", tmp_path, to_toml(tables)) as program:
        program.says("ready: Asterisk")
        began = time.monotonic()
        program.process.terminate()
        assert program.ends() == 0
        assert time.monotonic() - began < 10
        assert "Traceback" not in program.said
