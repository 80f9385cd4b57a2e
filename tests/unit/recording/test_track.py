"""Positions, gaps and pauses, whatever happens and whenever anybody looks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bridge.recording.track import Track, joined, pauses, stereo

LOOKS = st.lists(st.integers(0, 90), min_size=1, max_size=30)
MARKS = st.lists(st.tuples(st.integers(0, 600), st.booleans()), max_size=8)


def take(steps, marks, origin=0, ring=114):
    """Look at a slot after so many frames each; gives the track and what is kept of each frame."""
    track = Track(origin, origin, marks_seen=0)
    head, kept = origin, {}
    marks = sorted((origin + frame, on) for frame, on in marks)
    for step in steps:
        head += step
        begin, end = track.due(head, head - ring)
        some = [m for m in marks[track.marks_seen :] if m[0] < end] if begin < end else []
        if begin < end:
            kept |= dict(zip(range(begin, end), track.keep((begin, end), some), strict=True))
    return track, kept, head, marks


@given(LOOKS, MARKS, st.integers(0, 10_000))
def test_what_is_kept_depends_on_the_marks_and_not_on_when_one_looks(steps, marks, origin):
    track, kept, head, marks = take(steps, marks, origin)
    for frame in range(origin, head):
        on = [on for at, on in marks if at <= frame]
        assert kept[frame] == (on[-1] if on else True)
    assert track.frames == head - origin
    assert track.lost == []


@given(LOOKS, MARKS)
def test_pauses_are_what_is_not_kept(steps, marks):
    track, kept, _, _ = take(steps, marks)
    told = {frame for first, last in track.paused for frame in range(first, last)}
    assert told == {frame for frame, on in kept.items() if not on}
    assert all(a[1] < b[0] for a, b in zip(track.paused, track.paused[1:], strict=False))


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20))
def test_who_looks_too_late_has_lost_what_is_older_and_stays_in_step(steps):
    track, kept, head, _ = take(steps, [], origin=7)
    lost = {frame + 7 for first, last in track.lost for frame in range(first, last)}
    assert lost | set(kept) == set(range(7, head))
    assert not lost & set(kept)
    assert track.cursor == head


def test_a_pause_in_which_something_is_lost_is_one_pause():
    track, kept, _, _ = take([100, 300, 100], [(50, False), (450, True)])
    assert track.lost == [(100, 286)]
    assert track.paused == [(50, 450)]
    assert all(kept[frame] for frame in range(450, 500))


@given(LOOKS, MARKS, st.integers(0, 10_000))
def test_the_marks_alone_tell_what_was_paused(steps, marks, origin):
    track, _, head, marks = take(steps, marks, origin)
    assert pauses(marks, origin, head) == track.paused


def test_spans_that_touch_are_one():
    assert joined([(5, 7), (1, 2), (7, 9), (6, 8), (2, 3)]) == [(1, 3), (5, 9)]


def test_a_mark_of_the_past_holds_at_once():
    track = Track(0, 0, marks_seen=0)
    track.keep((0, 10), [])
    assert track.keep((10, 13), [(8, False)]).tolist() == [False] * 3
    assert track.keep((13, 16), [(14, True)]).tolist() == [False, True, True]
    assert track.paused == [(10, 14)]


def test_stereo_keeps_both_sides_in_step_and_pauses_silent():
    left, right = np.arange(8, dtype=np.int16).reshape(2, 4), np.full((2, 4), 9, np.int16)
    both = stereo(left, right, np.array([True, False]))
    assert both.tolist() == [[0, 9], [1, 9], [2, 9], [3, 9]] + [[0, 0]] * 4


@given(
    st.integers(-3, 3),
    st.lists(st.tuples(st.integers(1, 40), st.integers(-3, 3), st.booleans()), max_size=12),
)
def test_each_of_his_frames_lies_where_it_belongs_or_beside_a_silent_one(first, rounds):
    track = Track(0, 0, marks_seen=0, shift=first)
    at, before = 0, None
    for frames, shift, quiet in rounds:
        old, silent = track.shift, np.full(frames, quiet)
        his = track.aim((at, at + frames), shift, silent).tolist()
        at += frames
        shifts = {n - frame for n, frame in zip(range(at - frames, at), his, strict=True)}
        assert shifts <= {old, shift}
        assert track.shift == (shift if quiet or track.waits == 0 else old)
        if before is not None and shifts == {old} and before[1] == old:
            assert his[0] == before[0] + 1
        before = his[-1], at - 1 - his[-1]


def test_it_settles_and_never_follows_what_cannot_be():
    track = Track(0, 0)
    assert [track.shift_for(ms) for ms in (0, 12, -12, 14, 31, -31)] == [0, 0, 0, 1, 2, -2]
    assert track.shift_for(5000) == 10
    track.shift = 1
    assert [track.shift_for(ms) for ms in (8, 32, 6)] == [1, 1, 0]
