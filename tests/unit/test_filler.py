import numpy as np

from bridge.filler import AGAIN_MS, LEAST_MS, Filler, soft_sound


def times(filler, wanted):
    """When it is due, of a list of what holds every 20 ms."""
    clips = [filler.due(20 * k, on) for k, on in enumerate(wanted)]
    return [20 * k for k, clip in enumerate(clips) if clip is not None]


def test_it_is_due_after_so_long_and_then_now_and_then():
    filler = Filler(500, 8000)
    second = 500 + 360 + AGAIN_MS
    assert times(filler, [True] * 400) == [500, second, second + 360 + AGAIN_MS]


def test_the_engines_own_clip_is_for_a_wait_that_goes_on():
    filler = Filler(500, 8000)
    filler.clip = np.ones(8000, np.int16)
    clips = [clip for k in range(500) if (clip := filler.due(20 * k, True)) is not None]
    assert [len(clip) for clip in clips] == [2880, 8000, 8000]
    assert filler.due(10_000, False) is None
    assert filler.due(10_020, True) is None
    soft = filler.due(10_520, True)
    assert soft is not None
    assert len(soft) == 2880, "and anew"


def test_a_tools_own_words_come_first_and_once():
    runs = ["slow"]
    filler = Filler(500, 8000, lambda: runs[0])
    filler.clip, filler.clips["slow"] = np.ones(8000, np.int16), np.ones(4000, np.int16)

    def lengths(n):
        clips = [filler.due(20 * k, True) for k in range(filler_at[0], filler_at[0] + n)]
        filler_at[0] += n
        return [len(clip) for clip in clips if clip is not None]

    filler_at = [0]
    assert lengths(500) == [4000, 8000, 8000]
    filler.due(10_000, False)
    filler_at[0] = 501
    assert lengths(30) == [4000], "a new wait"
    filler.due(20_000, False)
    runs[0], filler_at[0] = "another", 1001
    assert lengths(200) == [2880, 8000], "one that has none"


def test_it_counts_anew_when_nothing_is_owed_any_more():
    assert times(Filler(500, 8000), [True] * 20 + [False] + [True] * 30) == [920]


def test_what_counts_is_the_end_of_the_callers_words():
    filler = Filler(900, 8000)
    filler.silent_since(100)
    for at in range(100, 400, 20):  # it isn't sure yet that his turn is over
        assert filler.due(at, False) is None
    assert [at for at in range(400, 2000, 20) if filler.due(at, True) is not None] == [1000]


def test_words_of_long_ago_do_not_count():
    filler = Filler(900, 8000)
    filler.silent_since(100)
    for at in range(100, 5000, 20):
        assert filler.due(at, False) is None
    assert [at for at in range(5000, 6000, 20) if filler.due(at, True) is not None] == [5900]


def test_an_answer_that_was_prepared_in_a_long_pause_has_time_to_come():
    filler = Filler(900, 8000)
    filler.silent_since(100)
    due = [at for at in range(1100, 2000, 20) if filler.due(at, True) is not None]
    assert due == [1100 + LEAST_MS]


def test_it_can_be_switched_off():
    assert times(Filler(0, 8000), [True] * 1000) == []


def test_the_sound_is_soft_and_begins_and_ends_in_silence():
    sound = soft_sound(16000)
    assert 0.2 < len(sound) / 16000 < 0.5
    assert 500 < np.abs(sound).max() < 1000
    assert abs(int(sound[0])) < 5
    assert abs(int(sound[-1])) < 5
