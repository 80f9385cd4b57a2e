import numpy as np
import pytest

from bridge.audio.hum import is_hum

OPEN, CLOSED = (700, 1200, 2500), (300, 2200, 3000)
"""Formants, Hz."""


def voice(ms, rate, formants=OPEN, pitch=120):
    """A vowel, its level swelling and falling: int16."""
    t = np.arange(rate * ms // 1000) / rate
    sound = np.zeros(len(t))
    for k in range(1, 3400 // pitch):
        near = min(abs(k * pitch - f) for f in formants)
        sound += np.exp(-near / 150) * np.sin(2 * np.pi * k * pitch * t)
    return sound / np.abs(sound).max() * np.hanning(len(t)) ** 0.3 * 8000


def said(*parts, rate=8000, noise=3.0, around_ms=150):
    """Parts one after the other, over a little noise."""
    silence = np.zeros(rate * around_ms // 1000)
    whole = np.concatenate([silence, *parts, silence])
    whole += np.random.default_rng(1).standard_normal(len(whole)) * noise
    return whole.astype(np.int16)


def breath(ms, rate, formants=OPEN):
    """The same mouth, nearly without voice."""
    return voice(ms, rate, formants) * 0.08


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("noise", [3.0, 300.0])
def test_the_same_vowel_twice_with_a_breath_between_is_a_hum(rate, noise):
    beats = voice(160, rate), breath(60, rate), voice(200, rate)
    assert is_hum(said(*beats, rate=rate, noise=noise), rate)


def test_another_vowel_is_a_word():
    beats = voice(160, 8000), breath(60, 8000), voice(200, 8000, CLOSED)
    assert not is_hum(said(*beats), 8000)


def test_one_beat_may_be_any_word():
    assert not is_hum(said(voice(400, 8000)), 8000)


def test_a_closure_between_the_beats_is_a_consonant():
    beats = voice(160, 8000), np.zeros(640), voice(200, 8000)
    assert not is_hum(said(*beats), 8000)


def test_silence_may_be_around_it_but_not_without_end():
    hum = said(voice(160, 8000), breath(60, 8000), voice(200, 8000))
    assert is_hum(np.pad(hum, (0, 8000 * 2)), 8000)
    assert not is_hum(np.pad(hum, (0, 8000 * 3)), 8000)


def test_what_is_long_or_hardly_there_is_none():
    beats = voice(300, 8000), breath(60, 8000), voice(500, 8000)
    assert not is_hum(said(*beats), 8000)
    assert not is_hum(np.zeros(0, np.int16), 8000)
    assert not is_hum(np.zeros(100, np.int16), 8000)
    assert not is_hum(np.zeros(8000, np.int16), 8000)
