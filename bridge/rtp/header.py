"""RTP headers of many packets at once (RFC 3550 section 5.1).

`parse` judges a batch of datagrams and says of each where its payload lies, or why it is not used;
nothing that a datagram holds makes it raise. The twelve fixed bytes are read through one structured
view over the whole receive buffer; only packets with CSRCs, an extension or padding cost more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 12
_FIXED = np.dtype([("b0", "u1"), ("b1", "u1"), ("seq", ">u2"), ("ts", ">u4"), ("ssrc", ">u4")])
_PLAIN = 0x80  # version 2; no padding, no extension, no CSRC


class Cause(IntEnum):
    """Why a datagram is not used; `OK` if it is."""

    OK = 0
    TRUNCATED = 1
    """Shorter than its own header says."""
    OVERSIZED = 2
    """Longer than any packet of ours may be."""
    VERSION = 3
    RTCP = 4
    """RTCP on the same port (RFC 5761 section 4)."""
    PADDING = 5
    """A padding count of zero or beyond the packet."""


@dataclass(slots=True)
class Headers:
    """What `parse` found, one row a datagram; rows with a cause other than OK hold rubbish."""

    cause: NDArray[np.uint8]
    payload_type: NDArray[np.uint8]
    marker: NDArray[np.bool_]
    seq: NDArray[np.int64]
    timestamp: NDArray[np.int64]
    ssrc: NDArray[np.int64]
    offset: NDArray[np.int64]
    """Where the payload begins in its row."""
    size: NDArray[np.int64]
    """Payload bytes."""


def parse(buffer: NDArray[np.uint8], length: NDArray[np.integer]) -> Headers:
    """Parse datagrams.

    Args:
        buffer: (n, room) bytes, C-contiguous rows, room ≥ 16; what lies beyond a datagram may be
            anything.
        length: (n,) bytes of each datagram as received; more than `room` means it was cut off.
    """
    n, room = buffer.shape
    fixed = headers_view(buffer)
    size = length.astype(np.int64)
    cause = np.zeros(n, np.uint8)
    b0, b1 = fixed["b0"], fixed["b1"]
    offset = np.full(n, HEADER_BYTES, np.int64)
    if (b0 != _PLAIN).any():
        size, cause = _unusual(buffer, b0, size, offset, cause)
    kind: NDArray[np.uint8] = (b1 & 0x7F).astype(np.uint8)
    # RFC 5761 section 4: RTCP's packet types 192 to 223 are payload types 64 to 95 with a marker.
    cause[(kind >= 64) & (kind < 96)] = Cause.RTCP
    payload = size - offset
    cause[payload < 0] = Cause.TRUNCATED
    cause[b0 >> 6 != 2] = Cause.VERSION
    cause[length < HEADER_BYTES] = Cause.TRUNCATED
    cause[length > room] = Cause.OVERSIZED
    return Headers(
        cause=cause,
        payload_type=kind,
        marker=b1 >= 0x80,
        seq=fixed["seq"].astype(np.int64),
        timestamp=fixed["ts"].astype(np.int64),
        ssrc=fixed["ssrc"].astype(np.int64),
        offset=offset,
        size=payload,
    )


def _unusual(
    buffer: NDArray[np.uint8],
    b0: NDArray[np.uint8],
    size: NDArray[np.int64],
    offset: NDArray[np.int64],
    cause: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Move `offset` behind CSRCs and extension, and take the padding off `size`."""
    rows = np.arange(len(b0))
    room = buffer.shape[1]
    offset += 4 * (b0 & 0x0F).astype(np.int64)
    extended = rows[(b0 & 0x10 != 0) & (offset + 4 <= np.minimum(size, room))]
    at = offset[extended]
    words = buffer[extended, at + 2].astype(np.int64) << 8 | buffer[extended, at + 3]
    offset[extended] += 4 + 4 * words
    # An extension that was announced and has no room for its own header is cut off.
    cut = (b0 & 0x10 != 0) & ~np.isin(rows, extended)
    offset[cut] = size[cut] + 1
    padded = rows[(b0 & 0x20 != 0) & (size > 0) & (size <= room)]
    count = buffer[padded, size[padded] - 1].astype(np.int64)
    bad = (count == 0) | (count > size[padded] - offset[padded])
    cause[padded[bad]] = Cause.PADDING
    size = size.copy()
    size[padded[~bad]] -= count[~bad]
    return size, cause


def headers_view(buffer: NDArray[np.uint8]) -> NDArray[np.void]:
    """The fixed header of each row of a (n, room) buffer, fields `b0 b1 seq ts ssrc`."""
    view: NDArray[np.void] = buffer[:, :HEADER_BYTES].view(_FIXED)[:, 0]
    return view


def serialise(
    view: NDArray[np.void],
    payload_type: NDArray[np.integer] | int,
    marker: NDArray[np.bool_],
    seq: NDArray[np.integer],
    timestamp: NDArray[np.integer],
    ssrc: NDArray[np.integer],
) -> None:
    """Write the headers of the first rows of a `headers_view`; numbers wrap at their width."""
    rows = view[: len(seq)]
    rows["b0"] = _PLAIN
    rows["b1"] = payload_type | marker.view(np.uint8) << 7
    rows["seq"] = seq
    rows["ts"] = timestamp
    rows["ssrc"] = ssrc
