"""Where a recording of the agent follows a known text of his, to the sample.

The judge of pauses: the agent says the same long text in every call (rendered once, so the samples
are the same), and a call in which nobody disturbs him is the `Reference`. A recording is walked
through 10 ms at a time beside the reference. Where they part, the recording is silent (paused) or
something else; where sound begins again, it is looked for near the place that was left (he goes
on), or at the beginning (he says it anew). What is audible of the reference between the place that
was left and the place where he goes on is lost; what comes a second time is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tests.lab.capture import RATE, Pcm
from tests.lab.speech import PEAK_DB, SPEECH_DBFS, level, regions

STEP = RATE // 100
CHUNK = 3 * RATE // 10
"""What is compared to find the place again: 300 ms."""
BACK, AHEAD = RATE, 2 * RATE
"""How far from the place that was left the agent may go on."""
SYLLABLE = RATE // 25
"""An agent who goes on and is stopped again at once: less than this of him can't be told from
another (40 ms)."""
NEAR_BACK, NEAR = RATE // 10, 3 * RATE // 10
"""The same for so short a stretch, which is like many another: 100 and 300 ms."""
LIKE = 0.85
"""Correlation from which two stretches are the same speech."""
QUIET_PEAK = 32768 * 10 ** ((SPEECH_DBFS + PEAK_DB) / 20)
PART = 3
"""So many steps in a row that differ make a parting; fewer are a fade's edge."""

GAP = RATE // 25
"""Silence that ends a stretch of less than `CHUNK`, 40 ms."""

How = Literal["start", "on", "other"]


@dataclass(frozen=True)
class Stretch:
    """A stretch of the recording in which the agent speaks. Samples; ends are exclusive.

    heard: from its first to its last audible sample in the recording
    at: the same places in the reference (0 where it is something else)
    how: it begins the text, goes on with it, or is something else
    lost_ms, repeated_ms: of it, what is audible of the text and was skipped before this stretch, or
        said twice
    """

    heard: tuple[int, int]
    at: tuple[int, int]
    how: How
    lost_ms: float = 0.0
    repeated_ms: float = 0.0


