"""Which of several intents an utterance means, and how sure that is.

An intent is known by example sentences. A recogniser mishears, and people put things in words that
nobody foresaw; so an utterance is compared word by word: each word weighs what it tells about the
intent (log of the share of intents that use it, function words next to nothing), stems are
compared, and a word that no example has may stand for one that is spelled nearly like it. For an
example,

    recall     which share of the example's weight is found in the utterance
    precision  which share of the utterance's weight is found in any example of the intent

and the score is their harmonic mean, less where hardly anything but function words was found. A
word that no example has ("taxi", "weather") weighs as much as the rarest, which is what turns away
questions that only sound like one of ours.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from bridge.engines.english import FILLERS, FUNCTION, QUESTION, day_of, is_number, stem, words

FUNCTION_WEIGHT = 0.15
"""Of a function word, as a share of the rarest word's weight."""

QUESTION_WEIGHT = 0.35
"""Of a question word ("where"), likewise."""

EVIDENCE = 0.6
"""An example counts in full from this much weight found, likewise: "how are you" has no more in
common with "where are you" than any two questions have."""

NEAR, NEAR_ELSE = 0.75, 0.85
"""Spelling that is so alike (0 to 1) may be meant; more alike, where the first letter differs."""


LAST_WORD = 0.6
"""What an example's last telling word says of its having been said to the end."""


@dataclass(frozen=True, slots=True)
class Match:
    """An intent and how well it fits, 0 to 1."""

    intent: str
    score: float


class Matcher:
    """Compares utterances with examples. Immutable once made."""

    def __init__(self, examples: Mapping[str, Sequence[str]]) -> None:
        """`examples` of each intent, by its name."""
        self._examples = {
            name: [tokens for text in texts if (tokens := _tokens(text))] or [[name]]
            for name, texts in examples.items()
        }
        self._vocabulary = {
            name: frozenset(t for tokens in texts for t in tokens)
            for name, texts in self._examples.items()
        }
        used = Counter(t for vocabulary in self._vocabulary.values() for t in vocabulary)
        count = max(2, len(self._examples))
        self._rarest = log(1 + count)
        self._weights = {t: log(1 + count / n) for t, n in used.items()}
        self._known = sorted(t for t in used if len(t) >= 4 and not t.startswith("<"))

    def match(self, text: str) -> list[Match]:
        """Every intent, the best first."""
        heard = self._read(_tokens(text))
        found = [Match(name, self._score(name, heard)) for name in self._examples]
        return sorted(found, key=lambda m: -m.score)

    def wholly(self, intent: str, text: str) -> float:
        """Which share of what it takes to mean that intent the text holds, 0 to 1.

        That is of an example's telling words (of all its words, where none tells anything), for
        the example that is covered best. A text may match an intent well enough to be answered and
        still lack the end: "do you have any gift" (cards).
        """
        likely: dict[str, float] = {}
        for reading in self._read(_tokens(text)):
            for token, p in reading.items():
                likely[token] = max(p, likely.get(token, 0.0))
        return max(_covered(example, likely) for example in self._examples[intent])

    def _read(self, tokens: Sequence[str]) -> list[dict[str, float]]:
        """For each token heard, which known tokens it may be, and how likely."""
        readings = []
        for token in tokens:
            reading = {token: 1.0}
            if token not in self._weights and len(token) >= 4 and not _is_function(token):
                for near in difflib.get_close_matches(token, self._known, n=3, cutoff=NEAR):
                    alike = difflib.SequenceMatcher(None, near, token).ratio()
                    if alike >= (NEAR if near[0] == token[0] else NEAR_ELSE):
                        reading[near] = 2 * alike - 1
            readings.append(reading)
        return readings

    def _score(self, name: str, heard: list[dict[str, float]]) -> float:
        vocabulary = self._vocabulary[name]
        said = fitting = 0.0
        likely: dict[str, float] = {}
        for reading in heard:
            weight = self._weight(next(iter(reading)))
            said += weight
            fitting += weight * max((p for t, p in reading.items() if t in vocabulary), default=0.0)
            for token, p in reading.items():
                likely[token] = max(p, likely.get(token, 0.0))
        if not fitting:
            return 0.0
        precision = fitting / said
        return max(self._against(example, likely, precision) for example in self._examples[name])

    def _against(
        self, example: Sequence[str], likely: Mapping[str, float], precision: float
    ) -> float:
        found = wanted = 0.0
        for token in example:
            weight = self._weight(token)
            wanted += weight
            found += weight * likely.get(token, 0.0)
        recall = found / wanted
        evidence = min(1.0, found / (EVIDENCE * self._rarest))
        return evidence * 2 * recall * precision / (recall + precision)

    def _weight(self, token: str) -> float:
        if token in _QUESTION_STEMS:
            return QUESTION_WEIGHT * self._rarest
        if _is_function(token):
            return FUNCTION_WEIGHT * self._rarest
        return self._weights.get(token, self._rarest)


def _covered(example: Sequence[str], likely: Mapping[str, float]) -> float:
    telling = [t for t in example if not _is_function(t) and t not in _QUESTION_STEMS] or example
    share = sum(likely.get(t, 0.0) for t in telling) / len(telling)
    # Whoever has said the last one has said the sentence, in words of his own.
    return max(share, LAST_WORD * likely.get(telling[-1], 0.0) + (1 - LAST_WORD) * share)


def _is_function(token: str) -> bool:
    return token in _FUNCTION_STEMS


def _tokens(text: str) -> list[str]:
    """Stems of a text, each once: days are one token, numbers none, fillers go if they may.

    Fillers go where a word is left that tells something; else they are what was said ("thanks").
    """
    every = ["<day>" if day_of(w) else stem(w) for w in words(text) if not is_number(w)]
    found = [t for t in every if t not in _FILLER_STEMS]
    if all(t in _FUNCTION_STEMS for t in found):
        found = every
    return list(dict.fromkeys(found))


_FILLER_STEMS = frozenset(stem(w) for w in FILLERS)
_QUESTION_STEMS = frozenset(stem(w) for w in QUESTION)
_FUNCTION_STEMS = frozenset(stem(w) for w in FUNCTION)
