"""Concealment: continues what was heard, without a step, and fades."""

import numpy as np
import pytest

from bridge.audio.conceal import HISTORY_MS, RUN_MS, ComfortNoise, ConcealBank

CALL = np.array([0])


def extend(history, n, rate, period=None):
    """The first n samples of each history's run."""
    bank = ConcealBank(len(history), rate)
    return bank.make(np.arange(len(history)), history, n, rate, period)


def voice(n, hz=137, rate=8000, start=0):
    """A buzz like a voice: harmonics of one pitch."""
    t = (np.arange(n) + start) / rate
    wave = sum(np.sin(2 * np.pi * hz * k * t + k) / k for k in range(1, 9))
    return np.rint(5000 * wave).astype(np.int16)


@pytest.mark.parametrize("rate", [8, 16, 24])
@pytest.mark.parametrize("hz", [80, 137, 190])
def test_a_voice_goes_on_in_its_pitch(rate, hz):
    history = voice(HISTORY_MS * rate, hz, rate * 1000)
    out = extend(history[None], 10 * rate, rate)[0]
    want = voice(10 * rate, hz, rate * 1000, HISTORY_MS * rate)
    like = np.corrcoef(out, want)[0, 1]
    assert like > 0.9


def test_it_begins_without_a_step():
    history = voice(HISTORY_MS * 8)
    out = extend(history[None], 160, 8)[0]
    joined = np.concatenate((history, out)).astype(int)
    usual = np.abs(np.diff(history.astype(int))).max()
    assert np.abs(np.diff(joined[len(history) - 2 : len(history) + 2])).max() <= 1.3 * usual


def test_it_fades_to_nothing():
    out = extend(voice(HISTORY_MS * 8)[None], RUN_MS * 8, 8)[0].astype(float)
    level = np.sqrt((out.reshape(-1, 80) ** 2).mean(axis=1))
    assert (np.diff(level[1:]) < 0).all()
    assert level[-1] < level[0] / 4
    assert np.abs(out[-8:]).max() < level[0] / 10


def test_a_run_in_pieces_is_the_run_in_one():
    history = voice(HISTORY_MS * 8)[None]
    bank, whole = ConcealBank(1), extend(history, RUN_MS * 8, 8)[0]
    pieces = [bank.make(CALL, history, 80, 8)] + [bank.make(CALL, None, n, 8) for n in (240, 100)]
    assert (np.concatenate([p[0] for p in pieces]) == whole[:420]).all()
    assert bank.make(CALL, None, 60, 8).any()
    assert not bank.make(CALL, None, 800, 8).any(), "beyond the run there is nothing"


def test_what_comes_again_is_blended_in():
    bank = ConcealBank(1)
    bank.make(CALL, voice(HISTORY_MS * 8)[None], 160, 8)
    after = np.full((1, 160), 8000, np.int16)
    out = bank.blend(CALL, after, 8)[0].astype(int)
    assert (out[32:] == 8000).all()
    assert abs(out[0] - 8000) > 500, "the run's own next sample, mostly"
    assert bank.run[0] == 0
    assert (after == 8000).all(), "what was given is not touched"


def test_calls_are_apart():
    bank = ConcealBank(2)
    both = np.stack([voice(HISTORY_MS * 8, 100), np.zeros(HISTORY_MS * 8, np.int16)])
    out = bank.make(np.array([1, 0]), both[::-1], 160, 8)
    assert not out[0].any()
    assert out[1].any()


def test_silence_stays_silent():
    assert not extend(np.zeros((1, HISTORY_MS * 8), np.int16), 480, 8).any()


def test_a_given_period_is_repeated():
    history = voice(HISTORY_MS * 8)
    out = extend(history[None], 80, 8, np.array([160]))[0]
    assert (out == history[-160:-80]).all()


def test_comfort_noise_has_the_line_s_level_and_no_more():
    out = ComfortNoise().make(np.array([-60.0, -52.0, -20.0], np.float32), 1024).astype(float)
    level = 20 * np.log10(np.sqrt((out**2).mean(axis=1)) / 32768)
    assert level == pytest.approx([-60, -52, ComfortNoise.MOST_DB], abs=1)
