"""What the callers noticed: gaps, tones heard twice, calls lost. From the capture alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bridge.dialog.playout import MS_PER_SYLLABLE
from tests.drill.engine import GREETING_HZ, LONG_MS, REPLY_HZ, word_of
from tests.lab.capture import RATE, RtpPacket, decode

_LEVEL = 1000.0
_PAUSE_S = 0.05
_WORD_MS = 220
TONES = (*GREETING_HZ, *range(REPLY_HZ, REPLY_HZ + 1000, 100))


@dataclass(frozen=True)
class Tone:
    """One sentence as heard."""

    hz: int
    start: float
    end: float
    packets: int

    @property
    def heard_ms(self) -> int:
        return self.packets * 20


@dataclass
class Call:
    """One call's packets, as its phone received them."""

    packets: list[RtpPacket]
    answered_at: float = 0.0
    tones: list[Tone] = field(default_factory=list)

    @classmethod
    def of(cls, packets: Sequence[RtpPacket], port: int) -> Call:
        mine = [p for p in packets if p.port == port and not p.sent]
        call = cls(mine, mine[0].at if mine else 0.0)
        call.tones = tones(mine)
        return call

    def gap_ms(self, since: float, until: float) -> float:
        """Longest time without RTP between two moments."""
        at = [p.at for p in self.packets if since <= p.at <= until]
        if len(at) < 2:
            return (until - since) * 1000
        return float(np.diff([since, *at, until]).max() * 1000) if at else 0.0

    def answer_ms(self, since: float) -> float | None:
        """From then to the first tone of an answer that began after it."""
        fresh = [t.start for t in self.tones if t.hz >= REPLY_HZ and t.start > since]
        return (min(fresh) - since) * 1000 if fresh else None

    def twice(self, hz: int) -> bool:
        """Whether a sentence that is said once was begun twice."""
        whole = sum(t.heard_ms for t in self.tones if t.hz == hz)
        return whole > LONG_MS + 200

    def whole(self, hz: int) -> bool:
        """Whether a long sentence was heard once, to a word."""
        return abs(sum(t.heard_ms for t in self.tones if t.hz == hz) - LONG_MS) <= _WORD_MS

    def two_voices(self) -> int:
        """Packets in which two sentences sound at once."""
        return sum(_loud(p) > 1 for p in self.packets)


def tones(packets: Sequence[RtpPacket]) -> list[Tone]:
    """The sentences in a call's packets, in order."""
    found: list[Tone] = []
    for packet in packets:
        hz = _pitch(packet)
        if not hz:
            continue
        last = found[-1] if found else None
        if last is not None and last.hz == hz and packet.at - last.end < _PAUSE_S + 0.3:
            found[-1] = Tone(hz, last.start, packet.at, last.packets + 1)
        else:
            found.append(Tone(hz, packet.at, packet.at, 1))
    return found


def words_heard(call: Call) -> dict[str, float]:
    """How many words of each tone were heard: what the transcript must hold, to two words."""
    heard: dict[str, float] = {}
    for tone in call.tones:
        word = word_of(tone.hz)
        heard[word] = heard.get(word, 0.0) + tone.heard_ms / MS_PER_SYLLABLE
    return heard


_BASIS = {hz: np.exp(-2j * np.pi * hz * np.arange(160) / RATE) * np.hanning(160) for hz in TONES}
_MATRIX = np.array([_BASIS[hz] for hz in TONES])


def _power(packet: RtpPacket) -> np.ndarray:
    pcm = decode(packet)
    if pcm is None or len(pcm) != 160:
        return np.zeros(len(TONES))
    return np.abs(_MATRIX @ pcm.astype(np.float64)) / 40


def _pitch(packet: RtpPacket) -> int:
    power = _power(packet)
    best = int(np.argmax(power))
    return TONES[best] if power[best] > _LEVEL else 0


def _loud(packet: RtpPacket) -> int:
    power = _power(packet)
    best = power.max()
    # Neighbours within 100 Hz share a window's main lobe.
    loud = [hz for hz, p in zip(TONES, power, strict=True) if p > max(_LEVEL, best / 4)]
    return 2 if loud and loud[-1] - loud[0] > 200 else min(len(loud), 1)
