"""What each call's next outgoing packet carries: sequence number, timestamp, SSRC, marker.

RFC 3550 5.1: the sequence number rises by one a packet, the timestamp with the sampling clock,
whether a packet is sent or not. RFC 3551 4.1: the marker stands on the first packet of a talkspurt,
that is on the first of all and after every pause in which nothing was sent. Start values are
random, or ahead of what was sent before us: Asterisk drops packets whose numbers go back on a
transcoded leg.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.audio.columns import Column, Columns

SPEC = {
    "out_ssrc": Column("u4"),
    "out_seq": Column("i8"),
    "out_ts": Column("i8"),
    "out_marker": Column("?", 1),
}


class Packetizer:
    """Numbers outgoing packets of all calls."""

    def __init__(self, columns: Columns) -> None:
        """Keep the numbers in `columns` (see `SPEC`)."""
        self.ssrc, self.seq = columns["out_ssrc"], columns["out_seq"]
        self.ts, self.marker = columns["out_ts"], columns["out_marker"]

    def begin(self, call: int, ssrc: int, seq: int, ts: int) -> None:
        """Set a call's start values."""
        self.ssrc[call], self.seq[call], self.ts[call] = ssrc, seq & 0xFFFF, ts & 0xFFFFFFFF
        self.marker[call] = True

    def number(
        self, calls: NDArray[np.intp], step: int | NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
        """Take the next packet's marker, sequence number, timestamp, SSRC for each of `calls`.

        Args:
            calls: rows, each at most once.
            step: clock units that the packet lasts.
        """
        marker, seq, ts = self.marker[calls], self.seq[calls], self.ts[calls]
        self.marker[calls] = False
        self.seq[calls] = (seq + 1) & 0xFFFF
        self.ts[calls] = np.bitwise_and(ts + step, 0xFFFFFFFF)
        return marker, seq, ts, self.ssrc[calls]

    def pass_over(self, calls: NDArray[np.intp], step: int | NDArray[np.int64]) -> None:
        """Time goes by and nothing is sent: the next packet begins a talkspurt."""
        self.ts[calls] = np.bitwise_and(self.ts[calls] + step, 0xFFFFFFFF)
        self.marker[calls] = True
