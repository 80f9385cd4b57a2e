"""The grid."""

from bridge.media.clock import Grid


def test_each_tick_comes_once():
    grid = Grid(1000, 5)
    assert list(grid.due(1004.9)) == []
    assert list(grid.due(1005)) == [1]
    assert list(grid.due(1006)) == []
    assert grid.next_ms == 1010


def test_late_ticks_are_all_there():
    grid = Grid(1000, 5)
    assert list(grid.due(1022)) == [1, 2, 3, 4]
    assert grid.next_ms == 1025, "on the grid, not after the delay"


def test_it_does_not_drift():
    grid, now = Grid(0, 5), 0.0
    for _ in range(10_000):
        now = grid.next_ms + 1.7
        grid.due(now)
    assert grid.tick == 10_000
    assert grid.next_ms == 50_005


def test_time_that_stands_still_is_no_tick():
    grid = Grid(0, 5)
    grid.due(20)
    assert list(grid.due(19)) == []
    assert grid.tick == 4
