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
        "Tell me where I can.",
        "I was wondering",
        "It's",
        "Tell me what?",
        "My order number.",
        "It is six two.",
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
        "Gift vouchers.",
        "Not in all, thank you.",
        "Until when is the shop open?",
        "So, how late are you open?",
        "And give me the address.",
        "On the weekend, are you open then?",
        "Can you put me through to some one?",
    ],
)
def test_what_is_whole_and_understood_is_complete(text):
    assert judge(text, understood=1.0) is COMPLETE


@pytest.mark.parametrize("text", ["If I order today", "When I came home"])
def test_half_of_two_clauses_is_incomplete_unless_the_engine_knows_better(text):
    assert judge(text) is INCOMPLETE
    assert judge(text, understood=0.9) is INCOMPLETE
    assert judge(text, understood=1.0) is UNSURE  # "When are you open", misheard


@pytest.mark.parametrize("text", ["", "...", "Hello.", "Well, hello, sorry", "Yes.", "I need it,"])
def test_a_beginning_of_anything_is_unsure(text):
    assert judge(text, understood=1.0) is not COMPLETE


@pytest.mark.parametrize(
    "text",
    [
        "I have been waiting for two weeks.",
        "The book has a torn page.",
        "I ordered a book from you.",
        "On Saturday, when I am there with a friend, I think.",
        "That is it, and this one is the other.",
    ],
)
def test_behind_a_statement_the_question_may_be_still_to_come(text):
    assert judge(text, understood=1.0) is UNSURE
    assert judge(f"No, {text}", "yes-no", 1.0) is COMPLETE


def test_what_the_engine_has_no_answer_to_is_unsure_unless_it_is_half_of_one_to_a_question():
    assert judge("I want a cat on a mat.", understood=0.7) is UNSURE
    assert judge("Does the cat sit there?", understood=0.7) is COMPLETE
    assert judge("Does the cat sit there?", understood=0.6) is UNSURE


def test_an_engine_without_opinion_takes_questions_for_complete_and_single_words_not():
    assert judge("Where did the cat sit?") is COMPLETE
    assert judge("The cat sat there.") is UNSURE
    assert judge("Where?") is UNSURE


def test_what_was_asked_for_counts():
    assert judge("Yes.", "yes-no", 1.0) is COMPLETE
    assert judge("Okay.", "yes-no", 1.0) is UNSURE  # "... do I need the receipt?"
    assert judge("Good morning.", "yes-no", 1.0) is UNSURE
    assert judge("Four two one seven.", "number", 1.0) is INCOMPLETE
    assert judge("It is on the receipt.", "number", 1.0) is INCOMPLETE
    assert judge("Is it four two one seven?", "number", 1.0) is INCOMPLETE
    assert judge("What are your opening hours?", "number", 1.0) is COMPLETE
    assert judge("What are your", "number", 1.0) is INCOMPLETE
    assert judge("", "number") is INCOMPLETE


def test_other_languages_get_the_fixed_silence():
    assert judge("Wann machen Sie auf?", understood=1.0, language="de") is UNSURE


def test_each_has_its_silence():
    settings = TurnSettings(complete_silence_ms=300, end_silence_ms=700, incomplete_silence_ms=900)
    assert end_silence_ms(settings, "When do you open?", "", 1.0) == 300
    assert end_silence_ms(settings, "") == 700
    assert end_silence_ms(settings, "When do you") == 900
