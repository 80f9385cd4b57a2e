"""The simulation of a host's death follows from what it is given."""

from __future__ import annotations

import dataclasses
import math

import pytest

from bridge.sessions.members import BEAT_S, HOST_TTL_S
from tests.bench.capacity.store import Costs as Asked
from tests.bench.capacity.store import Sizes
from tests.bench.capacity.storm import Costs, Line, busy, costs, die

NOTHING = Line(0.0, 0.0)
FREE = Costs(NOTHING, NOTHING, NOTHING, NOTHING, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_where_nothing_costs_anything_silence_is_what_it_takes_to_be_sure():
    found = die(FREE, hosts=3, workers=2, calls=50)
    assert found.redis_busy == 0
    assert HOST_TTL_S - BEAT_S <= found.silent_s[0] <= found.silent_s[1] <= HOST_TTL_S + 0.05


def test_calls_wait_for_the_one_asterisk_and_more_hosts_share_the_rest():
    slow = dataclasses.replace(FREE, take_asterisk=10.0)
    least = HOST_TTL_S - BEAT_S
    assert die(slow, 3, 2, 50).silent_s[1] - least == pytest.approx(0.5, abs=0.4)
    work = dataclasses.replace(FREE, take_worker=40.0)
    few, many = die(work, 2, 2, 50).silent_s[1], die(work, 20, 2, 50).silent_s[1]
    assert few - least > 0.9
    assert many - least < 0.5


def test_a_redis_that_can_not_get_on_with_what_is_asked_has_no_answer():
    dear = dataclasses.replace(FREE, live_redis=Line(0.0, 0.001))
    assert busy(dear, workers=100, calls=10_000) == pytest.approx(0.5)
    assert math.isinf(die(dear, 100, 2, 100).silent_s[0])


def test_costs_are_a_line_through_what_was_measured():
    def asked(redis_ms: float, worker_ms: float) -> Asked:
        return Asked(redis_ms, worker_ms)

    few = Sizes(10, 100, asked(1.0, 2.0), asked(1.0, 3.0), asked(0.5, 0.6))
    many = Sizes(30, 300, asked(2.0, 6.0), asked(3.0, 9.0), asked(0.5, 0.6))
    found = costs(few, many, {"worker_ms": 7.0, "asterisk_ms": 8.0}, 0.1)
    assert found.beat_redis(20) == pytest.approx(1.5)
    assert found.live_worker(200) == pytest.approx(6.0)
    assert (found.take_worker, found.take_asterisk, found.write_redis) == (7.0, 8.0, 0.1)
