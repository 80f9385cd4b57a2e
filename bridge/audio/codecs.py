"""The table of codecs: one row each. Adding one is one file and one row here.

`payload_type` is what Asterisk puts on its external media (facts tried on 22.10); it takes back
only static payload types, 0, 8, 9 and 10, so a codec names in `down` what goes the other way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.audio import g711, l16

Decode = Callable[[NDArray[np.uint8]], NDArray[np.int16]]
Encode = Callable[[NDArray[np.int16]], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Codec:
    """What the plane must know of a codec."""

    name: str
    number: int
    """Its number in the shared map: never given to another."""
    payload_type: int
    sample_rate: int
    """Hz, of the PCM that it stands for."""
    clock_rate: int
    """Hz, of its RTP timestamps."""
    bytes_per_ms: int
    decode: Decode
    """(calls, bytes) uint8 → (calls, samples) int16."""
    encode: Encode
    """(calls, samples) int16 → (calls, bytes) uint8."""
    down: str = ""
    """Codec of the other direction, if not itself."""


CODECS: dict[str, Codec] = {
    c.name: c
    for c in (
        Codec("PCMU", 1, 0, 8000, 8000, 8, g711.decode_ulaw, g711.encode_ulaw),
        Codec("PCMA", 2, 8, 8000, 8000, 8, g711.decode_alaw, g711.encode_alaw),
        Codec("L16", 3, 10, 8000, 8000, 16, l16.decode, l16.encode),
    )
}
BY_NUMBER: dict[int, Codec] = {c.number: c for c in CODECS.values()}
