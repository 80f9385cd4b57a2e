"""A bad network between a phone and Asterisk: a seeded UDP relay that loses and delays packets.

The phone dials the relay instead of Asterisk. SIP passes it unharmed, but for the places that the
two tell each other: every address in a session description (RFC 4566 `c=` and `m=`) becomes one of
the relay's, so that RTP and RTCP pass it too, and every Contact, so that requests inside the call
do. RTP and RTCP are impaired both ways alike: each packet is lost with probability `loss`, and else
held for a time that is uniform between 0 and twice `jitter_ms`. Nothing keeps their order: at 30 ms
a packet often comes after the next ones.

One call at a time. One thread does it all, with a heap of what is to leave when.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
import select
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.lab.capture import RATE, RtpPacket, decode
from tests.lab.root import free_range

Address = tuple[str, int]
_IP = "127.0.0.1"


@dataclass
class Counts:
    """Of RTP and RTCP packets, both ways."""

    passed: int = 0
    lost: int = 0
    delays_ms: list[float] = field(default_factory=list)


@dataclass
class _Media:
    """One stream: what comes to `inner` from Asterisk leaves `outer` for the phone, and back."""

    inner: socket.socket
    outer: socket.socket
    phone: Address | None = None
    pbx: Address | None = None


def as_played(packets: Sequence[RtpPacket]) -> list[RtpPacket]:
    """What a phone plays of a capture: for up to three lost packets in a row, the last one again.

    Every phone conceals a loss in some such way; a person never hears the hole itself.
    """
    received = [p for p in packets if not p.sent and decode(p) is not None]
    known = {(p.ssrc, p.seq) for p in received}
    made = []
    for p in received:
        size = len(p.payload)
        for k in range(1, 4):
            seq = (p.seq + k) & 0xFFFF
            if (p.ssrc, seq) in known:
                break
            if not any((p.ssrc, (seq + more) & 0xFFFF) in known for more in range(1, 4 - k + 1)):
                break  # no loss: the stream has ended
            made.append(
                p._replace(seq=seq, ts=(p.ts + k * size) & 0xFFFFFFFF, at=p.at + k * size / RATE)
            )
    return sorted([*packets, *made], key=lambda p: p.at)


class Relay:
    """`with Relay(asterisk_port, loss=0.03, jitter_ms=30) as relay:` and dial `relay.port`.

    Args:
        pbx_port: Asterisk's SIP port, UDP, on 127.0.0.1.
        loss: share of media packets that are lost, each way.
        jitter_ms: mean delay of media packets.
        seed: of both.
    """

    def __init__(
        self, pbx_port: int, *, loss: float = 0.0, jitter_ms: float = 0.0, seed: int = 1
    ) -> None:
        self._pbx: Address = (_IP, pbx_port)
        self._phone: Address | None = None
        self.loss, self.jitter_ms = loss, jitter_ms
        self._random = random.Random(seed)
        self.counts = Counts()
        self.error: BaseException | None = None
        self._sip_outer, self._sip_inner = _bound(0), _bound(0)
        inner, outer = free_range(2), free_range(2)  # RTP, and RTCP on the next port
        self._streams = [_Media(_bound(inner + k), _bound(outer + k)) for k in range(2)]
        self._later: list[tuple[float, int, socket.socket, bytes, Address]] = []
        self._order = itertools.count()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    @property
    def port(self) -> int:
        """Where the phone finds "Asterisk"."""
        return _port(self._sip_outer)

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
        for sock in self._sockets():
            sock.close()
        self._stop.close()
        if self.error is not None and error is None:
            raise self.error

    # ---- the thread

    def _sockets(self) -> list[socket.socket]:
        media = [sock for stream in self._streams for sock in (stream.inner, stream.outer)]
        return [self._stopped, self._sip_outer, self._sip_inner, *media]

    def _run(self) -> None:
        try:
            while self._round():
                pass
        except BaseException as error:
            self.error = error
            raise

    def _round(self) -> bool:
        wait = max(0.0, self._later[0][0] - time.monotonic()) if self._later else None
        ready, _, _ = select.select(self._sockets(), [], [], wait)
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            _, _, sock, data, to = heapq.heappop(self._later)
            sock.sendto(data, to)
        for sock in ready:
            if sock is self._stopped:
                return False
            data, sender = sock.recvfrom(65536)
            if sock is self._sip_outer:
                self._phone = sender
                self._sip_inner.sendto(self._rewritten(data, from_phone=True), self._pbx)
            elif sock is self._sip_inner:
                if self._phone is not None:
                    told = self._rewritten(data, from_phone=False)
                    self._sip_outer.sendto(told, self._phone)
            else:
                self._impair(sock, data)
        return True

    def _impair(self, sock: socket.socket, data: bytes) -> None:
        stream = next(s for s in self._streams if sock in (s.inner, s.outer))
        inward = sock is stream.outer
        out, to = (stream.inner, stream.pbx) if inward else (stream.outer, stream.phone)
        if to is None:
            return  # it speaks before it was told where to
        if self._random.random() < self.loss:
            self.counts.lost += 1
            return
        delay = self._random.uniform(0, 2 * self.jitter_ms)
        self.counts.passed += 1
        self.counts.delays_ms.append(delay)
        entry = (time.monotonic() + delay / 1000, next(self._order), out, data, to)
        heapq.heappush(self._later, entry)

    # ---- SIP

    def _rewritten(self, data: bytes, *, from_phone: bool) -> bytes:
        """A SIP message with our places for the sender's."""
        head, gap, body = data.partition(b"\r\n\r\n")
        ours = _port(self._sip_inner if from_phone else self._sip_outer)
        head = re.sub(rb"(?im)^((?:contact|m):[^\r\n]*?@127\.0\.0\.1):\d+", rb"\1:%d" % ours, head)
        if b"application/sdp" in head.lower():
            body = self._described(body, from_phone=from_phone)
            head = re.sub(rb"(?im)^(content-length|l):[^\r\n]*", rb"\1: %d" % len(body), head)
        return head + gap + body

    def _described(self, body: bytes, *, from_phone: bool) -> bytes:
        """A session description whose audio is at the relay."""
        address = re.search(rb"(?m)^c=IN IP4 ([\d.]+)", body)
        audio = re.search(rb"(?m)^m=audio (\d+)", body)
        if address is None or audio is None:
            return body
        ip, port = address.group(1).decode(), int(audio.group(1))
        for number, stream in enumerate(self._streams):
            if from_phone:
                stream.phone = ip, port + number
            else:
                stream.pbx = ip, port + number
        rtp, rtcp = (s.inner if from_phone else s.outer for s in self._streams)
        body = re.sub(rb"(?m)^(m=audio) \d+", rb"\1 %d" % _port(rtp), body)
        body = re.sub(rb"(?m)^(c=IN IP4) [\d.]+", rb"\1 " + _IP.encode(), body)
        return re.sub(rb"(?m)^(a=rtcp:)\d+[^\r\n]*", rb"\g<1>%d" % _port(rtcp), body)


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((_IP, port))
    return sock


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])
