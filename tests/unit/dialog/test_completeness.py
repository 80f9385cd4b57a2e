import pytest

from bridge.agent import TurnSettings
from bridge.dialog.completeness import Completeness, end_silence_ms, judge

COMPLETE, UNSURE, INCOMPLETE = Completeness


@pytest.mark.parametrize(
    "text",
    [
        "I would like to",
        "I would like to speak.",
        "Can you tell me?",
        "Do you have any",
        "I am calling because",
        "What time do you open and",
        "Could you put me through to the?",
        "My order number is.",
        "My order number is four, two.",
        "My order number is for two.",
        "I have been waiting for the, uh",
        "If I order today",
        "When I came home",
        "Tell me where I can.",
        "I was wondering",
        "It's",
    ],
)
def test_what_breaks_off_is_incomplete_however_well_it_was_understood(text):
    assert judge(text, understood=1.0) is INCOMPLETE


@pytest.mark.parametrize(
    "text",
    [
        "When do you open?",
        "What are your opening hours?",
        "I want to return a book.",
        "Where are you from?",
        "Tell me where you are.",
        "Which street are you on?",
        "What can you tell me?",
        "Are you open at nine?",
        "Do you close at half past five?",
        "Yes, I do.",
        "If I order today, will it be here on Monday then?",
        "What does the book look like?",
        "Goodbye.",
    ],
)
def test_what_is_whole_and_understood_is_complete(text):
    assert judge(text, understood=1.0) is COMPLETE


@pytest.mark.parametrize("text", ["", "...", "Hello.", "Well, hello, sorry", "Yes.", "I need it,"])
def test_a_beginning_of_anything_is_unsure(text):
    assert judge(text, understood=1.0) is not COMPLETE


def test_what_the_engine_has_no_answer_to_is_unsure_unless_it_is_a_question():
    assert judge("The cat sat on the mat.", understood=0.2) is UNSURE
    assert judge("Does the cat sit there?", understood=0.2) is COMPLETE


def test_an_engine_without_opinion_takes_sentences_for_complete_and_single_words_not():
    assert judge("The cat sat there.") is COMPLETE
    assert judge("Cat.") is UNSURE


def test_what_was_asked_for_counts():
    assert judge("Yes.", "yes-no", 1.0) is COMPLETE
    assert judge("What are your opening hours?", "number", 1.0) is INCOMPLETE
    assert judge("", "number") is INCOMPLETE


def test_other_languages_get_the_fixed_silence():
    assert judge("Wann machen Sie auf?", understood=1.0, language="de") is UNSURE


def test_each_has_its_silence():
    settings = TurnSettings(complete_silence_ms=300, end_silence_ms=700, incomplete_silence_ms=900)
    assert end_silence_ms(settings, "When do you open?", "", 1.0) == 300
    assert end_silence_ms(settings, "") == 700
    assert end_silence_ms(settings, "When do you") == 900
