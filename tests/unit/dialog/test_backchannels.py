import pytest

from bridge.dialog.backchannels import BACKCHANNELS, Weight, weigh


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("", Weight.NOTHING),
        (" ... ", Weight.NOTHING),
        ("Uh-huh.", Weight.BACKCHANNEL),
        ("Uh, huh.", Weight.BACKCHANNEL),
        ("Mm-hmm, okay. I see!", Weight.BACKCHANNEL),
        ("Yeah yeah right", Weight.BACKCHANNEL),
        ("Stop.", Weight.WORDS),
        ("No", Weight.WORDS),
        ("Parking", Weight.WORD),
        ("I", Weight.WORD),
        ("Yeah, but wait", Weight.WORDS),
        ("go away", Weight.WORDS),
        ("see it", Weight.WORDS),
    ],
)
def test_english(text, weight):
    assert weigh(text, "en") is weight


def test_where_yes_is_an_answer_nothing_is_ignored():
    assert weigh("Yes.", "en", question=True) is Weight.WORD
    assert weigh("", "en", question=True) is Weight.NOTHING


def test_words_that_make_no_sense_weigh_no_more_than_one_unless_they_are_meant():
    assert weigh("That's what.", "en", understood=0.1) is Weight.WORD
    assert weigh("That's it.", "en") is Weight.WORDS, "an engine that has no opinion"
    assert weigh("parking", "en", understood=0.9) is Weight.WORD
    assert weigh("Wait, wait", "en", understood=0.0) is Weight.WORDS
    assert weigh("the blue one over there", "en", understood=0.0) is Weight.WORDS


def test_languages():
    assert weigh("Ach so, verstehe", "de-AT") is Weight.BACKCHANNEL
    assert weigh("d'accord", "fr") is Weight.BACKCHANNEL
    assert weigh("ja", "en") is Weight.WORD
    assert weigh("ja", "xx") is Weight.WORD, "nothing is ignored in a language without a list"
    for language, phrases in BACKCHANNELS.items():
        for phrase in phrases.split(","):
            assert weigh(phrase, language) is Weight.BACKCHANNEL, phrase
