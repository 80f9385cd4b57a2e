import pytest

from bridge.engines.english import number, spell, stem, words, yes_or_no


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What's your address?", "what is your address"),
        ("I don't know, I'd say Good-bye!", "i do not know i would say goodbye"),
        ("Order 4,217 at 9 a.m.", "order 4217 at 9 am"),
        ("We\u2019re closed", "we are closed"),
        ("", ""),
        ("?!", ""),
    ],
)
def test_words(text, found):
    assert " ".join(words(text)) == found


@pytest.mark.parametrize(
    "alike",
    [
        ["park", "parks", "parking", "parked"],
        ["close", "closed", "closing", "closes"],
        ["story", "stories"],
        ["stop", "stopped", "stopping"],
        ["order", "orders", "ordered"],
        ["business"],
    ],
)
def test_stems_are_alike(alike):
    assert len({stem(word) for word in alike}) == 1


@pytest.mark.parametrize("different", [["open", "order"], ["card", "car"], ["book", "back"]])
def test_stems_differ(different):
    assert len({stem(word) for word in different}) == len(different)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("Four, two, one, seven.", "4217"),
        ("Four to one seven.", "4217"),  # as recognisers write it
        ("It's number four two one seven, for my wife.", "4217"),
        ("forty-two seventeen", "4217"),
        ("forty two seventeen", "4217"),
        ("one oh two four", "1024"),
        ("double five three zero", "5530"),
        ("order 4217 please", "4217"),
        ("4 2 1 7", "4217"),
        ("5,530", "5530"),
        ("ten twenty four", "1024"),
        ("I have one order for two books", ""),
        ("to for", ""),
        ("", ""),
    ],
)
def test_numbers(text, digits):
    assert number(text) == digits


def test_spelling():
    assert spell("4217") == "four, two, one, seven"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Yes.", True),
        ("Yeah, sure.", True),
        ("Yes please", True),
        ("No.", False),
        ("No, thanks.", False),
        ("that's not right", False),
        ("What are your opening hours?", None),
        ("Sure, but first tell me where I can park my car", None),
    ],
)
def test_yes_or_no(text, meaning):
    assert yes_or_no(text) is meaning
