"""What is known of the caller's words, and of speech that hasn't come to any."""

from types import SimpleNamespace

import pytest

from bridge.agent import Agent
from bridge.dialog.endpointing import Phase
from bridge.engines.base import CallerText
from bridge.talk.words import LATE_MS, CallerWords


class Turns:
    """Is told how complete what he says is."""

    def __init__(self):
        self.endpoint = SimpleNamespace(phase=Phase.SPEECH)
        self.told = []

    def words(self, *words):
        self.told.append(words)
        return ["an action"]


class Transcript:
    def __init__(self):
        self.said = []

    def caller(self, *said):
        self.said.append(said)


@pytest.fixture
def words():
    return CallerWords(Agent("demo"), Turns(), Transcript(), SimpleNamespace(in_last_item=True))


def test_speech_that_is_over_was_a_turn_or_nothing(words):
    words.onset(400)
    assert (words.since_ms, words.unanswered, words.passed) == (400, False, False)
    words.forget()
    assert words.since_ms == 400, "he still speaks"
    words._turns.endpoint.phase = Phase.SILENT
    assert words.passed
    words.forget()
    assert words.since_ms == -1


def test_a_turn_waits_for_its_words(words):
    words.onset(400)
    words.turn(400, 900, 1500)
    words._turns.endpoint.phase = Phase.SILENT
    words.forget()
    assert (words.since_ms, words.unanswered, words.answered_ms) == (400, True, 1500)
    words.final("Good morning.", 2000)
    assert (words.since_ms, words.unanswered) == (-1, False)
    assert words._transcript.said == [("Good morning.", 1600, 1100)]


def test_words_that_come_long_after_a_turn_are_of_another(words):
    words.turn(400, 900, 1500)
    words.final("Hello?", 900 + LATE_MS)
    words.final("Hello?", 899 + LATE_MS)
    assert [said[1:] for said in words._transcript.said] == [(0, 0), (499 + LATE_MS, LATE_MS - 1)]


def test_a_mere_yes_answers_a_question_that_is_done(words):
    yes = CallerText("yes", final=False, until_ms=700, understood=0.5, hum=True)
    words.so_far(yes)
    words.expected = "yes-no"
    assert words.so_far(yes) == ["an action"]
    words._playout.in_last_item = False
    words.so_far(yes)
    assert [told[3] for told in words._turns.told] == [False, True, False]
    assert {(*told[:2], *told[4:]) for told in words._turns.told} == {("yes", 700, 0.5, True)}
