"""Resampling: flat where speech is, silent where images would be, the same however it is cut."""

import itertools

import numpy as np
import pytest

from bridge.audio.resample import DELAY_MS, RATES, ResamplerBank

PAIRS = [(a, b) for a, b in itertools.permutations(RATES, 2)]
LANE = np.zeros(1, np.intp)


def tone(rate, hz, seconds=1.0, level=20_000):
    t = np.arange(int(rate * seconds)) / rate
    return np.rint(level * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def run(source, target, pcm):
    return ResamplerBank(source, target, 1).process(LANE, pcm[None, :])[0]


def spectrum_db(pcm, rate):
    """Level of each Hz, in dB of the loudest."""
    window = np.blackman(len(pcm))
    level = np.abs(np.fft.rfft(pcm * window))
    return 20 * np.log10(level / level.max() + 1e-12), np.fft.rfftfreq(len(pcm), 1 / rate)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_length_level_and_delay(source, target):
    out = run(source, target, tone(source, 1000))
    assert len(out) == target
    want = tone(target, 1000)
    shift = int(DELAY_MS * target / 1000)
    error = out[target // 2 + shift :].astype(float) - want[target // 2 : target - shift]
    assert np.sqrt((error**2).mean()) < 20_000 * 10 ** (-50 / 20)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("hz", [300, 1000, 3000, 3400])
def test_no_images(source, target, hz):
    out = run(source, target, tone(source, hz, 2))[target // 2 : -target // 2]
    level, at = spectrum_db(out.astype(float), target)
    assert level[np.abs(at - hz) > 60].max() < -60


@pytest.mark.parametrize(("source", "target"), [p for p in PAIRS if p[0] > p[1]])
def test_aliases_are_60_db_down(source, target):
    """From 0.6 kHz beyond the lower rate's half on, nothing comes through."""
    for hz in np.arange(target / 2 + 600, source / 2 - 100, 700):
        out = run(source, target, tone(source, hz))[target // 4 : -target // 4].astype(float)
        assert np.sqrt((out**2).mean()) < 20_000 / np.sqrt(2) * 1e-3


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_pass_band_is_flat(source, target):
    for hz in (100, 1000, 2500, 3300):
        out = run(source, target, tone(source, hz))[target // 4 : -target // 4].astype(float)
        level = 20 * np.log10(np.sqrt((out**2).mean()) * np.sqrt(2) / 20_000)
        assert abs(level) < 0.5


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_cut_anywhere_it_is_the_same(source, target):
    rng = np.random.default_rng(1)
    pcm = rng.integers(-20_000, 20_000, source // 2).astype(np.int16)
    whole, bank, out = run(source, target, pcm), ResamplerBank(source, target, 2), []
    at = 0
    while at < len(pcm):
        n = bank.block * int(rng.integers(1, 20))
        out.append(bank.process(np.array([1]), pcm[None, at : at + n])[0])
        at += n
    assert np.abs(np.concatenate(out).astype(int) - whole).max() <= 1


def test_lanes_are_apart_and_can_be_reset():
    bank = ResamplerBank(8000, 16000, 2)
    loud, silent = tone(8000, 500, 0.02), np.zeros(160, np.int16)
    out = bank.process(np.array([0, 1]), np.stack([loud, silent]))
    assert out[0].any()
    assert not out[1].any()
    assert bank.process(np.array([0]), silent[None])[0].any(), "the filter's memory"
    bank.process(np.array([0]), loud[None])
    bank.reset(0)
    assert not bank.process(np.array([0]), silent[None])[0].any()


def test_full_scale_is_clipped_and_does_not_wrap():
    square = np.repeat(np.array([32767, -32768] * 20, np.int16), 40)
    out = run(8000, 16000, square)
    assert out.max() == 32767
    assert (np.abs(np.diff(out.astype(int))) < 60_000).all()
