"""Whether what came back is what was said: by content, stream by stream.

A figure is worth nothing if the audio behind it was silence, another call's, or in pieces. So each
stream's own words are looked for in what it received (by correlation), must lie at one delay from
beginning to end, and must sound like the original in every tenth of a second that no lost packet
touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.bench.generator import FRAME, FRAME_MS, Heard
from tests.lab.capture import PCMU, TABLES, Pcm

RATE = 8000
SEGMENT = RATE // 10
ALIKE = 0.9
"""Correlation from which a segment passes: PCMU twice and two resamplers leave 0.98 and more."""
FOUND = 0.6
_COARSE = 4
_LOUD = 300.0  # RMS of a segment that holds enough to be compared


class NotVerifiedError(Exception):
    """What came back isn't what was said: there is no figure."""


@dataclass
class Verdict:
    """What came back."""

    alike_percent: float
    """Loud, untouched segments that passed, of all streams."""
    worst_stream_percent: float
    delay_ms: dict[str, float]
    """From a sample's sending to its coming back, packet for packet: least and most of all
    streams."""
    missing: int
    """Packets that never came, by the sequence numbers."""

    def told(self) -> dict[str, object]:
        """For the report."""
        return {
            "alike_percent": round(self.alike_percent, 2),
            "worst_stream_percent": round(self.worst_stream_percent, 2),
            "delay_ms": self.delay_ms,
            "missing": self.missing,
        }


def find(needle: Pcm, hay: Pcm, step: int = _COARSE) -> tuple[int, float]:
    """Where `needle` lies in `hay`, and how alike they are there (-1 ... 1)."""
    a, b = _thin(needle, step), _thin(hay, step)
    size = 1 << int(np.ceil(np.log2(len(a) + len(b))))
    cross = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    places = max(1, len(b) - len(a) + 1)
    power = np.concatenate(([0.0], np.cumsum(np.square(b, dtype=np.float64))))
    there = power[len(a) : len(a) + places] - power[:places]  # else the loudest place would win
    least = max(float(np.square(a, dtype=np.float64).sum()) * 0.01, 1.0)
    coarse = int(np.argmax(cross[:places] / np.sqrt(np.maximum(there, least)))) * step
    best, place = -2.0, coarse
    for at in range(max(0, coarse - 2 * step), min(len(hay) - len(needle), coarse + 2 * step) + 1):
        alike = correlation(needle, hay[at : at + len(needle)])
        if alike > best:
            best, place = alike, at
    return place, best


def correlation(a: Pcm, b: Pcm) -> float:
    """Of two stretches of equal length."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(x @ y / max(np.sqrt((x @ x) * (y @ y)), 1e-9))


def _thin(pcm: Pcm, step: int) -> npt.NDArray[np.float32]:
    whole = len(pcm) // step * step
    return pcm[:whole].reshape(-1, step).mean(axis=1, dtype=np.float32)


def by_stream(heard: Heard) -> list[npt.NDArray[np.void]]:
    """Records of each stream, in order of sequence."""
    stream = heard.records["stream"]
    order = np.argsort(stream, kind="stable")
    ordered = stream[order]
    at = np.searchsorted(ordered, np.arange(heard.streams + 1))
    found = []
    for i in range(heard.streams):
        rows = heard.records[order[at[i] : at[i + 1]]]
        if len(rows):
            seq = np.unwrap(rows["seq"].astype(np.int64), period=65536)
            rows = rows[np.argsort(seq, kind="stable")]
        found.append(rows)
    return found


def sound(rows: npt.NDArray[np.void]) -> tuple[Pcm, int]:
    """A stream's records by their timestamps as samples, and how many packets are missing."""
    stamp = np.unwrap(rows["timestamp"].astype(np.int64), period=2**32)
    at = (stamp - stamp[0]) // FRAME
    pcm = np.zeros((int(at[-1]) + 1, FRAME), np.int16)
    pcm[at] = TABLES[PCMU][rows["payload"]]
    return pcm.reshape(-1), len(pcm) - len(np.unique(at))


