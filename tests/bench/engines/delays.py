"""What the bridge adds: from a packet's sending until its audio is back, for every packet.

Found by content. In every second of what a caller said, what came back is looked for (by
correlation), which gives the lag of that second in samples; a packet is back when the packet came
in which its last sample lies. The resamplers' constant delay is taken off, as everywhere: a
packet's end is looked for that much earlier. What the bot and Asterisk took is in it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bridge.audio.resample import DELAY_MS
from tests.bench.generator import FRAME, Heard
from tests.bench.verify import RATE, NotVerifiedError, by_stream, find, sound

_EDGE = 6
"""Samples by which a packet's end may be misjudged (the resamplers' filters are long)."""
_WINDOW, _REACH = RATE, RATE // 4
_ALIKE, _LOUD = 0.9, 300.0


def added_ms(
    heard: Heard, streams: range, resampled: bool, from_s: float, to_s: float
) -> npt.NDArray[np.float64]:
    """Of every packet of these streams that was sent between the two, where speech shows its place.

    Args:
        heard: a run, verified.
        streams: which of its streams echo.
        resampled: whether the engine's rate isn't the line's.
        from_s, to_s: since the callers began.

    Raises:
        NotVerifiedError: less than half of the speech shows its place.
    """
    constant = round(2 * DELAY_MS * RATE / 1000) if resampled else 0
    rows_of = by_stream(heard)
    delays, windows, found = [], 0, 0
    for stream in streams:
        rows = rows_of[stream]
        rows = rows[rows["ns"] >= heard.start_ns]
        rows = rows[rows["ssrc"] == rows["ssrc"][np.argmax(rows["ns"])]]
        said, (got, _) = heard.said(stream), sound(rows)
        stamps = np.unwrap(rows["timestamp"].astype(np.int64), period=2**32)
        arrived = np.zeros(len(got) // FRAME, np.int64)
        arrived[(stamps - stamps[0]) // FRAME] = rows["ns"]
        expected = _first_lag(said, got, int(from_s * RATE))
        for begin in range(int(from_s * RATE), int(to_s * RATE) - _WINDOW, _WINDOW):
            part = said[begin : begin + _WINDOW]
            if np.sqrt(np.square(part.astype(float)).mean()) < _LOUD:
                continue
            windows += 1
            low = max(0, begin + expected - _REACH)
            place, alike = find(part, got[low : begin + expected + _REACH + _WINDOW])
            if alike < _ALIKE:  # the lag changes within it
                continue
            found += 1
            expected = lag = low + place - begin
            number = np.arange(begin // FRAME, (begin + _WINDOW) // FRAME)
            number = number[heard.sent_ns[number, stream] > 0]
            back = ((number + 1) * FRAME + lag - constant - _EDGE) // FRAME
            number, back = number[back < len(arrived)], back[back < len(arrived)]
            came = arrived[back]
            sent = heard.sent_ns[number, stream].astype(np.int64)
            delays.append((came - sent)[came > 0] / 1e6)
    if not found or found < windows / 2:
        raise NotVerifiedError(f"{found} of {windows} seconds of speech came back whole")
    return np.concatenate(delays)


def _first_lag(said: npt.NDArray[np.int16], got: npt.NDArray[np.int16], begin: int) -> int:
    part = said[begin : begin + 2 * RATE]
    place, alike = find(part, got)
    if alike < _ALIKE / 2:
        raise NotVerifiedError(f"what was said is nowhere (at best {alike:.2f})")
    return place - begin
