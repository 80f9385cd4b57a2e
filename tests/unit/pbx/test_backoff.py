from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.pbx.backoff import Backoff


def test_doubles_up_to_the_most():
    backoff = Backoff(0.1, 1.0, rand=lambda: 0.0)
    assert [backoff.next_s() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_jitter_takes_up_to_half():
    backoff = Backoff(0.1, 1.0, rand=lambda: 1.0)
    assert [backoff.next_s() for _ in range(3)] == [0.05, 0.1, 0.2]


def test_reset_begins_again():
    backoff = Backoff(0.1, 1.0, rand=lambda: 0.0)
    backoff.next_s()
    backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 0.1


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_never_nothing_and_never_more_than_the_most(draws):
    source = iter(draws)
    backoff = Backoff(0.1, 2.0, rand=lambda: next(source))
    assert all(0.05 <= backoff.next_s() <= 2.0 for _ in draws)
