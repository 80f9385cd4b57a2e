import pytest

from bridge.engines.llm import Aloud, speakable
from bridge.engines.sentences import Sentences, sentences


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("**Yes**, we are *open*.", "Yes, we are open."),
        ("## Hours", "Hours"),
        ("- Monday", "Monday"),
        ("See [our page](http://a.example/b).", "See our page."),
        ("Sure! \U0001f600", "Sure!"),
        ("Press the * key, then 2 * 3.", "Press the * key, then 2 * 3."),
        ("Use `ls`.", "Use ls."),
        ("It is 20 °C.", "It is 20 °C."),
        ("---", ""),
        ("\U0001f600", ""),
    ],
)
def test_only_what_can_be_said_is_said(written, spoken):
    assert speakable(written) == spoken


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_what_a_model_thinks_aloud_is_left_out(size):
    text = "<think>They ask. <b>Hm</b></think>We are open."
    aloud = Aloud()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert "".join(map(aloud.add, pieces)) == "We are open."
    other = Aloud()
    assert "".join(map(other.add, "< 5 is <think>")) == "< 5 is <think>"


TEXTS = [
    "We open at 9 a.m. on Mondays. Dr. Who is in! Are you? Yes.",
    "Il est là. Être ou ne pas être? ¿Qué tal? ¡Bien!",
    "今日は。 元気ですか？はい。",
    "One\nTwo\n\n- Three.\nFour",
    "It costs 3.50 today. “Really?” he said.",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_sentences_come_out_the_same_in_pieces(text, size):
    whole = Sentences()
    expected = [*whole.add(text), whole.end()]
    pieces = Sentences()
    found = []
    for at in range(0, len(text), size):
        found += pieces.add(text[at : at + size])
    assert [*found, pieces.end()] == expected
    if "\n" not in text:
        assert expected == sentences(text)


def test_other_languages_have_sentences():
    assert sentences(TEXTS[1]) == ["Il est là.", "Être ou ne pas être?", "¿Qué tal?", "¡Bien!"]
    assert sentences(TEXTS[2]) == ["今日は。", "元気ですか？", "はい。"]
    lines = Sentences()
    assert [*lines.add(TEXTS[3]), lines.end()] == ["One", "Two", "- Three.", "Four"]
