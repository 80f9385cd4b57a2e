"""Packets to which nothing has happened, known by one comparison.

Nearly every packet is the one that was due: the next number, the next timestamp, the same source,
SSRC, type and size as the one before it. So for each call we keep what the header of such a packet
would be, as a row of `FIELDS` numbers; whoever has just that header needs no parsing, no jitter
buffer and no look at its audio time. All others go the general way (`header.parse`, `JitterBank`,
`Timeline.place`), which is right for any packet, and costs ten times more.

An expectation stands only while nothing is out of the ordinary with its call. Who sees to that:
`forget` takes it away before a packet goes the general way, and whenever the clock supplies frames
or a correction is due; `expect` sets it after a packet that went up whole while nothing waited.
Numbers that wrap match nothing, so that one packet goes the general way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.rtp.header import HEADER_BYTES

FIELDS = 5
"""First word of the header, timestamp, SSRC, length of the datagram, source."""
_VERSION = 0x80 << 24


def fields(
    buffer: NDArray[np.uint8], length: NDArray[np.int64], source: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What is compared, (n, FIELDS), of datagrams in `buffer` (n, room)."""
    found = np.empty((len(length), FIELDS), np.int64)
    found[:, :3] = buffer[:, :HEADER_BYTES].view(">u4")
    found[:, 3] = length
    found[:, 4] = source
    return found


class Ordinary:
    """What every call's next packet looks like if it is an ordinary one."""

    def __init__(self, calls: int) -> None:
        """Expects nothing of any call."""
        self._next = np.full((calls, FIELDS), -1, np.int64)
        self._newest = np.zeros(calls, np.intp)

    def match(self, call: NDArray[np.intp], found: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which datagrams (n, FIELDS) are their calls' next packets; of twins, only one."""
        plain: NDArray[np.bool_] = ~(found != self._next[call]).any(axis=1)
        rows = np.arange(len(call))
        self._newest[call] = rows
        once = self._newest[call] == rows
        if not once.all():
            # An expected packet and others of its call; the others' turn is after it.
            of = call[plain]
            self._newest[of] = np.flatnonzero(plain)
            plain &= self._newest[call] == rows
        return plain

    def go_on(self, call: NDArray[np.intp], found: NDArray[np.int64], step: int) -> None:
        """Ordinary packets have gone up, each `step` units of the RTP clock long."""
        self._next[call] = found + np.array([1, step, 0, 0, 0])

    def expect(
        self,
        call: NDArray[np.intp],
        payload_type: int,
        seq: NDArray[np.int64],
        timestamp: NDArray[np.int64],
        ssrc: NDArray[np.int64],
        size: NDArray[np.int64],
        source: NDArray[np.int64],
    ) -> None:
        """After a packet the general way: what comes next has these numbers, and as many bytes."""
        row = np.empty((len(call), FIELDS), np.int64)
        row[:, 0] = _VERSION | payload_type << 16 | seq
        row[:, 1], row[:, 2], row[:, 3] = timestamp, ssrc, size + HEADER_BYTES
        row[:, 4] = source
        self._next[call] = row

    def forget(self, call: NDArray[np.intp] | int) -> None:
        """Expect nothing, until `expect`."""
        self._next[call] = -1
