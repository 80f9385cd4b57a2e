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


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_frame_gives_a_frame_at_once(source, target):
    """No bursts: 20 ms in, 20 ms out, from the first frame on."""
    bank = ResamplerBank(source, target, 1)
    for _ in range(10):
        assert bank.process(LANE, np.zeros((1, source // 50), np.int16)).shape == (1, target // 50)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_delay_is_constant_and_at_most_3_ms(source, target):
    """Clicks anywhere in a frame come out `DELAY_MS` later, each alike."""
    delays = []
    for at in range(source // 10, source // 10 + source // 50, max(1, source // 4000)):
        click = np.zeros(source // 5, np.int16)
        click[at] = 30_000
        out = run(source, target, click).astype(float)
        # The centre of its power, to a fraction of a sample.
        centre = (np.arange(len(out)) * out**2).sum() / (out**2).sum()
        delays.append(centre / target * 1000 - at / source * 1000)
    assert max(delays) < 3.0
    assert np.allclose(delays, DELAY_MS, atol=0.03)


@pytest.mark.parametrize(("source", "target"), [(8000, 16000), (16000, 8000), (24000, 8000)])
def test_no_click_at_frame_edges(source, target):
    """A tone in frames of 20 ms: the error beside a perfect tone is no greater at the edges."""
    bank, hz, pcm = ResamplerBank(source, target, 1), 1234, tone(source, 1234)
    frames = [bank.process(LANE, f[None])[0] for f in pcm.reshape(-1, source // 50)]
    out = np.concatenate(frames).astype(float)
    at = np.arange(len(out)) / target - DELAY_MS / 1000
    error = np.abs(out - 20_000 * np.sin(2 * np.pi * hz * at)).reshape(-1, target // 50)[5:]
    assert error[:, :4].max() <= error[:, 4:].max() + 1
    assert error.max() < 20_000 * 1e-3
