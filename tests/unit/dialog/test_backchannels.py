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
        ("Stop.", Weight.WORD),
        ("No", Weight.WORD),
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


def test_languages():
    assert weigh("Ach so, verstehe", "de-AT") is Weight.BACKCHANNEL
    assert weigh("d'accord", "fr") is Weight.BACKCHANNEL
    assert weigh("ja", "en") is Weight.WORD
    assert weigh("ja", "xx") is Weight.WORD, "nothing is ignored in a language without a list"
    for language, phrases in BACKCHANNELS.items():
        for phrase in phrases.split(","):
            assert weigh(phrase, language) is Weight.BACKCHANNEL, phrase
