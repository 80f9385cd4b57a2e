"""What comes back of what was said: whether it is all there, and when each packet of it came.

Found by content, half a second of speech after the other: what came back must hold it (by
correlation), not long after it was said. That gives its lag in samples; a packet is back when the
packet came in which its last sample lies. The resamplers' constant delay is taken off, as
everywhere: a packet's end is looked for that much earlier. What the bot took is in it.
Each utterance has a lag of its own, as it has on any call: where one ends and the next begins
within half a second, its first part must lie at the one lag and the rest at the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.audio.resample import DELAY_MS
from tests.bench.generator import FRAME, Heard
from tests.bench.verify import RATE, NotVerifiedError, by_stream, correlation, find, sound
from tests.lab.capture import Pcm

_EDGE = 6
"""Samples by which a packet's end may be misjudged (the resamplers' filters are long)."""
_WINDOW, _REACH = RATE // 2, RATE // 2
_ALIKE, _LOUD = 0.9, 500.0
LEAST_PERCENT = 97.0
"""Of the half seconds looked at."""


@dataclass
class Back:
    """What came back of some streams."""

    delays_ms: npt.NDArray[np.float64]
    """Of every packet of speech."""
    alike_percent: float
    worst_stream_percent: float

    def told(self) -> dict[str, float]:
        """For the report."""
        return {
            "alike_percent": round(self.alike_percent, 2),
            "worst_stream_percent": round(self.worst_stream_percent, 2),
        }


def back(
    heard: Heard, streams: range, resampled: bool, from_s: float, to_s: float, most_s: float = 1.0
) -> Back:
    """Look at what these streams said between the two, in seconds since they began.

    Args:
        heard: a run.
        streams: which of its streams.
        resampled: whether the engine's rate isn't the line's.
        from_s, to_s: what is looked at.
        most_s: after that it is too late.

    Raises:
        NotVerifiedError: a stream did not get back what it said.
    """
    constant = round(2 * DELAY_MS * RATE / 1000) if resampled else 0
    rows_of = by_stream(heard)
    delays, windows, whole, worst = [], 0, 0, 100.0
    for stream in streams:
        rows = rows_of[stream]
        rows = rows[rows["ns"] >= heard.start_ns]
        if len(rows) < 50:
            raise NotVerifiedError(f"stream {stream} got {len(rows)} packets")
        rows = rows[rows["ssrc"] == rows["ssrc"][np.argmax(rows["ns"])]]
        said, (got, _) = heard.said(stream), sound(rows)
        stamps = np.unwrap(rows["timestamp"].astype(np.int64), period=2**32)
        arrived = np.zeros(len(got) // FRAME, np.int64)
        arrived[(stamps - stamps[0]) // FRAME] = rows["ns"]
        # Where the sample that was sent at the start would lie, had it come at once.
        zero = round((heard.start_ns - int(rows["ns"][0])) * RATE / 1e9)
        lags = _lags(said, got, zero, (from_s, to_s, most_s))
        of, good = len(lags), sum(lag is not None for lag in lags.values())
        for begin, lag in lags.items():
            if lag is None:
                if _split(said, got, begin, lags):
                    good += 1
                continue
            number = np.arange(begin // FRAME, (begin + _WINDOW) // FRAME)
            number = number[heard.sent_ns[number, stream] > 0]
            place = ((number + 1) * FRAME + lag - constant - _EDGE) // FRAME
            number, place = (x[place < len(arrived)] for x in (number, place))
            sent, came = heard.sent_ns[number, stream].astype(np.int64), arrived[place]
            delays.append((came - sent)[came > 0] / 1e6)
        windows, whole = windows + of, whole + good
        worst = min(worst, 100 * good / max(of, 1))
        if good < of / 2:
            raise NotVerifiedError(f"stream {stream} got {good} of {of} half seconds of speech")
    percent = 100 * whole / max(windows, 1)
    if percent < LEAST_PERCENT:
        raise NotVerifiedError(f"only {percent:.1f} % of the speech came back as it was")
    found = np.concatenate(delays)
    if (found < -1).any():
        raise NotVerifiedError("packets came back before they were sent: the bench is wrong")
    return Back(found, percent, worst)


def _lags(
    said: Pcm, got: Pcm, zero: int, limits: tuple[float, float, float]
) -> dict[int, int | None]:
    """By the begin of each half second of speech its lag, samples; None: it isn't there whole."""
    from_s, to_s, most_s = limits
    lags: dict[int, int | None] = {}
    for begin in range(int(from_s * RATE), int(to_s * RATE) - _WINDOW, _WINDOW):
        part = said[begin : begin + _WINDOW]
        if _rms(part) < _LOUD:
            continue
        low = max(0, begin + zero)
        place, alike = find(part, got[low : low + _WINDOW + int(most_s * RATE)])
        lags[begin] = low + place - begin if alike >= _ALIKE else None
    return lags


def _split(said: Pcm, got: Pcm, begin: int, lags: dict[int, int | None]) -> bool:
    """Whether it is there, up to a place at the lag of what came before, and then at another."""
    near = [lags.get(begin + n * _WINDOW) for n in (-2, -1, 1, 2)]
    known = {lag for lag in near if lag is not None}
    return any(
        _same(said, got, begin, begin + at, one)
        and _same(said, got, begin + at, begin + _WINDOW, other)
        for one in known
        for other in known
        for at in range(FRAME, _WINDOW, FRAME)
    )


def _same(said: Pcm, got: Pcm, begin: int, end: int, lag: int) -> bool:
    a, b = said[begin:end], got[begin + lag : end + lag]
    if len(a) != len(b):
        return False
    return _rms(a) < _LOUD / 4 or correlation(a, b) >= _ALIKE


def _rms(pcm: Pcm) -> float:
    return float(np.sqrt(np.square(pcm.astype(np.float64)).mean()))
