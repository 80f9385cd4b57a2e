"""The demo's script: its form, and when an answer counts as right."""

from pathlib import Path

import pytest

from tests.demo.script import SHIPPED, ScriptError, Turn, load
from tests.demo.words import missing, normal, said_twice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Open 9:30, twenty-five.", "open 9 30 25"),
        ("Nine A.M. to six p.m.", "9 am to 6 pm"),
        ("twenty ten", "20 10"),
        ("ten five", "10 5"),
        ("It's 4,711 on the fourth, o'clock", "its 4711 on the 4 oclock"),
        ("forty seven eleven", "47 11"),
        ("ten to one hundred dollars", "10 to 100 dollars"),
        ("two thousand twenty six", "2026"),
        ("one hundred five", "105"),
        ("5 hundred", "5 hundred"),
        ("four two one seven", "4 2 1 7"),
        ("a hundred", "a hundred"),
        ("open for mine in the morning", "open for mine in the morning"),
    ],
)
def test_normal_form(text: str, words: str) -> None:
    assert " ".join(normal(text)) == words


@pytest.mark.parametrize(
    "text",
    [
        "order four seven one one is on its way",
        "order for 711 is on its way",
        "Order 47 11.",
        "Order 4,711.",
        "forty-seven eleven",
        "number 4 7 1 1",
    ],
)
def test_digits_however_they_are_written(text: str) -> None:
    assert missing(["4711"], text) == []


@pytest.mark.parametrize("text", ["order 4712", "471", "1 4 7 1", "47 111", "for seven", ""])
def test_other_digits_are_wrong(text: str) -> None:
    assert missing(["4711"], text) == ["4711"]


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("saturday", "from Monday to Saturdays"),
        ("gift cards", "Yes, we sell giftcards from ten dollars"),
        ("goodbye", "Good-bye!"),
        ("harbor street books", "Thank you for calling harbour street book."),
        ("30 days", "within thirty days"),
        ("sunday|saturday", "on saturday"),
        ("9", "we open at nine"),
    ],
)
def test_words_may_be_a_little_off(expected: str, text: str) -> None:
    assert missing([expected], text) == []


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("saturday", "on Sunday"),
        ("gift cards", "we sell books"),
        ("30 days", "within thirteen days"),
        ("9", "nineteen"),
        ("9", "at 90"),
        ("6", "sixty"),
        ("2", "nine to six"),
    ],
)
def test_other_words_are_wrong(expected: str, text: str) -> None:
    assert missing([expected], text) == [expected]


def test_what_is_said_twice() -> None:
    once = "Please enter your order number, and then press the hash key."
    assert said_twice(once) == ""
    assert said_twice(f"{once} {once}") == "please enter your order"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "script.toml"
    path.write_text(text)
    return path


def test_shipped_script_has_what_the_demo_promises() -> None:
    script = load(SHIPPED)
    assert len(script.turns) >= 6
    assert any(turn.interrupt_after_ms for turn in script.turns)
    assert any(turn.dtmf for turn in script.turns)
    assert script.kills
    assert script.turns[-1].expect_extension == "200"


def test_a_turn(tmp_path: Path) -> None:
    path = write(
        tmp_path, 'dial = "1"\n[[turn]]\nsay = "Hi"\nexpect = ["a", "b|c"]\nanswer_within_s = 3'
    )
    script = load(path)
    assert script.turns == (Turn(say="Hi", expect=("a", "b|c"), answer_within_s=3.0),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('dial = "1"', "at least one"),
        ('[[turn]]\nsay = "Hi"\nexpect = ["a"]', "'dial' is missing"),
        ('dial = "1"\n[[turn]]\nexpect = ["a"]', "turn 1: give either"),
        ('dial = "1"\n[[turn]]\nsay = "x"\ndtmf = "1"\nexpect = ["a"]', "give either"),
        ('dial = "1"\n[[turn]]\ndtmf = "12x"\nexpect = ["a"]', "no phone has the key 'x'"),
        ('dial = "1"\n[[turn]]\nsay = "x"', "nothing can be judged"),
        ('dial = "1"\n[[turn]]\nsay = "x"\nexpects = ["a"]', "unknown key 'expects'; there are"),
        ('dial = "1"\n[[turn]]\nsay = "x"\nexpect = "a"', "'expect' takes a list of texts"),
        ('dial = 1\n[[turn]]\nsay = "x"\nexpect = ["a"]', "'dial' takes a text"),
        (
            'dial = "1"\n' + '[[turn]]\nsay = "x"\nexpect = ["a"]\nkill_worker_after_ms = 9\n' * 2,
            "in one turn only",
        ),
        ("dial = ", "script.toml"),
    ],
)
def test_a_bad_script_is_told_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ScriptError) as caught:
        load(write(tmp_path, text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"no\.toml"):
        load(tmp_path / "no.toml")
