"""Tones in a recording that are no speech: a human's stand-in, ringing, the sound of a wait."""

from collections.abc import Sequence

import numpy as np

from tests.lab.capture import RATE, Pcm
from tests.lab.speech import Region

HUMAN_HZ = (650.0, 1450.0)  # asterisk-config/demo/extensions.conf, extension 200
RING_HZ = (440.0, 480.0)  # Asterisk's ringing tone (indications.conf, us)
WAIT_HZ = (440.0, 554.4)  # the bridge's soft sound, one note after the other, 180 ms each
HUMAN_FRAMES, RING_FRAMES, WAIT_FRAMES = 50, 10, 5
LOST_FRAMES = 6  # spoilt by packets lost from a tone, with the frames at the edges of the holes
FRAME = RATE // 50
SHARE = 0.8  # of a frame's power at the two frequencies
WAIT_PEAK = 1200  # it is soft; no voice is
QUIET = 100.0  # RMS; what is less is no tone, and no speech either


def find_tones(pcm: Pcm, frequencies: Sequence[float], least: int, others: int = 1) -> list[Region]:
    """Where a recording is nothing but the given tones for `least` frames of 20 ms or more.

    Up to `others` frames of something else in a row don't end it.
    """
    frames = pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    power = np.sum(frames**2, axis=1)
    t = np.arange(FRAME) / RATE
    part = np.stack([wave(2 * np.pi * f * t) for f in frequencies for wave in (np.sin, np.cos)])
    basis = np.linalg.qr(part.T)[0]  # orthonormal: a frame's power within their span
    share = np.sum((frames @ basis) ** 2, axis=1) / np.maximum(power, 1.0)
    pure = np.flatnonzero((share > SHARE) & (power > FRAME * QUIET**2))
    groups = np.split(pure, np.flatnonzero(np.diff(pure) > others + 1) + 1)
    return [Region(int(g[0]) * FRAME, (int(g[-1]) + 1) * FRAME) for g in groups if len(g) >= least]


def find_waits(pcm: Pcm) -> list[Region]:
    """Where the bridge's soft sound bridges a wait."""
    found = find_tones(pcm, WAIT_HZ, WAIT_FRAMES)
    return [tone for tone in found if np.abs(pcm[tone.start : tone.end]).max() < WAIT_PEAK]


def without_waits(pcm: Pcm) -> Pcm:
    """The same recording with silence in their place.

    An answer may begin in the very packet that cuts one off: only 10 ms more than the pure tone go.
    """
    out = pcm.copy()
    for wait in find_waits(pcm):
        out[max(wait.start - FRAME // 2, 0) : wait.end + FRAME // 2] = 0
    return out
