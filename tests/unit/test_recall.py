"""What a successor makes of a record, a transcript and what is left in a slot."""

from types import SimpleNamespace

from bridge.dialog.playout import MS_PER_SYLLABLE, Playout
from bridge.engines.base import Entry, Resume
from bridge.media.base import Left
from bridge.recall import Memory, interrupted, numbers_now, restore, restore_lost
from bridge.sessions.model import Line, Record
from bridge.sessions.progress import Item, Progress, Tool

RATE = 8000
WORDS = " ".join(["bab"] * 10)


def memory(progress=None, *lines):
    record = Record("c1", progress=(progress or Progress()).to_text())
    return Memory(record, [Line(float(n), role, text) for n, (role, text) in enumerate(lines)])


def slot(*left):
    return SimpleNamespace(left=tuple(Left(*one) for one in left), rate=RATE)


def test_history_is_what_was_said_and_the_callers_last_words():
    said = (("agent", "Hello."), ("event", "hold"), ("dtmf", "1"), ("dtmf", "2"), ("dtmf", "#"))
    remembered = memory(Progress(caller="where can I park"), *said)
    assert remembered.history() == (
        Entry("agent", "Hello."),
        Entry("dtmf", "12"),
        Entry("caller", "where can I park"),
    )


def test_keys_that_nobody_has_answered_are_pressed_again():
    assert memory(None, ("agent", "Hello."), ("dtmf", "1"), ("dtmf", "#")).digits() == "1#"
    assert memory(None, ("dtmf", "1"), ("agent", "You said 1.")).digits() == ""


def test_a_key_whose_answer_plays_is_answered():
    progress = Progress(items=(Item(1, "one", RATE, 100, done=True),), last_item=1)
    resume = restore(memory(progress, ("dtmf", "1")), slot((1, RATE, True)), Playout(RATE))
    assert resume == Resume(owed=False)
    resume = restore(memory(Progress(), ("dtmf", "1")), slot(), Playout(RATE))
    assert resume == Resume(digits="1")


def test_a_line_whose_answer_plays_is_answered():
    progress = Progress(items=(Item(1, "one", RATE, 100, done=True),), last_item=1)
    asked = ("caller", "which one?")
    assert not restore(memory(progress, asked), slot((1, RATE, True)), Playout(RATE)).owed
    assert restore(memory(Progress(), asked), slot(), Playout(RATE)).owed
    heard = Progress(items=(Item(1, "one", RATE, RATE, done=True),), last_item=1)
    assert not restore_lost(memory(heard, asked), Playout(RATE)).owed


def test_what_is_queued_whole_plays_on_and_nothing_is_missing():
    progress = Progress(
        items=(Item(2, "two", RATE, 100, done=True),), last_item=2, replying=True,
        given=((1, "one"), (2, "two")),
    )  # fmt: skip
    playout = Playout(RATE)
    assert restore(memory(progress), slot((1, RATE, True), (2, RATE, True)), playout) == Resume(
        given=("one", "two"), replying=True
    )
    assert playout.open_items() == [(2, "two", RATE, 100, True, (), False)]
    assert playout.new_item() == 3
    over = playout.heard(2, RATE)
    assert [(h.text, h.cut) for h in over] == [("two", False)]


def test_what_never_got_into_the_slot_is_not_begun():
    progress = Progress(
        items=(Item(1, "one", RATE, 0, done=True), Item(2, "two", RATE, 0, done=True)),
        last_item=2, replying=True, given=((1, "one"), (2, "two")),
    )  # fmt: skip
    playout = Playout(RATE)
    resume = restore(memory(progress), slot((1, RATE, True)), playout)
    assert resume == Resume(given=("one",), replying=True)
    assert [item for item, *_ in playout.open_items()] == [1]


def test_the_rest_of_a_sentence_that_is_half_in_the_slot_is_to_be_said():
    words = " ".join(["bab"] * 10)
    progress = Progress(
        items=(Item(1, words, RATE, 0, done=False),), last_item=1, replying=True,
        given=((1, words),),
    )  # fmt: skip
    playout = Playout(RATE)
    half = 5 * int(MS_PER_SYLLABLE) * RATE // 1000
    resume = restore(memory(progress), slot((1, half, False)), playout)
    assert resume.rest == " ".join(["bab"] * 5)
    assert playout.open_items() == [(1, " ".join(["bab"] * 5), half, 0, True, (), False)]
    assert resume.given == (words,)


def test_an_item_newer_than_the_record_still_counts():
    playout = Playout(RATE)
    restore(memory(Progress(last_item=1)), slot((1, RATE, True), (2, RATE, True)), playout)
    assert [item for item, *_ in playout.open_items()] == [2]


