"""Packet loss concealment: repeats the last pitch period, fades, and blends into what comes after.

In the manner of ITU-T G.711 Appendix I, written from its description: at the first missing sample
the pitch is found by normalised cross-correlation in the history, and the history's last period is
repeated, its seam blended over a quarter period; after 10 ms it fades by 20 % per 10 ms, to nothing
at 60 ms; the first sample that comes again is blended with the continued repetition. The whole run
is made when it begins, for all calls at once, because every later step only reads it.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

RUN_MS = 60
"""A run fades to nothing in this time."""
_SPARE_MS = 10
HISTORY_MS = 40
_MIN_MS, _MAX_MS = 5, 15  # of a pitch period: 66 to 200 Hz, multiples of higher voices included
_MATCH_MS = 20
_BLEND_MS = 4
_HOLD_MS = 10


class ConcealBank:
    """Runs of concealment of all calls."""

    def __init__(self, calls: int, most_rate: int = 16) -> None:
        """Room for `calls` calls at up to `most_rate` samples a ms."""
        self._wave = np.zeros((calls, (RUN_MS + _SPARE_MS) * most_rate), np.int16)
        self.run = np.zeros(calls, np.int64)
        """Samples made up so far in each call's present run; 0 when there is none."""

    def make(
        self,
        calls: NDArray[np.intp],
        history: NDArray[np.int16] | None,
        n: int,
        rate: int,
        period: NDArray[np.intp] | None = None,
    ) -> NDArray[np.int16]:
        """The next n missing samples of each call, (k, n).

        Args:
            calls: rows, each at most once; all with a run, or none (then `history` is needed).
            history: (k, HISTORY_MS * rate) samples that came last, where a run begins.
            n: samples wanted.
            rate: samples a ms.
            period: (k,) samples that are repeated; the history's own pitch if it is not given.
        """
        if history is not None:
            self._wave[calls, : RUN_MS * rate] = extend(history, RUN_MS * rate, rate, period)
            self._wave[calls, RUN_MS * rate :] = 0
        at = self.run[calls, None] + np.arange(n)
        width = self._wave.shape[1]
        made: NDArray[np.int16] = self._wave[calls[:, None], np.minimum(at, width - 1)]
        made[at >= RUN_MS * rate] = 0
        self.run[calls] += n
        return made

    def blend(
        self, calls: NDArray[np.intp], pcm: NDArray[np.int16], rate: int
    ) -> NDArray[np.int16]:
        """Lead from the run into the samples that came again, and end the run."""
        n = min(_BLEND_MS * rate, pcm.shape[1])
        ramp = (np.arange(1, n + 1, dtype=np.float32)) / (n + 1)
        at = np.minimum(self.run[calls, None] + np.arange(n), self._wave.shape[1] - 1)
        old = self._wave[calls[:, None], at]
        old[at >= RUN_MS * rate] = 0
        out = pcm.copy()
        out[:, :n] = np.rint(out[:, :n] * ramp + old * (1 - ramp)).astype(np.int16)
        self.run[calls] = 0
        return out

    def stop(self, call: int) -> None:
        """End a call's run without a blend."""
        self.run[call] = 0


class ComfortNoise:
    """What a line sounds like on which nothing is sent: its own noise, not a hole."""

    MOST_DB = -50.0

    def __init__(self, seed: int = 1) -> None:
        """Noise is taken from a second of it, made once."""
        self._random = np.random.default_rng(seed)
        self._noise = self._random.standard_normal(16_384).astype(np.float32)

    def make(self, floor_db: NDArray[np.float32], n: int) -> NDArray[np.int16]:
        """Noise at each line's floor (k,), in dB of full scale: (k, n), n up to 1,024."""
        at = self._random.integers(0, len(self._noise) - n, len(floor_db))
        level = 32768 * 10 ** (np.minimum(floor_db, self.MOST_DB) / 20)
        noise = self._noise[at[:, None] + np.arange(n)] * level[:, None]
        made: NDArray[np.int16] = np.rint(noise).astype(np.int16)
        return made


def extend(
    history: NDArray[np.int16], n: int, rate: int, period: NDArray[np.intp] | None = None
) -> NDArray[np.int16]:
    """Continue each history (k, HISTORY_MS * rate) by n faded samples."""
    x = history.astype(np.float32)
    pitch = _pitch(x, rate) if period is None else period
    length = x.shape[1]
    # The last period, its end blended with the samples one period earlier: then it closes on
    # itself.
    quarter = np.maximum(pitch // 4, 1)[:, None]
    ahead = np.arange(n)[None, :]
    phase = ahead % pitch[:, None]
    at = length - pitch[:, None] + phase
    rows = np.arange(len(x))[:, None]
    wave = x[rows, at]
    into = np.clip((phase - (pitch[:, None] - quarter) + 1) / (quarter + 1), 0, 1)
    wave = wave * (1 - into) + x[rows, at - pitch[:, None]] * into
    fade = np.clip(1 - 0.2 * (ahead / rate - _HOLD_MS) / 10, 0, 1)
    faded: NDArray[np.int16] = np.rint(wave * fade).astype(np.int16)
    return faded


def _pitch(x: NDArray[np.float32], rate: int) -> NDArray[np.intp]:
    """Lag, in samples, at which each history is most like itself."""
    step = rate // 4  # searched at 4 kHz: the period is needed to within the blend only
    low = x.reshape(len(x), -1, step).mean(axis=2)
    least, most, match = _MIN_MS * 4, _MAX_MS * 4, _MATCH_MS * 4
    windows = sliding_window_view(low, match, axis=1)[
        :, -1 - most : low.shape[1] - match - least + 1
    ]
    target = low[:, -match:]
    cross = np.einsum("kwm,km->kw", windows, target)
    energy = np.einsum("kwm,kwm->kw", windows, windows)
    score = cross * np.abs(cross) / np.maximum(energy, 1e-3)
    lag = most - score.argmax(axis=1)
    coarse = lag * step
    # To the sample, around the coarse lag.
    length, n = x.shape[1], _MATCH_MS * rate // 2
    fine = coarse[:, None] + np.arange(-step + 1, step)
    fine = np.clip(fine, _MIN_MS * rate, _MAX_MS * rate)
    at = length - n - fine[:, :, None] + np.arange(n)
    shifted = x[np.arange(len(x))[:, None, None], at]
    cross = np.einsum("kfn,kn->kf", shifted, x[:, -n:])
    energy = np.einsum("kfn,kfn->kf", shifted, shifted)
    best = (cross * np.abs(cross) / np.maximum(energy, 1e-3)).argmax(axis=1)
    found: NDArray[np.intp] = fine[np.arange(len(x)), best]
    return found
