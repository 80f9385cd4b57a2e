"""The judge's ear: where speech begins and ends, on sounds whose truth is known."""

import math

import numpy as np
import pytest

from tests.lab.capture import PCMU, RATE, Pcm, RtpPacket
from tests.lab.speech import Ear, level, regions, resample

MS = RATE // 1000


def voice(ms: int, dbfs: float = -20.0) -> Pcm:
    """A buzz with the level of a voice on the phone, and its ups and downs."""
    t = np.arange(ms * MS) / RATE
    sound = np.sign(np.sin(2 * np.pi * 150 * t)) * (1 + 0.5 * np.sin(2 * np.pi * 4 * t))
    return (sound * 32768 * 10 ** (dbfs / 20)).astype(np.int16)


def scene(*parts: Pcm | int, noise_dbfs: float | None = None) -> Pcm:
    """Voices, with silences of so many ms between them."""
    pcm = np.concatenate(
        [np.zeros(p * MS, np.int16) if isinstance(p, int) else p for p in parts]
    ).astype(np.int16)
    if noise_dbfs is not None:
        noise = np.random.default_rng(3).normal(0, 32768 * 10 ** (noise_dbfs / 20), len(pcm))
        pcm = np.clip(pcm + noise, -32768, 32767).astype(np.int16)
    return pcm


@pytest.mark.parametrize("noise", [None, -70.0, -55.0])
@pytest.mark.parametrize("offset", [0, 3, 7])
def test_edges_are_found_to_the_millisecond(noise: float | None, offset: int) -> None:
    pcm = scene(1000 + offset, voice(500), 700, voice(800), 1000, noise_dbfs=noise)
    found = regions(pcm)
    truth = [1000 + offset, 1500 + offset, 2200 + offset, 3000 + offset]
    assert [edge / MS for region in found for edge in region] == pytest.approx(truth, abs=4)


def test_a_loud_line_is_not_speech() -> None:
    pcm = scene(1000, voice(500, dbfs=-15), 1000, noise_dbfs=-44)
    assert [edge / MS for region in regions(pcm) for edge in region] == pytest.approx(
        [1000, 1500], abs=8
    )


def test_pauses_inside_a_sentence_do_not_end_it() -> None:
    pcm = scene(300, voice(400), 150, voice(400), 300)
    assert len(regions(pcm)) == 1
    assert len(regions(pcm, bridge_ms=100)) == 2


def test_clicks_and_silence_are_not_speech() -> None:
    assert regions(scene(500, voice(10), 500)) == []
    assert regions(scene(1000)) == []
    assert regions(scene(1000, noise_dbfs=-55)) == []
    assert regions(np.zeros(0, np.int16)) == []


def test_speech_without_a_pause_is_still_speech() -> None:
    [whole] = regions(voice(3000))
    assert whole.end - whole.start > 2900 * MS


def test_level() -> None:
    assert level(np.full(80, 32767, np.int16)) == pytest.approx(0, abs=0.01)
    assert level(np.zeros(80, np.int16)) == -120


def test_resampling_keeps_pitch_and_level() -> None:
    t = np.arange(16000) / 16000
    tone = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
    half = resample(tone, 16000, 8000)
    assert len(half) == 8000
    assert int(np.argmax(np.abs(np.fft.rfft(half.astype(float))))) == 440
    assert level(half) == pytest.approx(level(tone), abs=0.1)


def heard(ear: Ear, at: float, code: int, *, sent: bool = False) -> None:
    ear.feed(RtpPacket(at, 20000, sent, PCMU, False, 0, 0, 1, bytes([code]) * 160))


def test_ear_follows_onset_and_end() -> None:
    ear = Ear(pause=0.5)
    assert ear.silent_for(5.0) == math.inf
    heard(ear, 1.0, 0xFF)
    heard(ear, 1.0, 0x80, sent=True)  # what we say ourselves
    assert ear.onset is None
    heard(ear, 2.0, 0x80)
    heard(ear, 2.4, 0x80)
    assert (ear.onset, ear.last_speech) == (2.0, 2.4)
    heard(ear, 3.0, 0x80)
    assert ear.onset == 3.0
    assert ear.silent_for(4.0) == 1.0
    assert ear.spoke_since(2.9)
    assert not ear.spoke_since(3.0)
