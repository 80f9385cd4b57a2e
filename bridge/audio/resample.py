"""Streaming resampling by whole ratios between 8, 16, 24 and 48 kHz, for many streams at once.

A windowed-sinc low-pass in polyphase form, as one matrix: a block of 2.5 ms of input and the
filter's memory go through one matrix product and come out as a block of output. The delay is
constant, `DELAY_MS`, whatever the chunks; a stream cut anywhere gives the same samples. Images and
aliases lie ≥ 60 dB below from 0.6 kHz beyond the lower rate's half (Kaiser window); what is nearer,
a telephone line hasn't got.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

DELAY_MS = 2.0
RATES = (8000, 16000, 24000, 48000)
_BLOCK_MS = 2.5
_BETA = 6.2  # Kaiser: 64 dB
_MOST_FLOATS = 1 << 16
"""Of input at a time: 256 KB, so that what is made of it stays in the cache."""


@lru_cache(maxsize=32)
def _matrix(source: int, target: int) -> tuple[NDArray[np.float32], int, int, int]:
    """The product's matrix, input samples a block, output samples a block, memory in samples."""
    common = source * target // gcd(source, target)
    up, down = common // source, common // target
    half = int(DELAY_MS * common / 1000)
    at = np.arange(-half, half + 1)
    cut = min(source, target) / 2 * 0.97
    taps = np.sinc(2 * cut / common * at) * np.kaiser(2 * half + 1, _BETA)
    taps *= up / taps.sum()
    into, out = int(source * _BLOCK_MS / 1000), int(target * _BLOCK_MS / 1000)
    memory = -(-2 * half // up)
    matrix = np.zeros((memory + into, out))
    for column in range(out):
        newest = column * down  # on the common grid, the block's first input sample being 0
        for row in range(memory + into):
            tap = newest - (row - memory) * up
            if 0 <= tap <= 2 * half:
                matrix[row, column] = taps[tap]
    # Each output phase passes DC alike, so that a constant line has no ripple.
    matrix /= matrix.sum(axis=0, keepdims=True)
    return matrix.astype(np.float32), into, out, memory


class ResamplerBank:
    """`lanes` streams from one rate to another; each keeps its own memory."""

    def __init__(self, source: int, target: int, lanes: int) -> None:
        """Rates in Hz, both of `RATES`."""
        self.source, self.target = source, target
        self._matrix, self._into, self._out, self._keep = _matrix(source, target)
        self._memory = np.zeros((lanes, self._keep), np.float32)

    @property
    def block(self) -> int:
        """Input samples of a block: `process` takes whole ones."""
        return self._into

    def reset(self, lane: int) -> None:
        """Begin a lane's stream anew, with silence before it."""
        self._memory[lane] = 0

    def process(self, lanes: NDArray[np.intp], pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        """Resample the next samples of some streams.

        Args:
            lanes: (k,), each at most once.
            pcm: (k, n) int16, n a multiple of `block`.

        Returns:
            (k, n * target / source) int16.
        """
        k, n = pcm.shape
        blocks = n // self._into
        out = np.empty((k, blocks * self._out), np.int16)
        rows = max(1, _MOST_FLOATS // max(1, n))
        for start in range(0, k, rows):
            some = slice(start, start + rows)
            x = np.empty((len(lanes[some]), self._keep + n), np.float32)
            x[:, : self._keep] = self._memory[lanes[some]]
            x[:, self._keep :] = pcm[some]
            self._memory[lanes[some]] = x[:, n:]
            y = self._filter(x, blocks)
            np.rint(y, out=y)
            np.clip(y, -32768, 32767, out=y)
            out[some] = y
        return out

    def _filter(self, x: NDArray[np.float32], blocks: int) -> NDArray[np.float32]:
        """Streams with their memory before them, (k, memory + n) → (k, blocks * out)."""
        width, into, out = self._keep + self._into, self._into, self._out
        if blocks > len(x):
            # Long pieces of few streams: their blocks, copied side by side, are the rows.
            windows = sliding_window_view(x, width, axis=1)[:, ::into]
            y = windows.reshape(-1, width) @ self._matrix
            return y.reshape(len(x), -1)
        # A frame each of many: one block of all is a product that copies nothing.
        y = np.empty((len(x), blocks * out), np.float32)
        for block in range(blocks):
            window = x[:, block * into : block * into + width]
            np.matmul(window, self._matrix, out=y[:, block * out : (block + 1) * out])
        return y
