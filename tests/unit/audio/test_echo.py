"""Telling our own voice from the caller's."""

import numpy as np
import pytest

from bridge.audio import g711
from bridge.audio.echo import ECHO, likeness

RNG = np.random.default_rng(11)


def talker(n, pitch, seed):
    """A buzz at a moving pitch with resonances of its own, in syllables: voiced speech."""
    rng = np.random.default_rng(seed)
    loud, shift = rng.uniform(0.1, 1, 60), rng.uniform(0, 2 * np.pi, 60)
    t = np.arange(n) / 8000
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * 3 * t + seed))) / 8000
    tone = sum(loud[k] * np.cos(k * phase + shift[k]) / k for k in range(1, int(3400 / pitch)))
    tone = tone * (1.2 + np.sin(2 * np.pi * (3 + seed % 3) * t)) + 0.1 * rng.normal(size=n)
    return 1500 * tone


def line(x):
    """Through the telephone."""
    return g711.decode_ulaw(g711.encode_ulaw(np.rint(x).clip(-32768, 32767).astype(np.int16)))


@pytest.mark.parametrize("delay_ms", [20, 100, 250])
@pytest.mark.parametrize("noise", [0, 40])
def test_an_echo_is_known_by_its_shape(delay_ms, noise):
    played = line(talker(3840, 120, 1))
    end = 3840 - delay_ms * 8
    echo = played[end - 1280 : end] * 10 ** (-15 / 20)
    found, louder_db = likeness(line(echo + RNG.normal(0, noise, 1280)), played)
    assert found > ECHO + 0.1
    assert abs(louder_db + 14) < 2


@pytest.mark.parametrize("pitch", [90, 119, 121, 180, 240])
def test_another_voice_is_not(pitch):
    played = line(talker(3840, 120, 1))
    for seed in range(2, 8):
        heard = line(talker(1280, pitch, seed))
        assert likeness(heard, played)[0] < ECHO - 0.1


def test_a_caller_who_speaks_over_the_echo_is_not():
    played = line(talker(3840, 120, 1))
    echo = played[1000:2280] * 10 ** (-15 / 20)
    assert likeness(line(echo + 0.7 * talker(1280, 200, 4)), played)[0] < ECHO


def test_silence_is_like_nothing():
    nothing = np.zeros(3840, np.int16)
    assert likeness(nothing[:1280], line(talker(3840, 120, 1))) == (0.0, 0.0)
    assert likeness(line(talker(1280, 120, 1)), nothing) == (0.0, 0.0)
