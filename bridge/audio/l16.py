"""L16 (RFC 3551 4.5.11): linear 16-bit samples in network byte order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def encode(pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
    """(calls, n) int16 to (calls, 2 n) bytes."""
    return pcm.astype(">i2").view(np.uint8)


def decode(payload: NDArray[np.uint8]) -> NDArray[np.int16]:
    """(calls, 2 n) bytes to (calls, n) int16; an odd last byte is cut off."""
    whole = payload[..., : payload.shape[-1] // 2 * 2]
    return np.ascontiguousarray(whole).view(">i2").astype(np.int16)
