import numpy as np
import pytest

from bridge.engines.rates import resample


def tone(hz, rate, seconds=0.5, level=8000):
    return (level * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


def level_db(pcm):
    inner = pcm[len(pcm) // 8 : -len(pcm) // 8].astype(float)
    return 10 * np.log10(np.mean(inner**2) + 1e-9)


RATES = [(22050, 16000), (22050, 8000), (24000, 16000), (8000, 16000), (16000, 22050)]


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_tone_stays_what_it_is(source, target):
    for hz in (200, 1000, 0.38 * min(source, target)):
        got = resample(tone(hz, source), source, target)
        want = tone(hz, target)
        inner = slice(len(want) // 8, -len(want) // 8)
        error = got[: len(want)][inner].astype(float) - want[inner]
        assert level_db(want) - 10 * np.log10(np.mean(error**2) + 1e-9) > 45, hz


@pytest.mark.parametrize(("source", "target"), [(22050, 16000), (22050, 8000), (24000, 8000)])
def test_what_is_above_the_band_is_gone(source, target):
    above = tone(0.56 * target, source)
    assert level_db(resample(above, source, target)) < level_db(above) - 60


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("length", [1, 7, 440, 441, 442, 5000])
def test_length_and_silence(source, target, length):
    got = resample(np.zeros(length, np.int16), source, target)
    assert len(got) == -(-length * target // source)
    assert not got.any()


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_constant_has_no_ripple(source, target):
    got = resample(np.full(4000, 12_000, np.int16), source, target)
    inner = got[200:-200]
    assert inner.min() >= 11_999
    assert inner.max() <= 12_001


def test_full_scale_is_clipped_and_never_wraps():
    square = np.where(np.arange(4410) % 441 < 220, 32767, -32768).astype(np.int16)
    got = resample(square, 22050, 16000).reshape(10, 320)  # a period a row
    assert got.max() == 32767
    assert got.min() == -32768
    assert (got[1:-1, 5:150] > 29_000).all()
    assert (got[1:-1, 165:315] < -29_000).all()


def test_nothing_to_do():
    pcm = tone(100, 8000)
    assert resample(pcm, 8000, 8000) is pcm
    assert len(resample(pcm[:0], 8000, 16000)) == 0
