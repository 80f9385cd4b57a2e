"""A transcript's lines in their places, and as WebVTT."""

import json

from bridge.sessions.export import place, webvtt, zero
from bridge.sessions.model import Line, Record


def test_times_count_from_the_recording_else_from_the_answer():
    recording = json.dumps({"parts": ["x"], "started": 30.5, "on": True})
    assert zero(Record("a", started=10.0, answered=20.0, recording=recording)) == 30.5
    assert zero(Record("a", started=10.0, answered=20.0)) == 20.0
    assert zero(Record("a", started=10.0)) == 10.0


LINES = [
    Line(99.0, "event", "back from call 7"),
    Line(103.0, "agent", "Hello,\nhow are <you> & yours?", 2000, False, 101.0, 103.0),
    Line(104.5, "caller", "Fine."),
    Line(3705.25, "agent", "Good b", 400, True, 3704.85, 3705.25),
    Line(3706.0, "dtmf", "7"),
]


def test_a_line_has_its_begin_and_end_as_far_as_they_are_known():
    placed = place(Record("a", answered=100.0), LINES)
    assert [(s.begin_ms, s.end_ms) for s in placed] == [
        (0, 0),
        (1000, 3000),
        (4500, 4500),
        (3_604_850, 3_605_250),
        (3_606_000, 3_606_000),
    ]


def test_webvtt_holds_what_was_spoken():
    assert webvtt(place(Record("a", answered=100.0), LINES)) == (
        "WEBVTT\n\n"
        "00:00:01.000 --> 00:00:03.000\n"
        "<v Agent>Hello, how are &lt;you&gt; &amp; yours?\n\n"
        "00:00:04.500 --> 00:00:05.000\n"
        "<v Caller>Fine.\n\n"
        "01:00:04.850 --> 01:00:05.350\n"
        "<v Agent>Good b —\n"
    )
    assert webvtt([]) == "WEBVTT\n"
