"""Where a voice has just stopped, by its level alone."""

import numpy as np
import pytest

from bridge.engines.hearing import Hearing
from bridge.engines.lull import BACK_MS, DROP_DB, FRAME_MS, LULL_MS, MOST_MS, Lull

RATE = 16000
LOUD = 8000


class Caller:
    def __init__(self, began_ms=0):
        self.hearing, self.lull = Hearing(RATE, 5000), Lull()
        self.lull.began(began_ms)
        self.found = []

    def says(self, ms, level, step_ms=20):
        for _ in range(ms // step_ms):
            self.hearing.put(self.hearing.end_ms, np.full(RATE * step_ms // 1000, level, np.int16))
            if self.lull.grew(self.hearing):
                self.found.append(self.hearing.end_ms)
                self.lull.looked()


def below(db):
    return round(LOUD / 10 ** (db / 20))


@pytest.mark.parametrize("step_ms", [20, 60, 10, 30])
def test_it_is_told_once_when_the_voice_stops_however_the_audio_comes(step_ms):
    caller = Caller()
    caller.says(240, LOUD, step_ms)
    caller.says(480, 5, step_ms)
    (found,) = caller.found
    assert 240 + LULL_MS <= found < 240 + LULL_MS + max(20, step_ms)
    caller.says(240, LOUD, step_ms)
    caller.says(480, 5, step_ms)
    assert len(caller.found) == 2


def test_a_softer_voice_and_one_that_stops_for_a_frame_are_none():
    caller = Caller()
    caller.says(200, LOUD)
    caller.says(200, below(DROP_DB - 2))
    caller.says(20, 0)
    caller.says(200, below(DROP_DB - 2))
    assert caller.found == []
    caller.says(100, below(DROP_DB + 2))
    assert len(caller.found) == 1


def test_in_loud_noise_there_is_none_and_what_was_said_before_is_no_measure():
    caller = Caller()
    caller.says(200, LOUD)
    caller.lull.began(caller.hearing.end_ms)
    caller.says(200, below(20))
    caller.says(400, below(35))  # noise, 15 dB below the voice
    assert caller.found == []


def test_nothing_was_said_yet():
    caller = Caller()
    caller.says(200, 0)
    assert caller.found == []


def test_a_lull_that_nobody_looked_at_goes_on_being_one():
    caller = Caller()
    caller.says(200, LOUD)
    caller.hearing.put(200, np.zeros(RATE // 25, np.int16))
    assert caller.lull.grew(caller.hearing)
    assert caller.lull.grew(caller.hearing)
    caller.lull.looked()
    assert not caller.lull.grew(caller.hearing)


def test_it_is_told_when_the_voice_is_back_and_a_click_is_no_voice():
    caller = Caller()
    caller.says(200, LOUD)
    caller.says(100, 5)
    caller.says(40, LOUD)  # a click
    caller.says(100, 5)
    assert caller.lull.back_ms == 0
    caller.says(40, LOUD)
    caller.says(20, 5)
    caller.says(40, LOUD)  # that dip was no lull
    assert caller.lull.back_ms == 0
    caller.says(100, 5)
    came_ms = caller.hearing.end_ms
    caller.says(200, below(DROP_DB - 5))
    assert caller.lull.back_ms == came_ms + BACK_MS


def test_noise_that_goes_on_behind_the_voice_is_no_voice_that_is_back():
    caller = Caller()
    caller.says(200, LOUD)
    caller.says(400, below(DROP_DB - 10))
    assert caller.lull.back_ms == 0


def test_an_hour_on_hold_is_not_looked_at_frame_by_frame(monkeypatch):
    caller = Caller()
    caller.says(200, LOUD)
    looked, look = [], Lull._frame
    monkeypatch.setattr(
        Lull, "_frame", lambda lull, energy: looked.append(energy) or look(lull, energy)
    )
    caller.hearing.put(3_600_000, np.zeros(RATE // 50, np.int16))
    assert caller.lull.grew(caller.hearing)
    assert len(looked) == MOST_MS // FRAME_MS
    caller.lull.looked()
    caller.says(200, LOUD)
    caller.says(60, 5)
    assert caller.found == [3_600_000 + 20 + 200 + LULL_MS]
