"""Packet loss concealment: repeats the last pitch period, fades, and blends into what comes after.

In the manner of ITU-T G.711 Appendix I, written from its description: at the first missing sample
the pitch is found by normalised cross-correlation in the history, and the history's last period is
repeated, its seam blended over a quarter period; after 10 ms it fades by 20 % per 10 ms, to nothing
at 60 ms; the first sample that comes again is blended with the continued repetition. What is kept
of a run is one period and how far it has got: most runs are over after a frame.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

RUN_MS = 60
"""A run fades to nothing in this time."""
HISTORY_MS = 40
_CYCLE_MS = 20
"""The longest period: a repeated frame's."""
_MIN_MS, _MAX_MS = 5, 15  # of a pitch period: 66 to 200 Hz, multiples of higher voices included
_MATCH_MS = 20
_BLEND_MS = 4
_HOLD_MS = 10


class ConcealBank:
    """Runs of concealment of all calls."""

    def __init__(self, calls: int, most_rate: int = 16) -> None:
        """Room for `calls` calls at up to `most_rate` samples a ms."""
        self._cycle = np.zeros((calls, _CYCLE_MS * most_rate), np.int16)
        self._period = np.ones(calls, np.uint16)
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
            wave = history.astype(np.float32)
            found = _pitch(wave, rate) if period is None else period
            self._cycle[calls, : _CYCLE_MS * rate] = _closed(wave, found, _CYCLE_MS * rate)
            self._period[calls] = found
        made = self._next(calls, n, rate)
        self.run[calls] += n
        return made

    def blend(
        self, calls: NDArray[np.intp], pcm: NDArray[np.int16], rate: int
    ) -> NDArray[np.int16]:
        """Lead from the run into the samples that came again, and end the run."""
        n = min(_BLEND_MS * rate, pcm.shape[1])
        ramp = (np.arange(1, n + 1, dtype=np.float32)) / (n + 1)
        old = self._next(calls, n, rate)
        out = pcm.copy()
        out[:, :n] = np.rint(out[:, :n] * ramp + old * (1 - ramp)).astype(np.int16)
        self.run[calls] = 0
        return out

    def stop(self, call: int) -> None:
        """End a call's run without a blend."""
        self.run[call] = 0

    def _next(self, calls: NDArray[np.intp], n: int, rate: int) -> NDArray[np.int16]:
        """The n samples after what the runs have got to, faded."""
        run, end = self.run[calls], RUN_MS * rate
        at = np.minimum(np.arange(n) + (run[:, None] if run.any() else 0), end)
        phase = at.astype(np.uint16) % self._period[calls, None]
        width = self._cycle.shape[1]
        wave = self._cycle.ravel().take(phase + calls[:, None] * width)
        made: NDArray[np.int16] = np.rint(wave * _fade(rate)[at]).astype(np.int16)
        return made


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


@functools.cache
def _fade(rate: int) -> NDArray[np.float32]:
    """The level of each sample of a run; the last is that of all beyond it."""
    ms = np.arange(RUN_MS * rate + 1) / rate
    return np.clip(1 - 0.2 * (ms - _HOLD_MS) / 10, 0, 1).astype(np.float32)


def _closed(x: NDArray[np.float32], period: NDArray[np.intp], width: int) -> NDArray[np.int16]:
    """Each history's last period as a cycle, (k, width), of which `period` samples count.

    Its end is blended with the samples one period earlier: then it closes on itself.
    """
    length = x.shape[1]
    ahead = np.arange(width)
    at = (np.arange(len(x)) * length)[:, None] + (length - period[:, None] + ahead)
    flat = x.ravel()
    last = flat.take(at, mode="clip")  # beyond a period: anything
    before = flat.take(at - period[:, None], mode="clip")
    quarter = np.maximum(period // 4, 1)[:, None]
    begin = (period[:, None] - quarter - 1).astype(np.float32)
    ramp = (ahead.astype(np.float32) - begin) / (quarter + 1).astype(np.float32)
    into = np.clip(ramp, 0, 1)
    closed: NDArray[np.int16] = np.rint(last + (before - last) * into).astype(np.int16)
    return closed


def _pitch(x: NDArray[np.float32], rate: int) -> NDArray[np.intp]:
    """Lag, in samples, at which each history is most like itself."""
    step = rate // 4  # searched at 4 kHz: the period is needed to within the blend only
    low = sum((x[:, k::step] for k in range(1, step)), x[:, ::step])
    least, most, match = _MIN_MS * 4, _MAX_MS * 4, _MATCH_MS * 4
    windows = sliding_window_view(low, match, axis=1)[
        :, -1 - most : low.shape[1] - match - least + 1
    ]
    lag = most - _likest(windows, low[:, -match:])
    # To the sample, around the coarse lag.
    length, n = x.shape[1], _MATCH_MS * rate // 2
    fine = lag[:, None] * step + np.arange(-step + 1, step)
    fine = np.clip(fine, _MIN_MS * rate, _MAX_MS * rate)
    rows = np.arange(len(x))
    shifted = sliding_window_view(x, n, axis=1)[rows[:, None], length - n - fine]
    found: NDArray[np.intp] = fine[rows, _likest(shifted, x[:, -n:])]
    return found


def _likest(windows: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.intp]:
    """Which of its windows (k, w, n) each target (k, n) is most like, in shape and sign."""
    cross = np.einsum("kwn,kn->kw", windows, target)
    energy = np.einsum("kwn,kwn->kw", windows, windows)
    found: NDArray[np.intp] = (cross * np.abs(cross) / np.maximum(energy, 1e-3)).argmax(axis=1)
    return found
