"""The callers' audio out of the map: to each call, and to whoever hears all together."""

import asyncio

import numpy as np
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


@pytest.fixture
def passing(slots):
    """Three slots that rest whatever comes as far as 80 ms, two of whose frames go straight to
    `takes` as far as 60; what that was given, and what the listeners were."""
    frames, taken, given = Frames(slots), [], []
    left = []

    def takes(names, at_ms, pcm):
        assert len(names) == len(at_ms) == len(pcm)
        for n, (name, ms, samples) in enumerate(zip(names, at_ms, pcm, strict=True)):
            if n not in left:
                taken.append((name, ms, samples[::160].tolist()))
        return left

    def hears(index):
        return lambda at_ms, pcm: given.append((index, at_ms, pcm[::160].tolist()))

    lanes = [frames.open(index, 0) for index in range(3)]
    for index, lane in enumerate(lanes):
        frames.listen(lane, lambda up, index=index: given.append(("all", index, up.at_ms)))
        straight = (takes, f"call {index}") if index != 1 else None
        frames.rest(lane, hears(index), 80, None, straight, 60)
    slots.columns["t_rate"][2] = 8
    return slots, frames, lanes, left, taken, given


@pytest.fixture
def slots_alike(slots):
    slots.columns["t_rate"][:] = 8
    return slots


def test_what_is_only_passed_on_goes_straight_to_who_passes_it_on(slots_alike, passing):
    slots, frames, lanes, _, taken, given = passing
    for index, flags in enumerate([[SPEECH, 0], [0, SPEECH], [0]]):
        put(slots, index, flags)
    frames.read()
    assert sorted(taken) == [("call 0", 0, [1, 2]), ("call 2", 0, [201])]
    assert given == [(1, 0, [101, 102])]
    assert [frames.straight_ms(lane) for lane in lanes] == [40, 0, 20]
    assert frames.spoken(lanes[0], 0, 40) == [True, False]
    assert frames.spoken(lanes[1], 20, 40) == [True]
    put(slots, 0, [0, ECHO | SPEECH])
    put(slots, 2, [SPEECH])
    frames.read()
    assert taken[-1] == ("call 2", 20, [202])
    assert given[-1] == (0, 40, [3, 4]), "beyond what it said they go to the listener"
    put(slots, 0, [0])
    frames.read()
    assert given[-1] == ("all", 0, 80)


def test_how_far_frames_go_straight_may_be_put_off(slots_alike, passing):
    slots, frames, lanes, _, taken, given = passing
    for index, lane in enumerate(lanes):
        frames.straight_on(lane, 80)
        put(slots, index, [0, 0, 0, 0])
    frames.read()
    assert [name for name, *_ in taken] == ["call 0", "call 2"]
    assert [index for index, *_ in given] == [1], "it has nobody who takes them"
    frames.straight_on(lanes[0], 200)
    put(slots, 0, [0])
    frames.read()
    assert given[-1] == ("all", 0, 80), "it rests no longer for that"


def test_frames_go_straight_on_by_as_much_audio_as_flows(slots_alike, passing):
    slots, frames, lanes, _, taken, given = passing
    frames.straight_on(lanes[0], 20, 50)
    frames.straight_on(lanes[2], 20)
    put(slots, 0, [0])
    put(slots, 2, [0])
    frames.read()
    frames.flowed(np.array([0, 2]), np.array([20.0, 20.0]))
    put(slots, 0, [0])
    put(slots, 2, [0])
    frames.read()
    assert [name for name, *_ in taken] == ["call 0", "call 2", "call 0"]
    assert [index for index, *_ in given] == [2], "nobody said how far at most"
    frames.flowed(np.array([0]), np.array([20.0]))
    put(slots, 0, [0])
    frames.read()
    assert [index for index, *_ in given] == [2, 0], "no further than that"
    assert [frames.flowed_ms(lane) for lane in lanes] == [40, 0, 20]


def test_what_it_does_not_take_goes_to_the_listener(slots_alike, passing):
    slots, frames, lanes, left, taken, given = passing
    left.append(0)
    put(slots, 0, [0])
    put(slots, 2, [0])
    frames.read()
    assert taken == [("call 2", 0, [201])]
    assert given == [(0, 0, [1])]
    assert [frames.straight_ms(lane) for lane in lanes] == [0, 0, 20]
    frames.listen(lanes[2], None)
    assert frames.straight_ms(lanes[2]) == 20
    frames.close(lanes[2])
    assert frames.straight_ms(lanes[2]) == 0


async def test_frames_of_one_that_fails_go_to_the_listeners(slots_alike):
    frames, given, faults = Frames(slots_alike), [], []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: faults.append(what))
    lane = frames.open(0, 0)
    frames.listen(lane, lambda up: None)
    straight = (lambda names, at_ms, pcm: 1 // 0, "call")
    frames.rest(lane, lambda at_ms, pcm: given.append(at_ms), 80, False, straight, 80)
    put(slots_alike, 0, [0])
    frames.read()
    assert given == [0]
    assert isinstance(faults[0]["exception"], ZeroDivisionError)


def test_of_frames_that_are_no_more_in_the_ring_nobody_says_that_they_held_speech(slots_alike):
    frames = Frames(slots_alike)
    lane = frames.open(0, 0)
    frames.listen(lane, lambda up: None)
    slots_alike.columns["up_flags"][0] = SPEECH
    slots_alike.columns["t_head"][0] = 8 * 20 * 150
    frames.read()
    told = frames.spoken(lane, 0, 150 * 20)
    assert len(told) == 150
    assert told == [False] * 34 + [True] * 116
