"""Second-stage echo test: is what the caller's line brings what was just played to it?

The normalised cross-correlation of a piece of the caller's audio with what was played before it,
over all delays: near 1 for an echo however weak it is, well below for anybody else's voice. It
costs a Fourier transform of half a second, so it is asked for at an onset, not every frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ECHO = 0.5
"""From here on it is our own voice; onsets of two talkers stay below 0.3 (see the tests)."""
_LEAST = 20.0
"""Samples softer than this (root mean square) are nobody's voice."""


def likeness(heard: NDArray[np.int16], played: NDArray[np.int16]) -> tuple[float, float]:
    """How like `heard` is to some stretch of `played`.

    Args:
        heard: the caller's audio, int16 (n,).
        played: what was played up to the end of `heard`, int16 (m,), m > n: delays of 0 to m - n
            samples are looked at.

    Returns:
        The correlation coefficient, 0 to 1, at the best delay; and how much louder `heard` is than
        that stretch, in dB.
    """
    n, m = len(heard), len(played)
    # Pre-emphasis: what distinguishes two voices lies above their pitch.
    x, y = np.diff(heard.astype(np.float64)), np.diff(played.astype(np.float64))
    n, m = n - 1, m - 1
    size = 1 << (n + m - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(y, size) * np.conj(np.fft.rfft(x, size)), size)
    total = np.concatenate(([0.0], np.cumsum(y * y)))
    energy_y = total[n:] - total[: m - n + 1]
    energy_x = float(x @ x)
    loud = energy_y > n * _LEAST**2
    if energy_x < n * _LEAST**2 or not loud.any():
        return 0.0, 0.0
    ratio = np.zeros(m - n + 1)
    ratio[loud] = np.abs(product[: m - n + 1][loud]) / np.sqrt(energy_x * energy_y[loud])
    best = int(ratio.argmax())
    return float(ratio[best]), float(10 * np.log10(energy_x / energy_y[best]))
