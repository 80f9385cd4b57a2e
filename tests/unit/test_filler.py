import numpy as np

from bridge.filler import AGAIN_MS, Filler, soft_sound


def times(filler, wanted):
    """When it is due, of a list of what holds every 20 ms."""
    return [20 * k for k, on in enumerate(wanted) if filler.due(20 * k, on)]


def test_it_is_due_after_so_long_and_then_now_and_then():
    filler = Filler(500, 8000)
    filler.clip = np.ones(8000, np.int16)
    assert times(filler, [True] * 400) == [500, 500 + 1000 + AGAIN_MS]


def test_it_counts_anew_when_nothing_is_owed_any_more():
    assert times(Filler(500, 8000), [True] * 20 + [False] + [True] * 30) == [920]


def test_it_can_be_switched_off():
    assert times(Filler(0, 8000), [True] * 1000) == []


def test_the_sound_is_soft_and_begins_and_ends_in_silence():
    sound = soft_sound(16000)
    assert 0.2 < len(sound) / 16000 < 0.5
    assert 500 < np.abs(sound).max() < 1000
    assert abs(int(sound[0])) < 5
    assert abs(int(sound[-1])) < 5
