"""Calls whose audio comes by WebSocket and TLS, through the relay: real ones."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pytest

from bridge import config
from bridge.check import pbx, rtp
from bridge.errors import PbxGone, PbxRefused
from bridge.pbx.settings import AsteriskSettings
from bridge.relay.client import RelayClient
from tests.demo.voice import clip
from tests.lab.capture import RATE, Capture
from tests.lab.certificate import Authority
from tests.lab.root import program
from tests.lab.stack import ECHO_EXTENSION, Stack, capture
from tests.pbx.test_calls import Memory, likeness, received, until

LOST = "its audio connection ended; making another"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    table = {
        # Known once Asterisk has its directory: then the bridge reads them.
        "url": lambda: f"https://127.0.0.1:{stack.pbx.wss_port}",
        "ca_file": lambda: str(stack.pbx.certificate),
        "media_transport": "websocket",
    }
    stack = Stack(settings={"asterisk": table})
    with stack:
        yield stack
        assert stack.pbx.wait_idle() == []


@pytest.fixture
def settings(stack: Stack) -> AsteriskSettings:
    return config.load(stack.bridge.directory / "bridge.toml").asterisk[0]


def serving(stack: Stack) -> int:
    """Process id of the relay that has the lock."""
    lock = (stack.bridge.runtime_dir / "relay.lock").stat()
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{lock.st_ino}"):
            return int(words[4])
    raise AssertionError("no relay serves")


def udp_ports(pid: int) -> set[int]:
    """Those that a process has."""
    inodes = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(handle.readlink()))
        except FileNotFoundError:
            continue
    lines = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return {int(f[1].rpartition(":")[2], 16) for f in lines if f"socket:[{f[9]}]" in inodes}


async def test_a_call_goes_on_when_the_relay_dies(stack: Stack, tmp_path: Path) -> None:
    """The caller hears his own words again, before the relay's death and after it; Asterisk sends
    the media process nothing itself."""
    words = clip("Where can I park?")
    memory = Memory(stack)
    port = stack.bridge.media_port
    tcpdump = str(program("tcpdump"))
    async with stack.phone() as phone:
        with (
            capture(phone, tmp_path / "call.pcap") as packets,
            Capture(tmp_path / "media.pcap", range(port, port + 1), program=tcpdump) as inner,
        ):
            await phone.dial(ECHO_EXTENSION)
            await until(lambda: memory.record().get("media_port"), "it goes by the relay")
            first = serving(stack)
            mine = int(memory.record()["media_port"])
            assert udp_ports(first) == {mine}
            await asyncio.sleep(0.3 + await phone.speak(words.pcm, RATE))
            before, channel = len(packets.packets), memory.record()["media_id"]

            os.kill(first, signal.SIGKILL)
            await until(lambda: memory.record()["media_id"] != channel, "it has another channel")
            second = serving(stack)
            assert second != first
            assert udp_ports(second) == {mine}, "the same, so that media notices nothing"
            after = len(packets.packets)
            await asyncio.sleep(0.5 + await phone.speak(words.pcm, RATE))
            assert memory.record()["state"] == "talking"
            await phone.hangup()
            await until(lambda: memory.record()["state"] == "ended", "the call has ended")
    assert stack.bridge.log().count(LOST) == 1
    sound = received(packets, phone)
    assert likeness(sound, words.pcm) > 0.98
    packets.packets[:] = packets.packets[after:]
    assert likeness(received(packets, phone), words.pcm) > 0.98
    assert before < after
    kinds = {p.pt for p in inner.packets}
    ends = _ends(tmp_path / "media.pcap")
    assert (kinds, ends) == ({0}, {("127.0.0.1", mine), ("127.0.0.1", port)})
    assert udp_ports(second) == set()


async def test_what_the_relay_does_not_do(stack: Stack) -> None:
    relay = RelayClient(stack.bridge.runtime_dir, "", lambda: ("127.0.0.1", 1))
    with pytest.raises(PbxGone, match="knows no such channel"):
        await relay.open("0" * 8, relay.media, "PCMU")
    with pytest.raises(PbxRefused, match="would leave it unencrypted"):
        await relay.open("0" * 8, ("192.0.2.7", 7000), "PCMU")
    with pytest.raises(PbxRefused, match=r"doesn't understand: .*codec OPUS"):
        await relay.open("0" * 8, relay.media, "OPUS")
    other = RelayClient(stack.bridge.runtime_dir, "another", lambda: ("127.0.0.1", 1))
    with pytest.raises(PbxRefused, match="doesn't understand"):
        await other.open("0" * 8, relay.media, "PCMU")
    assert udp_ports(serving(stack)) == set()


def _ends(file: Path) -> set[tuple[str, int]]:
    """Addresses of all UDP in a capture."""
    found = set()
    with file.open("rb") as pcap:
        for _, frame in dpkt.pcap.Reader(pcap):
            ip = dpkt.ethernet.Ethernet(frame).data
            found.add((socket.inet_ntoa(ip.src), ip.data.sport))
            found.add((socket.inet_ntoa(ip.dst), ip.data.dport))
    return found


async def test_what_is_wrong_is_named(
    stack: Stack, settings: AsteriskSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtp, "PACKETS", 20)
    media = config.load(stack.bridge.directory / "bridge.toml").media

    async def found(**changes: object) -> dict[str, tuple[str, str]]:
        changed = AsteriskSettings(**{**vars(settings), **changes})
        told = await pbx.findings(changed, media, [])
        return {one.check: (one.state, f"{one.said}: {one.cure}") for one in told}

    told = await found()
    assert {state for state, _ in told.values()} == {"ok"}, told
    assert "by WebSocket and TLS: round trip" in told["rtp"][1]
    assert "0.0 % of 40 packets lost" in told["rtp"][1]
    assert "sends PCMU, PCMA, L16, G722" in told["codecs"][1]
    other = Authority(tmp_path, "a stranger").file
    state, text = (await found(ca_file=str(other)))["asterisk"]
    assert (state, "can't be trusted" in text, "set [asterisk] ca_file" in text) == (
        "fail",
        True,
        True,
    )
    state, text = (await found(url=f"https://127.0.0.1:{stack.pbx.ari_port}"))["asterisk"]
    assert (state, "speaks no TLS" in text) == ("fail", True)
    stack.pbx.cli("module unload chan_websocket.so")
    try:
        told = await found()
        assert told["modules"][0] == told["rtp"][0] == "fail"
        assert "'module load chan_websocket.so'" in told["modules"][1]
        assert "needs chan_websocket.so running" in told["rtp"][1]
    finally:
        stack.pbx.cli("module load chan_websocket.so")