def cut(heard, *, dropped, replying=False):
    """A sentence that was cut short; `dropped` if the record knows that. Heard so much of 10."""
    noted = Item(1, WORDS, 2 * RATE, 100, done=True, dropped=dropped)
    given = ((1, WORDS),) if replying else ()
    tools = (Tool("t", "hang_up", {}),) if replying else ()
    progress = Progress((noted,), 1, tools, replying, given)
    return progress, slot((1, 2 * RATE, True, 2 * RATE * heard // 10, True))


def test_what_was_heard_of_a_sentence_that_a_key_cut_short_is_still_told():
    progress, left = cut(4, dropped=True)
    playout = Playout(RATE)
    resume = restore(memory(progress, ("dtmf", "7"), ("event", "barge-in")), left, playout)
    assert resume == Resume(digits="7", owed=False)
    assert not playout.playing
    (heard,) = playout.dropped()
    assert (heard.text, heard.heard_ms, heard.cut) == (" ".join(["bab"] * 4), 800, True)
    assert playout.open_items() == []
    assert playout.new_item() == 2


def test_an_interruption_that_only_the_slot_knows_of_ends_the_reply():
    progress, left = cut(4, dropped=False, replying=True)
    playout = Playout(RATE)
    resume = restore(memory(progress, ("caller", "what is it?")), left, playout)
    assert resume == Resume(owed=False), "what was cut short is not said again"
    assert [heard.text for heard in playout.dropped()] == [" ".join(["bab"] * 4)]
    assert interrupted(progress, left).tools == (), "nor does it hang up then"


def test_where_the_slot_is_lost_too_the_record_tells_what_was_heard():
    noted = Item(1, WORDS, 2 * RATE, RATE, done=True, dropped=True)
    playout = Playout(RATE)
    resume = restore_lost(memory(Progress((noted,), 1), ("dtmf", "7")), playout)
    assert resume == Resume(digits="7", owed=False)
    assert [heard.text for heard in playout.dropped()] == [" ".join(["bab"] * 5)]


def test_who_was_cut_short_before_a_word_could_be_understood_owes_nothing():
    said = Memory(
        Record("c1"),
        [Line(0, "caller", "what?"), Line(1, "event", "barge-in"), Line(2, "agent", "", 80, True)],
    )
    assert restore(said, slot(), Playout(RATE)) == Resume(owed=False)


def pressed(*lines):
    return Memory(Record("c1"), [Line(at, role, text, *cut) for at, role, text, *cut in lines])


def test_keys_that_cut_the_agent_short_are_still_unanswered_once_that_is_written():
    key = ((0.0, "dtmf", "1"), (5.0, "agent", "You said 1.", 900, False))
    cut_short = ((9.0, "event", "barge-in"), (9.02, "agent", "And", 300, True))
    assert pressed(*key, (8.999, "dtmf", "2"), *cut_short).digits() == "2"
    assert pressed((0.0, "dtmf", "1"), (8.999, "dtmf", "2"), *cut_short).digits() == "2"
    late = (9.01, "dtmf", "3")
    assert pressed((8.999, "dtmf", "2"), cut_short[0], late, cut_short[1]).digits() == "23"
    assert pressed((0.0, "dtmf", "1"), *cut_short).digits() == "", "a word did, into the answer"


# ---- the slot is lost with its host


def test_what_was_heard_of_a_sentence_is_not_said_again():
    progress = Progress(
        items=(Item(2, WORDS, RATE, RATE // 2, done=True), Item(3, "three", RATE, 0, done=True)),
        last_item=3, replying=True, given=((1, "one"), (2, WORDS), (3, "three")),
    )  # fmt: skip
    playout = Playout(RATE)
    resume = restore_lost(memory(progress), playout)
    assert resume == Resume(given=("one", WORDS), replying=True, rest=" ".join(["bab"] * 5))
    assert playout.new_item() == 4
    (heard,) = playout.heard(2, RATE // 2)
    assert (heard.text, heard.heard_ms, heard.cut) == (" ".join(["bab"] * 5), 500, False)


def test_all_that_was_queued_of_a_finished_reply_is_still_said():
    progress = Progress(
        items=(Item(2, WORDS, RATE, RATE // 2, done=True), Item(3, "three", RATE, 0, done=True)),
        last_item=3,
    )  # fmt: skip
    resume = restore_lost(memory(progress, ("dtmf", "1")), Playout(RATE))
    assert resume.rest == " ".join(["bab"] * 5) + " three"
    assert resume.replying
    assert resume.digits == "", "they have been answered"


def test_a_sentence_of_which_no_word_was_heard_is_not_begun():
    progress = Progress(
        items=(Item(1, WORDS, RATE, 0, done=False),), last_item=1, replying=True,
        given=((1, WORDS),),
    )  # fmt: skip
    playout = Playout(RATE)
    assert restore_lost(memory(progress), playout) == Resume(replying=True)
    assert playout.open_items() == []


def test_nothing_was_being_said():
    resume = restore_lost(memory(Progress(last_item=3), ("dtmf", "7")), Playout(RATE))
    assert resume == Resume(digits="7")


def test_numbers_go_on_while_nobody_notes_them():
    record = Record("c1", numbers="7 65000 4294967000", numbers_at=100.0)
    assert numbers_now(record, 110.0) == (7, 65500, (4294967000 + 80_000) % 2**32)
    assert numbers_now(record, 120.0)[1] == 66_000 - 65_536
    assert numbers_now(record, 90.0) == (7, 65000, 4294967000), "a clock behind"
    assert numbers_now(record, 1e9)[1] == (65_000 + 10_000) % 65_536, "a clock far ahead"
    assert numbers_now(Record("c1"), 100.0) is None
