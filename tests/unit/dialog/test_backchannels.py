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


@pytest.mark.parametrize("text", ["An anthem.", "In the name", "And an end", "An enm, then"])
def test_what_is_made_of_nasals_was_a_hum_if_the_engine_cannot_use_it(text):
    assert weigh(text, "en", understood=0.5) is Weight.BACKCHANNEL
    assert weigh(text, "en", understood=0.9) is not Weight.BACKCHANNEL
    assert weigh(text, "en", question=True, understood=0.1) is not Weight.BACKCHANNEL


@pytest.mark.parametrize("text", ["Not now.", "Human.", "One.", "I knew.", "Never."])
def test_words_hold_other_sounds(text):
    assert weigh(text, "en", understood=0.1) is Weight.WORD


def test_what_sounds_like_a_hum_is_one_unless_every_word_is_meant():
    assert weigh("Over the.", "en", hum=True) is Weight.BACKCHANNEL
    assert weigh("But, ah", "en", hum=True) is Weight.BACKCHANNEL
    assert weigh("But, ah", "en") is Weight.WORDS
    assert weigh("No, no.", "en", hum=True) is Weight.WORDS
    assert weigh("Utah.", "en", question=True, hum=True) is Weight.WORD


@pytest.mark.parametrize("language", ["en", "de", "xx"])
def test_a_hum_is_written_without_vowels(language):
    assert weigh("Mm-h", language) is Weight.BACKCHANNEL


def test_languages():
    assert weigh("Ach so, verstehe", "de-AT") is Weight.BACKCHANNEL
    assert weigh("d'accord", "fr") is Weight.BACKCHANNEL
    assert weigh("ja", "en") is Weight.WORD
    assert weigh("ja", "xx") is Weight.WORD, "nothing is ignored in a language without a list"
    for language, phrases in BACKCHANNELS.items():
        for phrase in phrases.split(","):
            assert weigh(phrase, language) is Weight.BACKCHANNEL, phrase
