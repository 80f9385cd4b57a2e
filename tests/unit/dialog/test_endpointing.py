import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dialog.endpointing import FRAME_MS, GAP_MS, Edge, Endpointer, Phase


def run(pattern, *, min_speech=100, end=200, eager=0, begin_ms=0):
    """Edges of a pattern of frames, `#` speech and `.` none: [(ms at the frame's end, edge)]."""
    endpoint = Endpointer(min_speech, end, eager)
    edges = []
    for n, frame in enumerate(pattern):
        at_ms = begin_ms + n * FRAME_MS
        edge = endpoint.frame(at_ms, frame == "#")
        if edge:
            edges.append((at_ms + FRAME_MS, edge))
    return endpoint, edges


@pytest.mark.parametrize(
    ("pattern", "edges"),
    [
        ("." * 50, []),
        ("####" + "." * 50, []),  # 80 ms are too short
        ("#####" + "." * 9, [(100, Edge.ONSET)]),  # 180 ms of silence are too
        ("#####" + "." * 10, [(100, Edge.ONSET), (300, Edge.END)]),
        ("..#####" + "." * 10, [(140, Edge.ONSET), (340, Edge.END)]),
        # A plosive's closure splits no beginning; a longer pause does.
        ("###" + "." * 7 + "#####", [(300, Edge.ONSET)]),
        ("###" + "." * 9 + "#####", [(340, Edge.ONSET)]),
        # Neither one wrong frame in a silence nor two keep a segment open; three do.
        ("#####" + "....#....." + "....", [(100, Edge.ONSET), (300, Edge.END)]),
        ("#####" + "....##...." + "....", [(100, Edge.ONSET), (300, Edge.END)]),
        ("#####" + "....###..." + "." * 6, [(100, Edge.ONSET)]),
        ("#####" + "....###..." + "." * 7, [(100, Edge.ONSET), (440, Edge.END)]),
        # What is heard at the very end may be the beginning of more: it is waited for.
        ("#####" + "." * 8 + "##." + ".", [(100, Edge.ONSET), (320, Edge.END)]),
        ("#####" + "." * 9 + "###" + ".", [(100, Edge.ONSET)]),
        # A detector that flickers through a word hears speech all the same.
        ("#####" + ".#" * 20, [(100, Edge.ONSET)]),
        ("#####" + "...#" * 4, [(100, Edge.ONSET), (300, Edge.END)]),
        # A second segment is one of its own.
        (
            "#####" + "." * 10 + "#####",
            [(100, Edge.ONSET), (300, Edge.END), (400, Edge.ONSET)],
        ),
    ],
)
def test_edges(pattern, edges):
    assert run(pattern)[1] == edges


def test_eager_comes_once_a_silence_and_is_taken_back():
    edges = run("#####" + "." * 7 + "###" + "." * 10, eager=100)[1]
    assert edges == [
        (100, Edge.ONSET),
        (200, Edge.EAGER),
        (300, Edge.RESUMED),
        (400, Edge.EAGER),
        (500, Edge.END),
    ]


def test_times_hold_neither_the_hangover_nor_the_time_to_be_sure():
    endpoint, _ = run("....######....###" + "." * 10, begin_ms=1000)
    assert (endpoint.start_ms, endpoint.end_ms) == (1080, 1340)


def test_the_end_may_be_put_off_within_a_silence():
    endpoint = Endpointer(100, 200)
    for n in range(5):
        endpoint.frame(n * 20, True)
    endpoint.end_silence_ms = 400
    edges = [endpoint.frame(100 + n * 20, False) for n in range(20)]
    assert edges == [None] * 19 + [Edge.END]


def test_a_jump_of_the_clock_counts_as_silence():
    endpoint = Endpointer(100, 200)
    for n in range(5):
        endpoint.frame(n * 20, True)
    assert endpoint.frame(1000, False) is Edge.END


def test_reset_forgets_the_segment():
    endpoint, _ = run("#####")
    endpoint.reset()
    assert endpoint.phase is Phase.SILENT
    assert [endpoint.frame(100 + n * 20, False) for n in range(30)] == [None] * 30


@given(st.lists(st.booleans(), max_size=300), st.sampled_from([0, 100]))
def test_edges_alternate_and_times_are_of_speech_frames(frames, eager):
    endpoint = Endpointer(100, 200, eager)
    open_segment = offered = False
    for n, speech in enumerate(frames):
        edge = endpoint.frame(n * 20, speech)
        if edge is None:
            continue
        if edge is Edge.ONSET:
            assert not open_segment
            open_segment, offered = True, False
            assert sum(frames[endpoint.start_ms // 20 : n + 1]) * 20 >= 100
        elif edge is Edge.EAGER:
            assert open_segment
            assert not offered
            offered = True
        elif edge is Edge.RESUMED:
            assert offered
            offered = False
        else:
            assert open_segment
            open_segment = False
        assert frames[endpoint.start_ms // 20]
        assert frames[endpoint.end_ms // 20 - 1]
        assert endpoint.start_ms < endpoint.end_ms <= (n + 1) * 20


def test_the_gap_is_as_long_as_it_says():
    assert run("###" + "." * (GAP_MS // 20) + "#####")[1]
    assert not run("###" + "." * (GAP_MS // 20 + 1) + "##")[1]
