"""What of an Asterisk can't be broken on a real one: tests/pbx/test_check.py has the rest."""

import contextlib
import itertools
import socket
from dataclasses import dataclass, field

import pytest

from bridge.check import asterisk, pbx
from bridge.check.finding import Finding
from bridge.media.settings import MediaSettings
from bridge.pbx.settings import AsteriskSettings
from bridge.relay.client import SOCKET


@dataclass
class Ari:
    """Has all modules, and answers."""

    version: str = "22.10.1"
    missing: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    async def open(self):
        """It is there."""

    async def call(self, name, **_):
        self.asked.append(name)
        return [{"name": one} for one in asterisk._MODULES if one not in self.missing]


@pytest.mark.parametrize(("took_s", "state"), [(0.09, "ok"), (0.11, "warn")])
async def test_one_that_is_far_away(monkeypatch, took_s, state):
    clock = itertools.count(0.0, took_s)
    monkeypatch.setattr(asterisk.time, "monotonic", lambda: next(clock))
    one, _ = await asterisk.findings(Ari(), AsteriskSettings())
    assert (one.state, "bring the two nearer" in one.cure) == (state, state == "warn")


@pytest.mark.parametrize("name", sorted(asterisk._MODULES))
async def test_each_module_that_calls_need(name):
    _, one = await asterisk.findings(Ari(missing=(name,)), AsteriskSettings())
    assert one.state == ("warn" if name in asterisk._WORKS_WITHOUT else "fail")
    assert f"{name} isn't running: {asterisk._MODULES[name]}" in one.said
    assert f"module load {name}" in one.cure


class Call:
    """A test call that goes well."""

    channel = ""

    def __init__(self, *_):
        """Nobody is called."""

    @contextlib.asynccontextmanager
    async def open(self, port):
        yield

    async def measure(self):
        return Finding("rtp", "ok", "both ways")

    async def codecs(self):
        return Finding("codecs", "ok", "all")


async def test_a_bridge_whose_relay_is_gone(monkeypatch, tmp_path):
    monkeypatch.setattr(pbx, "TestCall", Call)
    monkeypatch.setattr(pbx, "media_runs", lambda media: True)
    settings = AsteriskSettings(url="https://127.0.0.1:9", media_transport="websocket")
    media = MediaSettings(runtime_dir=str(tmp_path))

    async def states():
        found = await pbx._called(Ari(), settings, media, [], "")
        return {one.check: one.state for one in found}

    assert (await states())["relay"] == "fail"
    with socket.socket(socket.AF_UNIX) as relay:
        relay.bind(str(tmp_path / SOCKET))
        assert (await states())["relay"] == "fail", "nobody listens"
        relay.listen()
        assert "relay" not in await states()
