"""Which sentences of the documents answer a question, and which question none of them does."""

import pytest

from bridge.engines.excerpt import MOST_CHARS, answer

DELIVERY = (
    "shop.md, Delivery",
    "Parcels leave **every weekday** at four.\n- To Spain it costs ten dollars, and takes a week.",
)
RETURNS = (
    "shop.md, Returns",
    "You have a month. Then bring\nthe receipt. We can't take back what was written in.\n\nBye.",
)
PIECES = (DELIVERY, RETURNS)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("What does the delivery to Spain cost?", "To Spain it costs ten dollars,"),
        ("do you deliver every weekday", "Parcels leave every weekday at four. To Spain it"),
        (
            "Do I need the receipt for a return?",
            "Then bring the receipt. We can't take back what was written in.",
        ),
        ("what about the reciept", "Then bring the receipt."),  # misheard
    ],
)
def test_the_sentence_that_answers_is_said(question, said):
    assert answer(question, PIECES).startswith(said)
    assert "Bye" not in answer(question, PIECES)


@pytest.mark.parametrize(
    "question",
    ["How is the weather in Spain tomorrow?", "Do you sell tractors?", "And you?", "", "...?!"],
)
def test_what_none_of_them_answers(question):
    assert answer(question, PIECES) == ""


def test_it_is_soon_over():
    long = ("", " ".join(f"Parcels leave at {n} o'clock." for n in range(60)))
    said = answer("When do parcels leave?", [long])
    assert said.startswith("Parcels leave at 0 o'clock.")
    assert len(said) <= MOST_CHARS
    assert said.endswith("o'clock.")
    assert answer("parcels", [("", "parcels " * 99)]).endswith("parcels.")
    assert answer("parcels", [("Parcels", "")]) == ""
