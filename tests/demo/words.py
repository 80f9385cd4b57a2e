"""Whether a transcription says what was expected, for ears that spell as they like.

Speech-to-text writes "9 a.m.", "nine", "good-bye", "four seven one one", "47 11" or "4711" for the
same sounds. Both sides are therefore brought to one form (lower case, numbers in digits, no
punctuation), words may differ by a letter or two, and numbers must be exact.

An expectation is a list of phrases that must all be there; `|` separates alternatives in a phrase:
`["9", "6", "saturday|sunday"]`. A phrase of digits alone also matches digits that were read out one
by one or in pairs.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

# fmt: off
_UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
# fmt: on
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9}
NUMBERS = (
    {word: value for value, word in enumerate(_UNITS)}
    | {word: 20 + 10 * k for k, word in enumerate(_TENS)}
    | {
        word + "th": value
        for value, word in enumerate(_UNITS)
        if value in (4, 6, 7, *range(10, 20))
    }
    | {"twelfth": 12}
    | _ORDINALS
)
_TIMES = {"hundred": 100, "thousand": 1000}

SIMILAR = 0.78  # of difflib's ratio: one wrong letter in five


def normal(text: str) -> list[str]:
    """The words of a text in one form: `Open 9:30, twenty-five` is open 9 30 25."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.lower().replace("'", "").replace("’", ""))
    text = re.sub(r"\b([ap])\. ?m\b\.?", r"\1m", text)
    tokens = re.findall(r"\d+|[a-z]+", text)
    words: list[str] = []
    spelt = False  # whether the last word is a number that was written in words
    for token in tokens:
        value = NUMBERS.get(token)
        last = int(words[-1]) if spelt else 0
        if token in _TIMES and 0 < last < _TIMES[token]:
            words[-1] = str(last * _TIMES[token])
        elif value is not None and _continues(last, value):
            words[-1] = str(last + value)
        else:
            words.append(token if value is None else str(value))
            spelt = value is not None
    return words


def _continues(last: int, value: int) -> bool:
    """Whether a number word goes on with the last: twenty-five, a hundred (and) five."""
    if last % 100 == 0:
        return 0 < value < 100 <= last
    return last % 10 == 0 and last % 100 >= 20 and 0 < value < 10


# What speech-to-text hears where digits are read out; looked for only in longer numbers.
_SOUND_ALIKE = {"for": "4", "fore": "4", "to": "2", "too": "2", "won": "1", "oh": "0", "o": "0"}
_SOUND_ALIKE |= {"ate": "8"}


def _digits_in(phrase: str, words: Sequence[str]) -> bool:
    alike = [_SOUND_ALIKE.get(word, word) if len(phrase) > 2 else word for word in words]
    for begin in range(len(alike)):
        run = ""
        for word in alike[begin:]:
            run += word
            if run == phrase:
                return True
    return False


def _close(phrase: str, words: Sequence[str]) -> bool:
    wanted = normal(phrase)
    if "".join(wanted).isdigit():
        return _digits_in("".join(wanted), words)
    target = "".join(wanted)
    for count in {max(len(wanted) - 1, 1), len(wanted), len(wanted) + 1}:
        for begin in range(len(words) - count + 1):
            heard = "".join(words[begin : begin + count])
            same_numbers = re.findall(r"\d+", heard) == re.findall(r"\d+", target)
            if same_numbers and difflib.SequenceMatcher(None, heard, target).ratio() >= SIMILAR:
                return True
    return False


def missing(expected: Iterable[str], text: str) -> list[str]:
    """The phrases of an expectation that a text does not say."""
    words = normal(text)
    return [
        phrase
        for phrase in expected
        if not any(_close(choice, words) for choice in phrase.split("|"))
    ]


TWICE = 4  # words in a row that nobody says twice in one answer by chance


def said_twice(text: str) -> str:
    """The first words of a text that come again in it; empty where none do."""
    words = normal(text)
    runs = [tuple(words[n : n + TWICE]) for n in range(len(words) - TWICE + 1)]
    return next((" ".join(run) for n, run in enumerate(runs) if run in runs[:n]), "")
