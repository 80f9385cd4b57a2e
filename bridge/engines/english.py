"""What the rules brain knows of English: words, their stems, and numbers as people say them."""

from __future__ import annotations

import re

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+")

_CONTRACTIONS = {
    "can't": "can not",
    "won't": "will not",
    "n't": " not",
    "'re": " are",
    "'ve": " have",
    "'ll": " will",
    "'d": " would",
    "'m": " am",
    "let's": "let us",
    "'s": " is",
}


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


FILLERS = _set("""
    uh um er erm hm hmm ah oh eh well so okay ok hi hello hey please thanks thank just actually
    maybe perhaps sorry excuse sir madam there now then
""")
"""Words that say nothing about what a caller wants, as long as there are others."""

FUNCTION = _set("""
    a an the this that these those it its i me my mine we us our you your he she they them their
    is are was were be been am do does did done have has had having can could may might will
    would shall should must to of in on at by for from with about into as and or but if because
    not what there here any some all also too very much more than lot
    want wants wanted like need needs wonder wondering know tell give get got let see find
    go going come able possible think guess mean ask asking question one ones thing things
    something anything up out off over right really quick quickly
""")
"""Words that nearly any question may hold: they weigh little."""

QUESTION = _set("where when who whom whose how why which")
"""Words that say what kind of answer is wanted: they weigh more than function words."""

_DAYS = _set("monday tuesday wednesday thursday friday saturday sunday")

DIGITS = {
    "zero": "0", "oh": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "nine": "9",
}  # fmt: skip
_TEENS = {
    "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14",
    "fifteen": "15", "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19",
}  # fmt: skip
_TENS = {
    "twenty": "2", "thirty": "3", "forty": "4", "fifty": "5", "sixty": "6", "seventy": "7",
    "eighty": "8", "ninety": "9",
}  # fmt: skip
# What a recogniser writes for a digit; believed only between two others.
_HOMOPHONES = {"to": "2", "too": "2", "for": "4", "fore": "4", "won": "1", "ate": "8", "o": "0"}

YES = _set("""
    yes yeah yep yup yah sure correct right exactly absolutely definitely indeed certainly okay ok
    fine affirmative please
""")
NO = _set("no nope nah not never wrong neither negative")

_NAMES = {value: name for name, value in DIGITS.items() if name != "oh"}


def words(text: str) -> list[str]:
    """Lower-case words of a text, contractions opened, numbers kept as they are."""
    text = text.lower().replace("’", "'")
    text = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", text)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"\bo'(?=[a-z]{3})(?!clock)", "", text)  # a recogniser's "o'gift cards"
    text = re.sub(r"(?<=ty)-(?=[a-z])", " ", text)  # "forty-two"
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", "", text)  # "good-bye"
    for short, long in _CONTRACTIONS.items():
        text = re.sub(rf"{short}\b" if short[0] in "'n" else rf"\b{short}\b", long, text)
    return [w.strip("'") for w in _WORD.findall(text)]


def stem(word: str) -> str:
    """A word without its commonest endings; not a word itself, only good to compare."""
    for end, least in (
        ("ings", 4),
        ("ing", 4),
        ("ied", 3),
        ("ies", 3),
        ("ed", 4),
        ("es", 4),
        ("s", 3),
    ):
        if word.endswith(end) and len(word) - len(end) >= least - 1 and not word.endswith("ss"):
            word = word[: -len(end)] + ("y" if end in ("ied", "ies") else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]  # stopp(ing)
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def number(text: str, least: int = 3) -> str:
    """The longest number of at least `least` digits in a text, spoken or written; "" if none."""
    best, run = "", _Run()
    tokens = words(text)
    for n, word in enumerate(tokens):
        after = tokens[n + 1] if n + 1 < len(tokens) else ""
        if not run.take(word, is_number(after) or after in _HOMOPHONES):
            best = max(best, run.end(), key=len)
            run = _Run()
    best = max(best, run.end(), key=len)
    return best if len(best) >= least else ""


def only_number(text: str) -> bool:
    """Whether somebody who says this says a number and nothing else."""
    return bool(number(text)) and all(
        is_number(word) or word in FUNCTION or word in FILLERS for word in words(text)
    )


def spell(digits: str) -> str:
    """Digits as one says them on a telephone, one by one: "42" is "four, two".

    A voice that makes the little pause of the comma is understood; one that runs them together
    isn't ("for 217").
    """
    return ", ".join(_NAMES.get(d, d) for d in digits)


def yes_or_no(text: str) -> bool | None:
    """What a short answer to a yes-or-no question means; None if it doesn't say."""
    heard = words(text)
    if len(heard) > 6:
        return None
    if any(w in NO for w in heard):
        return False
    if any(w in YES for w in heard) or "thats it" in " ".join(heard):
        return True
    return None


def day_of(word: str) -> bool:
    """Whether a word names a day."""
    return word.rstrip("s") in _DAYS


def is_number(word: str) -> bool:
    """Whether a word is a number, written or spoken."""
    return word.isdigit() or any(word in names for names in (DIGITS, _TEENS, _TENS))


class _Run:
    """A run of number words, as digits."""

    def __init__(self) -> None:
        self._digits = ""
        self._ten = False  # a twenty that may still become a twenty-two
        self._times = 1

    def take(self, word: str, more: bool) -> bool:
        """Add a word; False if it ends the run. `more`: a number word follows it."""
        if word in ("double", "triple") and more:
            self._times = 2 if word == "double" else 3
            return True
        ten, self._ten = self._ten, False
        if word in _TENS:
            self._add(_TENS[word] + "0")
            self._ten = True
        elif word in DIGITS and ten and word not in ("zero", "oh"):
            self._digits = self._digits[:-1] + DIGITS[word]
        elif digit := word if word.isdigit() else DIGITS.get(word) or _TEENS.get(word):
            self._add(digit)
        elif word in _HOMOPHONES and self._digits and more:
            self._add(_HOMOPHONES[word])
        else:
            return False
        return True

    def end(self) -> str:
        """The digits so far."""
        return self._digits

    def _add(self, digits: str) -> None:
        self._digits += digits * self._times
        self._times = 1
