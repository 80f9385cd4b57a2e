import json

from bridge.dialog.turns import AgentPaused, AgentResumed
from bridge.stopwatch import Stopwatch


def test_an_heir_goes_on_with_the_turns_of_the_dead():
    written = []
    first = Stopwatch(written.append, clock=lambda: 1.0)
    first.acted(AgentPaused(0), 1)
    first.acted(AgentResumed(0), 1)
    heir = Stopwatch(written.append, clock=lambda: 2.0)
    heir.take_up(written[-1])
    heir.acted(AgentPaused(0), 2)
    heir.acted(AgentResumed(0), 2)
    assert [turn["at_s"]["resumed"] for turn in json.loads(written[-1])] == [1.0, 2.0]


def test_nothing_was_written_before():
    Stopwatch(print).take_up("")
