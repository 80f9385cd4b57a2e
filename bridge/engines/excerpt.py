"""What of a document answers a question, short enough to be read out; or that none does.

Full-text search always finds something. What it found is an answer if it has most of the words
that tell what the question is about: then the sentence with most of them is said, and as many of
the next ones of its paragraph as are soon over. Pure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from bridge.engines.english import FILLERS, FUNCTION, QUESTION, stem, words
from bridge.engines.sentences import sentences

ENOUGH = 0.6
"""Which share of a question's telling words must be there."""
MOST_CHARS = 220
"""Of what is said: some 15 s. A first sentence that is longer is said whole."""
NEAR = 0.8
"""Spelling that is so alike is the same word: "deliver", "delivery"; and what was misheard."""

_DULL = frozenset(stem(word) for word in (*FILLERS, *FUNCTION, *QUESTION, "tell", "say", "me"))
_ITEM = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+")
_MARKS = re.compile(r"[*_`#>|\[\]]+|\(?https?://\S+")


def answer(question: str, pieces: Iterable[tuple[str, str]]) -> str:
    """What to say; "" if none of it answers that.

    Args:
        question: what the caller said.
        pieces: heading and text of each that was found, the best first.
    """
    telling = _telling(question)
    best, found = 0.0, ""
    for heading, text in pieces:
        if _share(telling, _telling(f"{heading} {text}")) < ENOUGH:
            continue
        for paragraph in text.split("\n\n"):
            said = [s for line in _lines(paragraph) for s in sentences(line)]
            shares = [_share(telling, _telling(s)) for s in said]
            if said and (max(shares) > best or not found):
                best = max(shares)
                found = _short(said[shares.index(best) :])
    return found


def _lines(paragraph: str) -> list[str]:
    """Those that are items of a list stand by themselves; where others end says nothing."""
    lines: list[str] = []
    for line in paragraph.split("\n"):
        if lines and not _ITEM.match(line):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return [_MARKS.sub(" ", _ITEM.sub("", line)) for line in lines]


def _telling(text: str) -> Sequence[str]:
    """Stems of the words that tell what a text is about, each once."""
    return list(dict.fromkeys(s for s in map(stem, words(text)) if s not in _DULL))


def _share(wanted: Sequence[str], there: Sequence[str]) -> float:
    """Which share of the wanted words is there; 0 where nothing is wanted."""
    found = sum(bool(difflib.get_close_matches(word, there, 1, NEAR)) for word in wanted)
    return found / len(wanted) if wanted else 0.0


def _short(said: Sequence[str]) -> str:
    text = said[0]
    for sentence in said[1:]:
        if len(text) + len(sentence) >= MOST_CHARS:
            break
        text += f" {sentence}"
    return text if text[-1] in ".!?…" else f"{text}."
