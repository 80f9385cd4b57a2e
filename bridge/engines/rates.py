"""Changes the sample rate: of a stream (`RateStream`), or of a whole signal at any rate, such as a
synthesised sentence at 22050 Hz (`resample`).

`resample` is a windowed-sinc polyphase filter (Crochiere and Rabiner, Multirate Digital Signal
Processing, 1983), done as one matrix product: `up` outputs depend on `down` inputs and the filter's
margin around them, always in the same way, so that every block of inputs times one matrix gives a
block of outputs. A voice's odd rates (22050 : 16000 is 441 : 320) cost no more than even ones.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

from bridge.audio.resample import ResamplerBank
from bridge.engines.base import Pcm

ZEROS = 16
"""Zero crossings of the sinc on either side: a transition band of about an eighth of the band."""

ROLLOFF = 0.94
"""Where the filter is half down, as a share of the lower Nyquist frequency."""

_BETA = 8.0  # of the Kaiser window: stop band below -80 dB


@lru_cache(maxsize=8)
def _matrix(up: int, down: int) -> tuple[NDArray[np.float32], int]:
    cutoff = ROLLOFF * min(1.0, up / down)  # relative to the input's Nyquist frequency
    margin = ceil(ZEROS / cutoff)
    inputs = np.arange(-margin, down + margin)
    places = np.arange(up) * down / up
    distance = places[None, :] - inputs[:, None]
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (distance / margin) ** 2, 0, None))) / np.i0(_BETA)
    taps = cutoff * np.sinc(cutoff * distance) * window * (np.abs(distance) <= margin)
    return taps.astype(np.float32), margin


def resample(pcm: Pcm, source: int, target: int) -> Pcm:
    """int16 (n,) at `source` Hz as int16 (ceil(n * target / source),) at `target` Hz, no delay."""
    if source == target or not len(pcm):
        return pcm
    common = gcd(source, target)
    up, down = target // common, source // common
    taps, margin = _matrix(up, down)
    blocks = ceil(len(pcm) / down)
    padded = np.zeros(blocks * down + 2 * margin, np.float32)
    padded[margin : margin + len(pcm)] = pcm
    view = np.lib.stride_tricks.sliding_window_view(padded, down + 2 * margin)[::down]
    out = (view @ taps).reshape(-1)[: ceil(len(pcm) * target / source)]
    rounded: Pcm = np.clip(np.rint(out), -32768, 32767).astype(np.int16)
    return rounded


class RateStream:
    """A stream from one rate to another, in pieces of any length."""

    def __init__(self, source: int, target: int) -> None:
        """Both of `bridge.audio.resample.RATES`, Hz."""
        self._rates = source, target
        self._bank = ResamplerBank(source, target, 1)
        self._left = np.zeros(0, np.int16)

    def take(self, pcm: Pcm) -> Pcm:
        """As much of the stream as is whole."""
        pcm = np.concatenate((self._left, pcm))
        whole = len(pcm) // self._bank.block * self._bank.block
        self._left = pcm[whole:]
        out: Pcm = self._bank.process(np.zeros(1, np.intp), pcm[None, :whole])[0]
        return out

    def whole(self, pcm: Pcm) -> Pcm:
        """A clip that is no part of the stream."""
        other = RateStream(*self._rates)
        return np.concatenate((other.take(pcm), other.flush()))

    def flush(self) -> Pcm:
        """What is left, made whole with silence."""
        missing = -len(self._left) % self._bank.block
        return self.take(np.zeros(missing, np.int16)) if missing else self._left[:0]
