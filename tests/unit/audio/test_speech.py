"""First-stage speech detector."""

import numpy as np
import pytest

from bridge.audio.columns import heap
from bridge.audio.speech import SPEC, SpeechBank, level_db, thresholds

RNG = np.random.default_rng(3)


def noise(frames, rms):
    return np.rint(RNG.normal(0, rms, (frames, 160))).astype(np.int16)


def judge(bank, frames, call=0):
    decisions = []
    for n, frame in enumerate(frames):
        speech, _ = bank.judge(np.array([call]), frame[None])
        decisions.append(bool(speech[0]))
        if n % 4 == 3:  # as often as media does
            bank.learn()
    bank.learn()
    return decisions


def test_levels():
    square = np.full((1, 160), 16384, np.int16)
    square[0, ::2] = -16384
    assert abs(level_db(square)[0] + 6.02) < 0.01
    assert level_db(np.zeros((1, 160), np.int16))[0] < -95
    assert level_db(square + np.int16(4000))[0] < -5.9, "a constant is no sound"


def test_silence_and_line_noise_are_not_speech():
    bank = SpeechBank(heap(SPEC, 1))
    assert not any(judge(bank, np.zeros((50, 160), np.int16)))
    assert not any(judge(bank, noise(500, 60))[5:])


def test_a_voice_over_noise_is_heard_at_its_first_frame():
    bank = SpeechBank(heap(SPEC, 1))
    judge(bank, noise(200, 60))
    assert all(judge(bank, noise(100, 1200)))
    assert not any(judge(bank, noise(50, 60)))


def test_loud_steady_noise_becomes_the_floor_in_time():
    bank = SpeechBank(heap(SPEC, 1))
    decisions = judge(bank, noise(1500, 300))
    assert not any(decisions[-50:])


def test_calls_have_floors_of_their_own():
    bank = SpeechBank(heap(SPEC, 2))
    judge(bank, noise(1500, 300), call=0)
    both, _ = bank.judge(np.array([0, 1]), noise(2, 300))
    assert both.tolist() == [False, True]


def test_frames_of_one_batch_are_learnt_as_if_they_had_come_one_by_one():
    frames = noise(300, 200)
    single, batch = (SpeechBank(heap(SPEC, 2)) for _ in range(2))
    for pair in frames.reshape(-1, 3, 160):
        for frame in pair:
            single.judge(np.array([1]), frame[None])
        single.learn()
        batch.judge(np.array([1, 1, 1]), pair)
        batch.learn()
    assert single.floor_db[1] == batch.floor_db[1] < -40
    assert single.floor_db[0] == batch.floor_db[0], "the other call's is untouched"


def test_a_noisy_line_is_known_for_one_within_a_second():
    bank = SpeechBank(heap(SPEC, 1))
    decisions = judge(bank, noise(200, 400))
    assert not any(decisions[35:])
    assert all(judge(bank, noise(20, 3000)))


def test_a_voice_with_closures_does_not_become_its_own_floor():
    bank = SpeechBank(heap(SPEC, 1))
    judge(bank, noise(200, 60))
    for _ in range(10):
        assert all(judge(bank, noise(45, 1200)))
        assert not any(judge(bank, noise(3, 60)))


def test_what_was_never_on_the_line_says_nothing_of_its_noise():
    bank = SpeechBank(heap(SPEC, 1))
    judge(bank, noise(200, 400))
    judge(bank, np.zeros((3, 160), np.int16))
    assert not any(judge(bank, noise(50, 400)))


def test_a_word_out_of_digital_silence_does_not_become_its_own_floor():
    bank = SpeechBank(heap(SPEC, 1))
    judge(bank, np.zeros((200, 160), np.int16))
    assert all(judge(bank, noise(20, 1000)) + judge(bank, noise(11, 300)))
    judge(bank, np.zeros((200, 160), np.int16))
    assert all(judge(bank, noise(20, 1000))), "nor the second one"


@pytest.mark.parametrize(("sensitivity", "hears"), [(0.0, False), (0.5, False), (1.0, True)])
def test_sensitivity_moves_the_threshold(sensitivity, hears):
    columns = heap(SPEC, 1)
    columns["s_above_db"][0], columns["s_least_db"][0] = thresholds(sensitivity)
    bank = SpeechBank(columns)
    judge(bank, noise(200, 120))
    assert all(judge(bank, noise(20, 250))) == hears