class Reference:
    """What the agent says when nobody disturbs him: int16 samples, from his first audible one."""

    def __init__(self, pcm: Pcm) -> None:
        spans = regions(pcm)
        self.pcm = pcm[spans[0].start : spans[-1].end]
        frames = self.pcm[: len(self.pcm) // STEP * STEP].reshape(-1, STEP)
        self.loud = np.abs(frames.astype(np.int32)).max(axis=1) >= QUIET_PEAK

    def audible(self, start: int, end: int) -> float:
        """ms of sound between two samples."""
        return float(np.count_nonzero(self.loud[max(start, 0) // STEP : max(end, 0) // STEP])) * 10

    def find(self, chunk: Pcm, start: int, end: int) -> int | None:
        """Where in [start, end) a stretch of speech begins, if it is there."""
        start = max(start, 0)
        window = self.pcm[start : end + len(chunk)].astype(np.float64)
        if len(window) < len(chunk) or level(chunk) < SPEECH_DBFS:
            return None
        x = chunk.astype(np.float64)
        n = 1 << int(np.ceil(np.log2(len(window) + len(x))))
        dot = np.fft.irfft(np.fft.rfft(window, n) * np.conj(np.fft.rfft(x, n)), n)
        dot = dot[: len(window) - len(x) + 1]
        sums = np.concatenate([[0.0], np.cumsum(window**2)])
        power = sums[len(x) :] - sums[: -len(x)]
        like = dot / np.sqrt(np.maximum(power * float(np.sum(x**2)), 1.0))
        best = int(np.argmax(like))
        return start + best if like[best] >= LIKE else None


def follow(pcm: Pcm, reference: Reference) -> list[Stretch]:
    """The stretches of a recording, in order."""
    return list(_stretches(pcm, reference))


def _stretches(pcm: Pcm, reference: Reference) -> Iterator[Stretch]:
    left: int | None = None  # where the reference was left
    at = _next_sound(pcm, 0)
    while at is not None:
        found, how = _place(pcm, at, reference, left)
        if found is None:
            end = _end_of_sound(pcm, at)
            yield Stretch((at, end), (0, 0), "other")
        else:
            end = _walk(pcm, at, reference.pcm, found)
            lost = repeated = 0.0
            if how == "on":
                assert left is not None
                lost, repeated = reference.audible(left, found), reference.audible(found, left)
            left = found + end - at
            yield Stretch((at, end), (found, left), how, lost, repeated)
        at = _next_sound(pcm, max(end, at + STEP))


def _place(pcm: Pcm, at: int, reference: Reference, left: int | None) -> tuple[int | None, How]:
    """The place in the reference of the sound that begins at `at`."""
    skip = STEP  # a fade-in
    chunk = pcm[at + skip : at + skip + CHUNK]
    if left is not None:
        found = reference.find(chunk, left - BACK + skip, left + AHEAD + skip)
        if found is None:
            begin = _until_gap(chunk)
            if len(begin) >= SYLLABLE:
                found = reference.find(begin, left - NEAR_BACK + skip, left + NEAR + skip)
        if found is not None:
            return found - skip, "on"
    found = reference.find(chunk, 0, RATE // 2)
    return (None, "other") if found is None else (found - skip, "start")


def _until_gap(chunk: Pcm) -> Pcm:
    """As far as it sounds without a pause, and without the fade before that."""
    loud = np.flatnonzero(np.abs(chunk.astype(np.int32)) >= QUIET_PEAK)
    gaps = np.flatnonzero(np.diff(np.append(loud, len(chunk) + GAP)) > GAP)
    return chunk[: int(loud[gaps[0]]) + 1 - STEP] if len(loud) else chunk[:0]


def _walk(pcm: Pcm, at: int, text: Pcm, found: int) -> int:
    """How far the recording follows: the end of its last audible sample that does."""
    steps = min(len(pcm) - at, len(text) - found) // STEP
    a = pcm[at : at + steps * STEP].reshape(-1, STEP).astype(np.float64)
    b = text[found : found + steps * STEP].reshape(-1, STEP).astype(np.float64)
    differs = _differs(a, b)
    run = np.convolve(differs, np.ones(PART), "valid")
    parts = np.flatnonzero(run == PART)
    steps = int(parts[0]) if len(parts) else steps
    # The fade, which no longer follows, is sound all the same.
    end = min(at + (steps + 1) * STEP, len(pcm))
    loud = np.flatnonzero(np.abs(pcm[at:end].astype(np.int32)) >= QUIET_PEAK)
    return at + int(loud[-1]) + 1 if len(loud) else at + STEP


def _differs(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Of each step: whether there is something audible in one that isn't in the other."""
    error = np.sum((a - b) ** 2, axis=1)
    power = np.maximum(np.sum(a**2, axis=1), np.sum(b**2, axis=1))
    loud = np.maximum(np.abs(a).max(axis=1), np.abs(b).max(axis=1)) >= QUIET_PEAK
    return loud & (error > 0.3 * power)


def _next_sound(pcm: Pcm, start: int) -> int | None:
    """First audible sample from there on that is no mere click."""
    loud = np.abs(pcm[start:].astype(np.int32)) >= QUIET_PEAK
    places = np.flatnonzero(loud)
    if not len(places):
        return None
    frames = np.unique(places // STEP)
    for k, frame in enumerate(frames):
        if np.searchsorted(frames, frame + 5) - k >= 3:  # three of the next five steps
            first = places[np.searchsorted(places, frame * STEP)]
            return start + int(first)
    return None


def _end_of_sound(pcm: Pcm, at: int) -> int:
    """Where what begins at `at` has been followed by 200 ms of silence."""
    loud = np.flatnonzero(np.abs(pcm[at:].astype(np.int32)) >= QUIET_PEAK)
    gaps = np.flatnonzero(np.diff(loud) > RATE // 5)
    return at + int(loud[gaps[0]] if len(gaps) else loud[-1]) + 1
