"""When lines were said, as far as anybody knows."""

import pytest

from bridge.dialog.playout import Heard
from bridge.transcript import Transcript


class Store:
    def __init__(self):
        self.lines = []

    def say(self, call_id, line):
        self.lines.append(line)


@pytest.fixture
def store():
    return Store()


def test_a_callers_line_has_the_times_of_his_turn(store):
    transcript = Transcript(store, "c")
    transcript.caller("Hello.", 2000, 500)
    transcript.say("event", "x")
    line = store.lines[0]
    assert line.end - line.begin == pytest.approx(1.5)
    assert line.at - line.end == pytest.approx(0.5)


def test_an_agents_line_ends_now_and_lasted_as_long_as_it_was_heard(store):
    Transcript(store, "c").agent(Heard(1, 1200, "Hi.", False))
    (line,) = store.lines
    assert line.end - line.begin == pytest.approx(1.2)
    assert line.end == line.at


def test_a_line_whose_time_nobody_knows(store):
    transcript = Transcript(store, "c")
    transcript.caller("Hello.")
    transcript.settle()
    assert (store.lines[0].begin, store.lines[0].end) == (0, 0)