def verify(
    heard: Heard,
    *,
    from_s: float = 2.0,
    most_delay_s: float = 1.5,
    speaker: dict[int, int] | None = None,
    most_missing: int = 0,
    one_source: bool = True,
) -> Verdict:
    """Compare what every stream got with what it, or its `speaker`, said.

    Args:
        heard: a whole run.
        from_s: what comes before isn't looked at.
        most_delay_s: a stream's words must be back by then.
        speaker: whom a stream must hear, where that isn't itself.
        most_missing: packets that may be missing.
        one_source: a stream has one SSRC from its first packet on; else its last one counts.

    Raises:
        NotVerifiedError: says what is wrong.
    """
    passed = loud = 0
    worst, delays, missing = 100.0, [], 0
    rows_of = by_stream(heard)
    for stream, rows in enumerate(rows_of):
        rows = rows[rows["ns"] >= heard.start_ns]  # before that, nobody took what came
        if len(rows) < 50:
            raise NotVerifiedError(f"stream {stream} got {len(rows)} packets")
        if not one_source:  # a PBX may speak itself before it joins the call to us
            rows = rows[rows["ssrc"] == rows["ssrc"][np.argmax(rows["ns"])]]
        if len(np.unique(rows["ssrc"])) != 1 or (rows["size"] != FRAME).any():
            raise NotVerifiedError(f"stream {stream} got more than one stream, or odd packets")
        who = stream if speaker is None else speaker[stream]
        got, gone = sound(rows)
        missing += gone
        try:
            alike, of, delay = _compare(heard, who, got, int(rows["ns"][0]), from_s, most_delay_s)
        except NotVerifiedError as error:
            raise NotVerifiedError(f"stream {stream} did not get what was said: {error}") from None
        passed, loud = passed + alike, loud + of
        worst = min(worst, 100 * alike / max(of, 1))
        delays.append(delay)
    verdict = Verdict(
        100 * passed / max(loud, 1),
        worst,
        {"least": round(min(delays), 1), "most": round(max(delays), 1)},
        missing,
    )
    # One stream may be moved by a frame on its way, where two clocks were brought together: what
    # follows lies at another delay, and counts as different.
    if verdict.alike_percent < 98:
        raise NotVerifiedError(f"what came back does not sound like what was said: {verdict}")
    if missing > most_missing:
        raise NotVerifiedError(f"{missing} packets never came back")
    return verdict


def _compare(
    heard: Heard, who: int, got: Pcm, first_ns: int, from_s: float, most_delay_s: float
) -> tuple[int, int, float]:
    """Segments alike, segments compared, delay in ms."""
    said = heard.said(who)
    span = int(2.0 * RATE)
    power = np.square(said[: len(said) // SEGMENT * SEGMENT].astype(np.float64)).reshape(
        -1, SEGMENT
    )
    level = np.sqrt(power.mean(axis=1))
    # Its place in what was received, if all took the same time: arrival less sending. A frame's
    # correction in the midst of it hides it; then another stretch shows.
    for begin in (int(from_s * RATE), int(from_s * RATE) + span):
        place, alike = find(said[begin : begin + span], got)
        sent_at = heard.start_ns / 1e6 + begin * 1000 / RATE
        delay = first_ns / 1e6 + place * 1000 / RATE - sent_at
        if alike >= FOUND:
            break
    if alike < FOUND or not -FRAME_MS <= delay <= most_delay_s * 1000:
        raise NotVerifiedError(
            f"two seconds of it are nowhere (at best {alike:.2f}, {delay:.0f} ms)"
        )
    lag = place - begin
    first = max(begin, -lag) // SEGMENT + 1
    last = min(len(said), len(got) - lag) // SEGMENT
    x = said[first * SEGMENT : last * SEGMENT].astype(np.float64).reshape(-1, SEGMENT)
    y = got[first * SEGMENT + lag : last * SEGMENT + lag].astype(np.float64).reshape(-1, SEGMENT)
    lost = heard.sent_ns[:, who] == 0
    lost |= np.roll(lost, 1)  # a repetition is blended into the packet after it
    touched = lost[: last * SEGMENT // FRAME].reshape(-1, SEGMENT // FRAME)[first:].any(axis=1)
    counts = ~touched & (level[first:last] > _LOUD)
    x, y = x[counts], y[counts]
    norm = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    good = (x * y).sum(axis=1) / np.maximum(norm, 1e-9) >= ALIKE
    return int(good.sum()), len(good), delay


def lateness_ms(heard: Heard, from_s: float, to_s: float) -> npt.NDArray[np.float64]:
    """How late each received packet was against the best absolute 20 ms grid of its stream."""
    late = []
    for rows in by_stream(heard):
        at = rows["ns"].astype(np.float64) / 1e6
        seq = np.unwrap(rows["seq"].astype(np.int64), period=65536)
        since = at - heard.start_ns / 1e6
        some = (since >= from_s * 1000) & (since < to_s * 1000)
        offset = at[some] - seq[some] * FRAME_MS
        if len(offset):
            late.append(offset - offset.min())
    return np.concatenate(late) if late else np.zeros(0)
