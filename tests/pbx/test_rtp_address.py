"""Between Asterisk and the bridge stands a NAT: `asterisk.rtp_address` makes it work."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from tests.lab.capture import RATE, decode
from tests.lab.stack import ECHO_EXTENSION, Stack, capture

BRIDGE_SEEN, ASTERISK_SEEN = "127.0.0.5", "127.0.0.6"
"""What each of the two knows the other by; really both are at 127.0.0.1."""


class Nat:
    """Forwards RTP: what Asterisk sends to BRIDGE_SEEN comes to the bridge from ASTERISK_SEEN, and
    back. Ports stay."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._bridge_seen = _bound(BRIDGE_SEEN, port)
        self._asterisk_seen: dict[int, socket.socket] = {}
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.send(b"x")
        self._thread.join(10)
        for sock in (self._stop, self._stopped, self._bridge_seen, *self._asterisk_seen.values()):
            sock.close()

    def _run(self) -> None:
        while True:
            inner = {sock: port for port, sock in self._asterisk_seen.items()}
            ready, _, _ = select.select([self._stopped, self._bridge_seen, *inner], [], [])
            if self._stopped in ready:
                return
            for sock in ready:
                data, (_, port) = sock.recvfrom(4096)
                if sock is self._bridge_seen:
                    if port not in self._asterisk_seen:
                        self._asterisk_seen[port] = _bound(ASTERISK_SEEN, port)
                    self._asterisk_seen[port].sendto(data, ("127.0.0.1", self._port))
                else:
                    self._bridge_seen.sendto(data, ("127.0.0.1", inner[sock]))


def _bound(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    return sock


async def test_a_call_through_the_nat(tmp_path: Path) -> None:
    """Told where Asterisk's RTP really comes from, the bridge hears the caller and is heard."""
    settings = {
        "asterisk": {"rtp_address": ASTERISK_SEEN},
        "media": {"advertised_address": BRIDGE_SEEN},
    }
    said = np.rint(8000 * np.sin(np.arange(RATE) * 2 * np.pi * 500 / RATE)).astype(np.int16)
    with Stack(settings=settings) as stack:
        with Nat(stack.bridge.media_port):
            async with stack.phone() as phone:
                with capture(phone, tmp_path / "call.pcap") as packets:
                    await phone.dial(ECHO_EXTENSION)
                    await phone.speak(said, RATE)
                    await asyncio.sleep(2.0)
                    await phone.hangup()
        assert stack.pbx.wait_idle() == []
    came = [pcm for p in packets.packets if not p.sent and (pcm := decode(p)) is not None]
    echo = np.concatenate(came).astype(float)
    assert (np.abs(echo) > 1000).sum() > 0.7 * RATE * 2 / 3, "the caller heard himself"
    spectrum = np.abs(np.fft.rfft(echo))
    assert abs(spectrum.argmax() * RATE / len(echo) - 500) < 5
