import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engines.sentences import sentences


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("Hello", ["Hello"]),
        ("Hello. How are you? Fine!", ["Hello.", "How are you?", "Fine!"]),
        ("We open at 9 a.m. Monday to Friday.", ["We open at 9 a.m. Monday to Friday."]),
        ("Ask Dr. Reyes. She knows.", ["Ask Dr. Reyes.", "She knows."]),
        ("It costs 3.50 dollars. Cheap!", ["It costs 3.50 dollars.", "Cheap!"]),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("One.\n\n  Two\nthree.", ["One.", "Two three."]),
        ("J. R. Smith reads. Come.", ["J. R. Smith reads.", "Come."]),
        ("Well... Yes.", ["Well...", "Yes."]),
    ],
)
def test_sentences(text, found):
    assert sentences(text) == found


@given(st.text(max_size=200))
def test_nothing_is_lost(text):
    assert " ".join(sentences(text)) == " ".join(text.split())
