"""Numbers that wrap: how far one lies from another (RFC 1982, RFC 3550 A.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ahead16(number: NDArray[np.int64], reference: NDArray[np.int64]) -> NDArray[np.int64]:
    """By how much sequence numbers are ahead of `reference`: -32768 ... 32767."""
    return ((number - reference + 0x8000) & 0xFFFF) - 0x8000


def ahead32(stamp: NDArray[np.int64], reference: NDArray[np.int64]) -> NDArray[np.int64]:
    """By how much timestamps are ahead of `reference`: -2^31 ... 2^31 - 1."""
    return ((stamp - reference + 0x80000000) & 0xFFFFFFFF) - 0x80000000
