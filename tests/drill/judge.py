"""What a caller noticed, from the capture of his packets alone: gaps, sentences, two voices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from bridge.dialog.playout import MS_PER_SYLLABLE
from tests.drill.engine import GREETING_HZ, hz_of_key, word_of
from tests.lab.capture import PCMU, RATE, TABLES, RtpPacket

_LEVEL = 1000.0
_AUDIBLE = 100.0
"""A peak: soft sounds are, the noise of a line and of a codec is not."""
_PAUSE_S = 0.35
TONES = np.array([*GREETING_HZ, *(hz_of_key(key) for key in range(10))])
_FRAME = RATE // 50
_BASIS = np.exp(-2j * np.pi * TONES[:, None] * np.arange(_FRAME) / RATE) * np.hanning(_FRAME)
Power = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tone:
    """One sentence as heard. Times are the capture's, epoch seconds."""

    hz: int
    start: float
    end: float
    packets: int

    @property
    def heard_ms(self) -> int:
        return self.packets * 20


def samples(payloads: Sequence[bytes]) -> Power:
    """Of each packet, (packets, samples); silence where it isn't 20 ms of PCMU."""
    found = np.zeros((len(payloads), _FRAME))
    whole = [n for n, payload in enumerate(payloads) if len(payload) == _FRAME]
    if whole:
        octets = np.frombuffer(b"".join(payloads[n] for n in whole), np.uint8)
        found[whole] = TABLES[PCMU][octets].reshape(-1, _FRAME)
    return found


def power(pcm: Power) -> Power:
    """Of each tone in each packet, (packets, tones)."""
    found: Power = np.abs(pcm @ _BASIS.T) / 40
    return found


def loudest(powers: Power) -> npt.NDArray[np.int64]:
    """The tone that each packet carries, Hz; 0: none."""
    if not len(powers):
        return np.zeros(0, np.int64)
    return np.where(powers.max(axis=1) > _LEVEL, TONES[powers.argmax(axis=1)], 0)


class Call:
    """What one call's phone received."""

    def __init__(self, packets: Sequence[RtpPacket]) -> None:
        """`packets`: of this call and direction, in the order in which they came."""
        self.at = np.array([p.at for p in packets])
        pcm = samples([p.payload for p in packets])
        powers = power(pcm)
        pitch = loudest(powers)
        self.tones = _sentences(self.at, pitch)
        self._pitch = pitch
        self._peaks = np.abs(pcm).max(axis=1)
        self._others = (pitch == 0) & (self._peaks > _LEVEL)
        self._two = int(_two_at_once(powers).sum())

    @property
    def answered_at(self) -> float:
        """When the first packet came; 0: never."""
        return float(self.at[0]) if len(self.at) else 0.0

    @property
    def ended_at(self) -> float:
        """When the last packet came; 0: none did."""
        return float(self.at[-1]) if len(self.at) else 0.0

    def gap_ms(self, since: float, until: float) -> float:
        """Longest time without RTP between two moments in which the call was up."""
        return self.gap(since, until)[0]

    def gap(self, since: float, until: float) -> tuple[float, float]:
        """The same, and when it began, epoch seconds."""
        inside = self.at[(self.at >= since) & (self.at <= until)]
        if len(inside) < 2:
            inside = inside[:0]
        edges = np.array([since, *inside, until])
        gaps = np.diff(edges)
        longest = int(gaps.argmax())
        return float(gaps[longest] * 1000), float(edges[longest])

    def answered_ms(self, hz: int, since: float) -> float | None:
        """From then until an answer in that tone began; None: there was none."""
        fresh = [t.start for t in self.tones if t.hz == hz and t.start > since]
        return (min(fresh) - since) * 1000 if fresh else None

    def heard_ms(self, hz: int, since: float = 0.0, until: float = float("inf")) -> int:
        """How much of a tone came, of sentences that began between two moments."""
        return sum(t.heard_ms for t in self.tones if t.hz == hz and since <= t.start <= until)

    def age_ms(self, hz: int, heard_ms: float, at: float, since: float) -> float | None:
        """How long before `at` no more than that had been heard of a sentence that began after
        `since`; None: at that moment it was not being said."""
        moments = self.at[(self._pitch == hz) & (self.at >= since)]
        heard = round(heard_ms / 20)
        if heard >= len(moments) or not moments[0] <= at <= moments[-1]:
            return None
        return max(0.0, float(at - moments[heard]) * 1000)

    def silences(self, since: float, until: float) -> list[tuple[float, float, bool]]:
        """When nothing was to be heard between two moments, and whether a filler went before."""
        inside = (self.at >= since) & (self.at <= until) & (self._peaks > _AUDIBLE)
        found, end, filled = [], since, False
        for moment, peak in zip(
            self.at[inside].tolist(), self._peaks[inside].tolist(), strict=True
        ):
            if moment > end + 0.01:
                found.append((end, moment, filled))
            end, filled = moment + 0.02, peak < _LEVEL
        return found

    def others_at(self, since: float) -> float | None:
        """When something else than the agent was heard; None: never."""
        at = self.at[self._others & (self.at > since)]
        return float(at[0]) if len(at) else None

    def two_voices(self) -> bool:
        """Whether two sentences sounded at once, for longer than where one follows another."""
        return self._two > 2

    def words(self) -> list[tuple[str, float]]:
        """What was said, in order: each word, how often in a row."""
        groups = groupby(self.tones, key=lambda tone: tone.hz)
        return [
            (word_of(hz), sum(t.heard_ms for t in some) / MS_PER_SYLLABLE) for hz, some in groups
        ]


def _sentences(at: npt.NDArray[np.float64], pitch: npt.NDArray[np.int64]) -> list[Tone]:
    found: list[Tone] = []
    for moment, hz in zip(at.tolist(), pitch.tolist(), strict=True):
        if not hz:
            continue
        last = found[-1] if found else None
        if last is not None and last.hz == hz and moment - last.end < _PAUSE_S:
            found[-1] = Tone(hz, last.start, moment, last.packets + 1)
        else:
            found.append(Tone(hz, moment, moment, 1))
    return found


def _two_at_once(powers: Power) -> npt.NDArray[np.bool_]:
    if not len(powers):
        return np.zeros(0, np.bool_)
    loud = powers > np.maximum(_LEVEL, powers.max(axis=1, keepdims=True) / 4)
    highest = np.where(loud, TONES, 0).max(axis=1)
    lowest = np.where(loud, TONES, 10_000).min(axis=1)
    return highest - lowest > 200  # neighbours within 100 Hz share a window's main lobe


def same_words(
    heard: Sequence[tuple[str, float]], written: Sequence[tuple[str, float]], within: float = 2.0
) -> bool:
    """Whether a transcript tells what was heard, sentence by sentence, to `within` words.

    A takeover may split a word, so what is no longer than that may be missing in either; and of a
    sentence that was heard in pieces each is written down in whole words.
    """
    ours, theirs = _joined(heard), _joined(written)
    while ours and theirs:
        (word, n), (other, m) = ours[0], theirs[0]
        if word == other and abs(n - m) <= within + 1:
            del ours[0], theirs[0]
        elif n <= within:
            ours = _joined(ours[1:])
        elif m <= within:
            theirs = _joined(theirs[1:])
        else:
            return False
    return all(n <= within for _, n in ours + theirs)


def _joined(words: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    groups = groupby(words, key=lambda word: word[0])
    return [(word, sum(n for _, n in some)) for word, some in groups]
