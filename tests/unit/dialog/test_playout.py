import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dialog import playout as module
from bridge.dialog.playout import Heard, Playout, cut_text, syllables
from bridge.errors import EngineError

RATE = 8000


def item_of(playout, text, ms, done=True):
    item = playout.new_item()
    assert playout.text(item, text)
    assert playout.queued(item, ms * 8)
    if done:
        assert playout.done(item) == []
    return item


def test_an_item_is_over_when_all_of_it_was_played():
    playout = Playout(RATE)
    item = item_of(playout, "We are open.", 1000)
    assert playout.heard(item, 7999) == []
    assert playout.playing
    assert playout.heard(item, 8000) == [Heard(item, 1000, "We are open.", False)]
    assert not playout.playing


def test_an_item_that_was_played_before_it_was_done_is_over_then():
    playout = Playout(RATE)
    item = item_of(playout, "Yes.", 500, done=False)
    assert playout.heard(item, 4000) == []
    assert not playout.playing  # it may go on, but nothing waits
    assert playout.done(item) == [Heard(item, 500, "Yes.", False)]


def test_heard_never_exceeds_what_was_queued_and_never_goes_back():
    playout = Playout(RATE)
    item = item_of(playout, "Yes.", 500, done=False)
    playout.heard(item, 99_999)
    playout.heard(item, 100)
    assert playout.done(item) == [Heard(item, 500, "Yes.", False)]


def test_what_waits_is_counted_over_all_items():
    playout = Playout(RATE)
    first, _ = item_of(playout, "One.", 500), item_of(playout, "Two.", 300)
    playout.heard(first, 800)
    assert playout.waiting_ms == 700


def test_dropping_cuts_every_open_item_and_takes_no_more_for_them():
    playout = Playout(RATE)
    first = item_of(playout, "One two three four.", 1200)
    second = item_of(playout, "Five.", 500, done=False)
    playout.heard(first, 4800)
    playout.drop()
    assert not playout.playing
    assert playout.waiting_ms == 0
    assert not playout.queued(second, 100)
    assert not playout.text(second, "more")
    assert playout.done(second) == []
    assert playout.dropped({first: 7200}) == [
        Heard(first, 900, "One two three", True),
        Heard(second, 0, "", True),
    ]
    assert playout.dropped() == []


def test_an_id_that_was_given_out_before_the_drop_is_refused_after_it():
    playout = Playout(RATE)
    item = playout.new_item()
    playout.drop()
    assert not playout.queued(item, 100)
    assert playout.queued(playout.new_item(), 100)


def test_what_is_new_since_the_drop_is_not_dropped():
    playout = Playout(RATE)
    old = item_of(playout, "Old.", 500)
    playout.drop()
    new = item_of(playout, "New.", 500)
    assert [h.item for h in playout.dropped()] == [old]
    assert playout.heard(new, 4000) == [Heard(new, 500, "New.", False)]


def test_an_item_whose_end_was_reached_while_it_was_dropped_is_whole():
    playout = Playout(RATE)
    item = item_of(playout, "All of it.", 500)
    playout.drop()
    assert playout.dropped({item: 4000}) == [Heard(item, 500, "All of it.", False)]


def test_an_item_without_audio_was_not_heard():
    playout = Playout(RATE)
    item = playout.new_item()
    playout.text(item, "Nobody says this.")
    assert playout.done(item) == [Heard(item, 0, "", False)]


def test_text_that_runs_ahead_of_its_audio_is_not_taken_for_heard():
    playout = Playout(RATE)
    item = playout.new_item()
    playout.text(item, "This is a long sentence of which only the beginning was made yet.")
    playout.queued(item, 500 * 8)
    playout.heard(item, 500 * 8)
    playout.drop()
    [heard] = playout.dropped()
    assert heard.text == "This is"


def test_an_item_that_the_engine_gave_up_ends_when_a_later_one_is_heard():
    playout = Playout(RATE)
    first = item_of(playout, "One two three four five six.", 600, done=False)
    second = item_of(playout, "Seven.", 500)
    assert playout.heard(first, 4800) == []
    assert playout.heard(second, 0) == []
    assert playout.heard(second, 160) == [Heard(first, 600, "One two three", True)]
    assert playout.done(first) == []  # too late, and not told twice
    assert not playout.queued(first, 100)
    assert playout.heard(second, 4000) == [Heard(second, 500, "Seven.", False)]


def test_an_engine_gone_wrong_is_bounded(monkeypatch):
    playout = Playout(RATE)
    for _ in range(module.MAX_ITEMS):
        playout.queued(playout.new_item(), 1)
    with pytest.raises(EngineError, match="items open"):
        playout.queued(playout.new_item(), 1)
    monkeypatch.setattr(module, "MAX_TEXT", 10)
    playout = Playout(RATE)
    item = playout.new_item()
    playout.text(item, "0123456789")
    with pytest.raises(EngineError, match="characters"):
        playout.text(item, "0")


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("cat", 1), ("open", 2), ("place", 1), ("opened", 2), ("table", 2), ("tree", 1),
        ("Saturday", 3), ("ordered", 2), ("started", 2), ("rhythm", 1), ("4217", 5),
        ("cat,", 1), ("cat, cat", 3), ("cat. cat", 4), ('cat." cat', 4), ("-", 0), ("", 0),
    ],
)  # fmt: skip
def test_syllables(word, count):
    assert syllables(word) == count


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, ""),
        (0.1, "We"),
        (0.5, "We are open"),
        (0.99, "We are open from nine to six."),
        (1.0, "We are open from nine to six."),
        (7.0, "We are open from nine to six."),
    ],
)
def test_text_is_cut_after_the_last_whole_word(share, text):
    assert cut_text("We are open from nine to six.", share) == text


