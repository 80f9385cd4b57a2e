"""The callers' audio out of the map: to each call, and to whoever hears all together."""

import pytest

from bridge.media.frames import Frames
from bridge.media.slots import CONCEALED, DROPPED, ECHO, SPEECH, SlotMap


@pytest.fixture
def slots(tmp_path):
    made = SlotMap.create(tmp_path / "slots", 4, 1000)
    made.columns["t_rate"][:] = [8, 8, 16, 8]
    return made


def put(slots, index, flags):
    """Frames numbered from 1 in each sample, with such flags."""
    rate = int(slots.columns["t_rate"][index])
    for flag in flags:
        n = int(slots.columns["t_head"][index]) // (rate * 20)
        slots.up[rate][index, n] = 100 * index + n + 1
        slots.columns["up_flags"][index, n] = flag
        slots.columns["t_head"][index] += rate * 20


def test_who_hears_all_gets_them_as_they_came_and_after_the_calls(slots):
    frames, told, order = Frames(slots), {}, []
    for index in (0, 1, 2, 3):
        lane = frames.open(index, 16000)
        if index != 3:  # nobody listens there yet
            frames.listen(lane, lambda up, index=index: order.append((index, len(up.pcm))))

    def tap(rows, rate, pcm, fired):
        order.append("tap")
        for row, line, flags in zip(rows.tolist(), pcm, fired.tolist(), strict=True):
            told[row] = (rate, line[:: rate // 50].tolist(), flags)

    frames.tap = tap
    put(slots, 0, [SPEECH, 0])
    put(slots, 1, [SPEECH | ECHO, SPEECH | CONCEALED])
    put(slots, 2, [SPEECH | DROPPED])
    put(slots, 3, [SPEECH])
    frames.read()
    assert told == {
        0: (8000, [1, 2], [True, False]),
        1: (8000, [101, 102], [False, True]),
        2: (16000, [201], [False]),
    }
    assert order == [(0, 640), (1, 640), "tap", "tap"]
    frames.read()
    assert order.count("tap") == 2, "nothing has come"
    later = []
    frames.later = later.append
    put(slots, 0, [SPEECH])
    frames.read()
    assert order[4:] == [(0, 320)], "first what they send"
    (hear,) = later
    hear()
    assert order[5:] == ["tap"]


@pytest.fixture
def resting(slots):
    """One slot that rests in silence as far as 60 ms, and what its listener was given."""
    frames, given = Frames(slots), []
    lane = frames.open(0, 16000)
    frames.listen(lane, lambda up: given.append(("all", up.at_ms)))
    frames.rest(lane, lambda at_ms, pcm: given.append((len(pcm), at_ms)), 60, False)
    return slots, frames, lane, given


def test_a_slot_that_rests_is_given_nothing_but_samples(resting):
    slots, frames, _, given = resting
    put(slots, 0, [0])
    frames.read()
    put(slots, 0, [ECHO | SPEECH, 0])
    frames.read()
    put(slots, 0, [0])
    frames.read()
    assert given == [(320, 0), (640, 20), ("all", 60)], "it rests no longer than it said"


@pytest.mark.parametrize("flag", [SPEECH, DROPPED])
def test_a_rest_ends_where_something_else_comes(resting, flag):
    slots, frames, _, given = resting
    put(slots, 0, [0, flag])
    frames.read()
    assert given[0] == ("all", 0)


def test_a_rest_ends_where_the_reflex_has_tripped(resting):
    slots, frames, _, given = resting
    slots.columns["reflex_count"][0] = 1
    put(slots, 0, [0])
    frames.read()
    assert given == [("all", 0)]


def test_a_rest_ends_where_who_hears_all_says_something_else(resting):
    slots, frames, _, given = resting
    frames.tap = lambda rows, rate, pcm, fired: rows
    put(slots, 0, [0])
    frames.read()
    put(slots, 0, [0])
    frames.read()
    assert given == [(320, 0), ("all", 20)]


def test_another_listener_does_not_rest(resting):
    slots, frames, lane, given = resting
    frames.listen(lane, lambda up: given.append(("other", up.at_ms)))
    put(slots, 0, [0])
    frames.read()
    assert given == [("other", 0)]
