"""How often one caller may call."""

import pytest

from bridge import callrate
from bridge.callrate import CallRate


def test_so_many_in_a_minute_and_then_again():
    rate = CallRate(2)
    assert [rate.allows("100", at) for at in (0.0, 1.0, 2.0, 59.9)] == [True, True, False, False]
    assert [rate.allows("100", at) for at in (60.0, 60.5, 61.0)] == [True, False, True]


def test_others_are_not_held_up():
    rate = CallRate(1)
    assert rate.allows("100", 0.0)
    assert rate.allows("200", 0.0)
    assert not rate.allows("100", 0.0)


@pytest.mark.parametrize(("most", "number"), [(0, "100"), (1, "")])
def test_where_nothing_is_counted(most, number):
    rate = CallRate(most)
    assert all(rate.allows(number, 0.0) for _ in range(100))


def test_its_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(callrate, "MOST", 3)
    rate = CallRate(1)
    for number in range(100):
        assert rate.allows(str(number), 0.0)
    assert len(rate._begun) == 3
    assert not rate.allows("99", 1.0)