@given(st.text(max_size=200), st.floats(0, 1), st.floats(0, 1))
def test_a_longer_share_holds_the_text_of_a_shorter_one(text, one, other):
    less, more = sorted((one, other))
    assert cut_text(text, more).startswith(cut_text(text, less))
    assert text.startswith(cut_text(text, more))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("queued"), st.integers(1, 5), st.integers(1, 4000)),
            st.tuples(st.just("heard"), st.integers(1, 5), st.integers(0, 20_000)),
            st.tuples(st.just("done"), st.integers(1, 5), st.just(0)),
            st.tuples(st.just("drop"), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_every_item_is_told_once_and_never_more_than_it_had(steps):
    playout, got, told = Playout(RATE), {}, []
    for name, item, samples in steps:
        if name == "queued":
            if playout.queued(item, samples):
                got[item] = got.get(item, 0) + samples
        elif name == "heard":
            told += playout.heard(item, samples)
        elif name == "done":
            told += playout.done(item)
        else:
            playout.drop()
            told += playout.dropped()
        assert playout.waiting_ms >= 0
    playout.drop()
    told += playout.dropped()
    for heard in told:
        assert heard.heard_ms <= got.get(heard.item, 0) / 8 + 1
    assert len({h.item for h in told}) == len(told)
    assert not playout.playing


# Silence that isn't the item's, words by time, marks ----------------------------------------------


def test_silence_that_was_put_in_is_not_heard_and_moves_no_word():
    playout = Playout(RATE)
    item = playout.new_item()
    playout.text(item, "one two three four")
    playout.queued(item, 4000, silence=True)
    playout.queued(item, 8000)
    playout.done(item)
    playout.heard(item, 4000)
    playout.heard(item, 8000)
    playout.drop()
    assert playout.dropped() == [Heard(item, 500, "one two", True)]


def test_pauses_go_over_to_whoever_takes_the_call_up():
    playout = Playout(RATE)
    item = playout.new_item()
    playout.text(item, "one two three four")
    playout.queued(item, 4000, silence=True)
    playout.queued(item, 8000)
    heir = Playout(RATE)
    for saved in playout.open_items():
        heir.restore(*saved)
    heir.done(item)
    heir.heard(item, 8000)
    heir.drop()
    assert heir.dropped() == [Heard(item, 500, "one two", True)]


def test_where_the_engine_tells_when_words_are_over_nothing_is_estimated():
    playout = Playout(RATE)
    item = item_of(playout, "one two three", 1000, done=False)
    playout.words(item, ((3, 100), (7, 200)))
    playout.words(item, ((13, 1000),))
    playout.heard(item, 1760)
    playout.drop()
    assert playout.dropped() == [Heard(item, 220, "one two", True)]


def test_marks_come_when_what_is_before_them_was_played():
    playout = Playout(RATE)
    playout.mark("at once")
    assert playout.reached() == [("at once", True)]
    item = item_of(playout, "One.", 500, done=False)
    playout.mark("half")
    playout.queued(item, 4000)
    playout.mark("all")
    playout.heard(item, 3999)
    assert playout.reached() == []
    playout.heard(item, 4000)
    assert playout.reached() == [("half", True)]
    playout.done(item)
    playout.heard(item, 8000)
    assert playout.reached() == [("all", True)]


def test_marks_come_at_once_when_what_is_before_them_is_dropped():
    playout = Playout(RATE)
    item_of(playout, "One.", 500)
    playout.mark("lost")
    playout.drop()
    assert playout.reached() == [("lost", False)]
    assert playout.reached() == []


def test_one_item_that_goes_on_lasts_as_long_as_what_is_queued():
    playout = Playout(RATE)
    item = playout.new_item()
    playout.queued(item, 1600)
    assert playout.unfinished_ms is None, "its first packet is waited for"
    playout.heard(item, 160)
    assert playout.unfinished_ms == 180
    playout.mark("m")
    assert playout.unfinished_ms is None
    playout.heard(item, 1600)
    playout.reached()
    playout.queued(item, 800)
    assert playout.unfinished_ms == 100
    playout.done(item)
    assert playout.unfinished_ms is None, "its end is told"


def test_nothing_more_is_taken_for_an_item_that_its_former_owner_dropped():
    playout = Playout(8000)
    playout.restore(1, "Hello there", 800, 400, False, (), dropped=True)
    assert not playout.queued(1, 160)
    assert not playout.text(1, "more")
    assert playout.waiting == 0


@given(st.lists(st.tuples(st.sampled_from("qqqhhdxXr"), st.integers(1, 5), st.integers(0, 400))))
def test_what_waits_is_what_was_queued_and_neither_heard_nor_dropped(steps):
    playout = Playout(8000)
    for what, item, samples in steps:
        match what:
            case "q":
                playout.queued(item, samples)
            case "h":
                playout.heard(item, samples)
            case "d":
                playout.done(item)
            case "x":
                playout.drop()
            case "X":
                playout.dropped({item: samples})
            case "r" if item > playout.last_item:
                playout.restore(item, "", samples, samples // 2, False, (), samples % 2 == 1)
        left = [q - h for _, _, q, h, _, _, gone in playout.open_items() if not gone]
        assert playout.waiting == sum(left)
        assert playout.playing == (sum(left) > 0)
