"""Cuts text into sentences, the unit in which a cascade speaks."""

from __future__ import annotations

import re

_END = re.compile(r"([.!?]+[\"')\]]*)\s+(?=[\"'(\[]?[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|no|vs|inc|ltd|jr|sr|ave|rd|e\.g|i\.e|a\.m|p\.m)|\b[a-z])\.$",
    re.IGNORECASE,
)


def sentences(text: str) -> list[str]:
    """The sentences of `text`, white space made single; joined by a space they are the text."""
    text = " ".join(text.split())
    found, start = [], 0
    for match in _END.finditer(text):
        end = match.end(1)
        if _ABBREVIATION.search(text[start:end]):
            continue
        found.append(text[start:end])
        start = match.end()
    if text[start:]:
        found.append(text[start:])
    return found
