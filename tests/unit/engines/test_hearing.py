import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bridge.engines.hearing import Hearing

RATE = 1000  # a sample a millisecond


def samples(start, end):
    return np.arange(start, end, dtype=np.int16)


def test_a_piece_is_cut_out_by_its_times():
    hearing = Hearing(RATE, 100)
    hearing.put(1000, samples(0, 20))
    hearing.put(1020, samples(20, 40))
    assert hearing.end_ms == 1040
    assert hearing.cut(1010, 1030).tolist() == list(range(10, 30))


def test_what_is_not_there_is_left_out():
    hearing = Hearing(RATE, 100)
    assert hearing.cut(0, 1000).tolist() == []
    hearing.put(0, samples(0, 60))
    assert hearing.cut(40, 900).tolist() == list(range(40, 60))
    assert hearing.cut(-50, 10).tolist() == list(range(10))
    assert hearing.cut(30, 20).tolist() == []


def test_only_the_last_of_it_is_kept():
    hearing = Hearing(RATE, 100)
    for n in range(10):
        hearing.put(n * 30, samples(n * 30, n * 30 + 30))
    assert hearing.cut(0, 1000).tolist() == list(range(200, 300))


def test_a_hole_is_silence():
    hearing = Hearing(RATE, 100)
    hearing.put(0, samples(1, 11))
    hearing.put(30, samples(31, 41))
    assert hearing.cut(0, 40).tolist() == [*range(1, 11), *[0] * 20, *range(31, 41)]
    hearing.put(9000, samples(1, 11))  # longer than what is kept
    assert hearing.cut(8990, 9010).tolist() == [*[0] * 10, *range(1, 11)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 150)), max_size=30))
def test_it_is_the_end_of_everything_that_was_put(pieces):
    hearing, whole = Hearing(RATE, 100), np.zeros(0, np.int16)
    for gap, length in pieces:
        if len(whole):
            whole = np.concatenate([whole, np.zeros(gap, np.int16)])
        piece = samples(len(whole), len(whole) + length)
        hearing.put(len(whole), piece)
        whole = np.concatenate([whole, piece])
    assert hearing.cut(0, 10**6).tolist() == whole[-100:].tolist()


def test_it_forgets():
    hearing = Hearing(RATE, 100)
    hearing.put(0, np.arange(800, dtype=np.int16))
    hearing.forget()
    assert not len(hearing.cut(0, 100))
    hearing.put(100, np.ones(80, np.int16))  # a last frame comes all the same
    assert not len(hearing.cut(0, 200))
