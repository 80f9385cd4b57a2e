"""What the agent owes, and what becomes of it."""

from types import SimpleNamespace

import pytest

from bridge.dialog.turns import State
from bridge.engines.base import Resume
from bridge.filler import Filler
from bridge.talk.answer import Answer


class Parts:
    """All that an answer is made with; writes down what it is asked for."""

    def __init__(self):
        self.did, self.dropped, self.open = [], set(), []
        self.mouth = SimpleNamespace(
            playing=False, idle=True, silent=True, held=False,
            playout=SimpleNamespace(text=lambda item, text: item not in self.dropped),
            drop=lambda: self.did.append("drop"), fill=lambda clip: self.did.append("fill"),
        )  # fmt: skip
        self.turns = SimpleNamespace(
            state=State.LISTENING, caller_speaks=False,
            interrupted=lambda: self.did.append("turns"),
        )  # fmt: skip
        self.words = SimpleNamespace(settled=lambda: self.did.append("settled"))
        self.tools = SimpleNamespace(
            open=lambda: self.open, next=lambda: self.did.append("next"),
            over=lambda: self.did.append("over"), cancel=lambda: self.did.append("cancel"),
        )  # fmt: skip
        self.transcript = SimpleNamespace(say=lambda role, text: self.did.append(text))

    def answer(self):
        return Answer(
            *(self.mouth, self.turns, self.words, self.tools, self.transcript),
            *(Filler(500, 8000), lambda: self.did.append("note")),
        )


@pytest.fixture
def parts():
    return Parts()


def test_what_was_begun_of_a_reply_is_known_item_by_item(parts):
    answer = parts.answer()
    answer.reply(True)
    answer.text(1, "Good ")
    answer.text(1, "morning.")
    parts.dropped.add(2)
    answer.text(2, "Nobody hears this.")
    answer.text(3, "Bye.")
    assert answer.given == ((1, "Good morning."), (3, "Bye."))
    assert answer.replying
    answer.reply(False)
    assert (answer.given, answer.replying) == ((), False)


def test_a_turn_that_is_answered_or_given_up_waits_for_no_words(parts):
    answer = parts.answer()
    answer.reply(True)
    assert "settled" not in parts.did
    answer.reply(False)
    assert parts.did.count("settled") == 1
    answer.text(1, "Hello.")
    assert parts.did.count("settled") == 2


def test_a_caller_who_interrupts_is_written_down_and_one_who_looks_after_the_call_is_not(parts):
    answer = parts.answer()
    answer.interrupted()
    assert parts.did[1:] == ["drop", "cancel", "over", "settled", "note"]
    parts.did.clear()
    answer.cut()
    assert parts.did == [], "there is nothing to cut"
    answer.reply(True)
    parts.did.clear()
    answer.cut()
    assert parts.did == ["turns", "drop", "cancel", "over", "settled", "note"]


def test_a_withdrawn_answer_keeps_the_tools_of_the_turn(parts):
    parts.answer().withdrawn()
    assert "over" not in parts.did


def test_a_tool_runs_when_all_before_it_was_heard(parts):
    answer = parts.answer()
    parts.mouth.playing = True
    answer.next_tool()
    assert parts.did == []
    parts.mouth.playing = False
    answer.next_tool()
    assert parts.did == ["next"]


@pytest.mark.parametrize("owed", ["thinking", "keys", "tool"])
def test_what_is_owed_is_bridged_but_not_on_hold_nor_muted(parts, owed):
    answer = parts.answer()
    assert answer.bridge(0)
    answer.bridge(10_000)
    assert parts.did == [], "nothing is owed"
    if owed == "thinking":
        parts.turns.state = State.THINKING
    elif owed == "keys":
        answer.replying = True
    else:
        parts.open.append(SimpleNamespace(begun=True))
    assert not answer.bridge(11_000)
    answer.bridge(11_600)
    assert parts.did == ["fill"]
    answer.muted = True
    answer.bridge(60_000)
    answer.muted, parts.mouth.held = False, True
    answer.bridge(90_000)
    assert parts.did == ["fill"]


def test_another_process_reply_goes_on(parts):
    answer = parts.answer()
    answer.take_up(Resume(given=("one", "two"), replying=True), muted=True)
    assert (answer.given, answer.replying, answer.muted) == (((0, "one"), (0, "two")), True, True)
    answer.take_up(Resume(given=("one",), replying=False), muted=False)
    assert answer.given == ()
