"""Cuts text into sentences, the unit in which a cascade speaks: whole, or as it is written."""

from __future__ import annotations

import re

_CLOSE, _OPEN = "\"'”’)\\]", "\"'“‘(\\[¿¡"
_END = re.compile(
    # A mark, and then a word that doesn't begin small;
    rf"(?P<mark>[.!?…]+[{_CLOSE}]*)\s+(?=[{_OPEN}]*[^\W_a-z])"
    r"|(?P<wide>[。！？]+[」』”]*)\s*(?=[^\s」』”。！？])"  # Chinese and Japanese have no space;
    r"|(?P<line>(?<=\S))[^\S\n]*\n\s*"  # a line ends with or without a mark.
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|no|vs|inc|ltd|jr|sr|ave|rd|e\.g|i\.e|a\.m|p\.m)|\b[a-z])\.$",
    re.IGNORECASE,
)


def sentences(text: str) -> list[str]:
    """The sentences of `text`, white space made single; joined by a space they are the text."""
    found, rest = _cut(" ".join(text.split()))
    return [*found, rest] if rest else found


class Sentences:
    """Text that comes in pieces; each sentence is given as soon as it is whole."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._text = ""

    def add(self, piece: str) -> list[str]:
        """The sentences that end with it: what follows must have begun, or nobody knows."""
        found, self._text = _cut(self._text + piece)
        return [" ".join(sentence.split()) for sentence in found]

    def end(self) -> str:
        """What is left."""
        rest, self._text = " ".join(self._text.split()), ""
        return rest


def _cut(text: str) -> tuple[list[str], str]:
    """Its whole sentences, and the rest of it."""
    found, start = [], 0
    for match in _END.finditer(text):
        end = match.end(match.lastgroup or 0)
        if match.lastgroup == "mark" and _ABBREVIATION.search(text[start:end]):
            continue
        if text[start:end].strip():
            found.append(text[start:end].strip())
        start = match.end()
    return found, text[start:]
