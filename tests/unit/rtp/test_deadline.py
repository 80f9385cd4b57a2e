"""The gap's deadline follows the evidence."""

import numpy as np

from bridge.audio.columns import heap
from bridge.rtp import jitter
from bridge.rtp.deadline import START_MS, Deadlines

CALL = np.array([0])


class Learner:
    def __init__(self, packets_between_gaps):
        self.columns = heap(jitter.SPEC, 2)
        self.deadlines = Deadlines(self.columns)
        self.between = packets_between_gaps
        self.now = 0.0

    def gap(self, closes_after=None):
        self.now += 1000
        self.columns["n_received"][0] += self.between
        since = np.array([self.now])
        if closes_after is not None and closes_after <= self.wait:
            self.deadlines.closed(self.now + closes_after, CALL, since)
            return self
        self.deadlines.give_up(CALL, since)
        if closes_after is not None:
            self.deadlines.came_late(self.now + closes_after, CALL)
        return self

    @property
    def wait(self):
        return float(self.deadlines.wait_ms[0])


def test_it_starts_at_60_and_needs_evidence():
    learner = Learner(20)
    assert learner.wait == START_MS
    for _ in range(4):
        learner.gap()
    assert learner.wait == START_MS


def test_losses_that_never_come_are_not_waited_for():
    learner = Learner(20)
    for _ in range(20):
        learner.gap()
    assert learner.wait == 20


def test_frequent_late_packets_are_waited_for():
    learner = Learner(5)
    for _ in range(20):
        learner.gap(closes_after=95)
    assert learner.wait == 100


def test_rare_late_packets_are_not():
    learner = Learner(500)
    for _ in range(20):
        learner.gap(closes_after=95)
    assert learner.wait == 20


def test_it_follows_a_network_that_changes_and_does_not_flutter():
    learner = Learner(5)
    for _ in range(30):
        learner.gap(closes_after=75)
    waits = []
    for i in range(60):
        learner.gap(closes_after=75 if i % 2 else 35)
        waits.append(learner.wait)
    assert set(waits) == {80.0}
    for _ in range(120):
        learner.gap(closes_after=5)
    assert learner.wait == 20


def test_other_calls_are_not_touched():
    learner = Learner(20)
    for _ in range(20):
        learner.gap()
    assert learner.deadlines.wait_ms[1] == START_MS
