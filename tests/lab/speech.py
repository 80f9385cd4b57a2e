"""Where speech begins and ends in a recording, and live: by energy, to the sample.

Offline (`regions`): 10 ms frames louder than the threshold are speech, frames less than `bridge_ms`
apart belong together, and both ends are then moved to the first and last loud sample. The threshold
is fixed for a line without noise and rises with the noise where there is some. Live (`Ear`): the
same threshold on each packet, enough to know whether the other side is talking now.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.lab.capture import RATE, Pcm, RtpPacket, decode

FRAME = RATE // 100  # 10 ms
# Speech on a phone line is at -20 dBFS or so, its weakest consonants 25 dB below; PCMU's own
# quantisation noise and a comfort noise stay below -60.
SPEECH_DBFS = -48.0
NOISE_MARGIN_DB = 12.0
LOUDEST_THRESHOLD_DBFS = -36.0
SHORTEST = 3  # frames: anything shorter is a click
PEAK_DB = 6.0  # a sample counts as loud when it reaches this much above the threshold's RMS

Levels = npt.NDArray[np.float64]


class Region(NamedTuple):
    """A stretch of speech: sample indices, `end` exclusive."""

    start: int
    end: int


def level(pcm: Pcm) -> float:
    """RMS of samples in dBFS (a full-scale square wave is 0); -120 for silence."""
    if not len(pcm):
        return -120.0
    power = float(np.mean(np.square(pcm, dtype=np.float64))) / 32768**2
    return 10 * math.log10(max(power, 1e-12))


def frame_levels(pcm: Pcm) -> Levels:
    """dBFS of each whole 10 ms frame: shape (len(pcm) // 80,)."""
    frames = pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1) / 32768**2
    return 10 * np.log10(np.maximum(power, 1e-12))


def threshold(levels: Levels) -> float:
    """dBFS above which a frame is speech, where at least a tenth of the frames are not.

    The cap keeps a recording of nothing but speech from passing for noise.
    """
    noise = float(np.percentile(levels, 10))
    return min(max(SPEECH_DBFS, noise + NOISE_MARGIN_DB), LOUDEST_THRESHOLD_DBFS)


def regions(pcm: Pcm, *, bridge_ms: int = 200) -> list[Region]:
    """The stretches of speech in 8 kHz samples; silences up to `bridge_ms` stay inside one."""
    levels = frame_levels(pcm)
    if not len(levels):
        return []
    limit = threshold(levels)
    loud = np.flatnonzero(levels > limit)
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > 1 + bridge_ms // 10)
    groups = np.split(loud, breaks + 1)
    peak = 32768 * 10 ** ((limit + PEAK_DB) / 20)
    return [
        _trim(pcm, int(group[0]), int(group[-1]) + 1, peak)
        for group in groups
        if len(group) >= SHORTEST
    ]


def _trim(pcm: Pcm, first: int, last: int, peak: float) -> Region:
    """Frames [first, last) and their neighbours, cut to the first and last loud sample."""
    start, end = max((first - 1) * FRAME, 0), min((last + 1) * FRAME, len(pcm))
    loud = np.flatnonzero(np.abs(pcm[start:end].astype(np.int32)) >= peak)
    if not len(loud):  # an even hum: no sample stands out
        return Region(first * FRAME, min(last * FRAME, len(pcm)))
    return Region(start + int(loud[0]), start + int(loud[-1]) + 1)


def resample(pcm: Pcm, source: int, target: int) -> Pcm:
    """A whole recording at another sample rate (band-limited, by Fourier transform)."""
    if source == target or not len(pcm):
        return pcm
    count = round(len(pcm) * target / source)
    spectrum = np.fft.rfft(pcm.astype(np.float64))
    kept = np.zeros(count // 2 + 1, np.complex128)
    shared = min(len(kept), len(spectrum))
    kept[:shared] = spectrum[:shared]
    sound = np.fft.irfft(kept, count) * (count / len(pcm))
    return np.clip(np.round(sound), -32768, 32767).astype(np.int16)


class Ear:
    """Listens live to what the phone receives: is the other side talking, and since when.

    Feed it every packet; times are the capture's (epoch seconds), None before any speech. Speech
    after a silence of more than `pause` seconds is a new onset.
    """

    def __init__(self, pause: float = 0.6) -> None:
        self.pause = pause
        self.onset: float | None = None  # first packet of the speech that is or was last heard
        self.last_speech: float | None = None  # last packet with speech

    def feed(self, packet: RtpPacket) -> None:
        """Take in one packet of either direction."""
        if packet.sent or (pcm := decode(packet)) is None or level(pcm) <= SPEECH_DBFS:
            return
        if self.silent_for(packet.at) > self.pause:
            self.onset = packet.at
        self.last_speech = packet.at

    def silent_for(self, now: float) -> float:
        """Seconds since the last speech; infinite before any."""
        return math.inf if self.last_speech is None else now - self.last_speech

    def spoke_since(self, when: float) -> bool:
        """Whether any speech came after `when`."""
        return self.last_speech is not None and self.last_speech > when
