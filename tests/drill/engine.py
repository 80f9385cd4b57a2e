"""The agent that drills are held with: the real cascade, with a brain and a voice one can measure.

Every sentence is one word again and again, each word a stretch of the tone that stands for it
(`bab bab bab.`), so that the caller's capture tells which sentence was heard, from when and how
much of it, and the rest of a sentence sounds like the sentence. The agent answers keys only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from bridge.agent import Agent
from bridge.dialog.playout import MS_PER_SYLLABLE
from bridge.engines.base import Entry, Pcm, PerCall, Shared
from bridge.engines.cascade import Cascade, CascadeSettings
from bridge.engines.parts import Do, Remember, Said, Say, Step

RATE = 8000
LONG_MS, SHORT_MS = 20 * int(MS_PER_SYLLABLE), 3 * int(MS_PER_SYLLABLE)
GREETING_HZ = (300, 400, 500)
REPLY_HZ = 1000
"""Of the answer to key 0; each next key is 100 Hz higher."""
_WORDS = {
    hz: f"{letter}a{letter}"  # one syllable
    for hz, letter in zip((*GREETING_HZ, *range(1000, 2000, 100)), "bdfghjklmnprs", strict=True)
}
_TONES = {word: hz for hz, word in _WORDS.items()}


def sentence(hz: int, *, long: bool) -> str:
    """What is said at that frequency."""
    words = (LONG_MS if long else SHORT_MS) // int(MS_PER_SYLLABLE)
    return " ".join([_WORDS[hz]] * words).capitalize() + "."


def word_of(hz: int) -> str:
    """The word that stands for that tone."""
    return _WORDS[hz]


def hz_of(text: str) -> int:
    """The frequency of a sentence."""
    return _TONES[text.split()[0].strip(".").lower()]


class Tones:
    """A voice: each sentence is a sine."""

    rate = RATE

    async def say(self, text: str, first: bool) -> AsyncIterator[Pcm]:
        n = len(text.split()) * int(MS_PER_SYLLABLE) * RATE // 1000
        wave = 8000 * np.sin(2 * np.pi * hz_of(text) * np.arange(n) / RATE)
        for piece in np.array_split(wave.astype(np.int16), max(1, n // 1600)):
            yield piece

    async def prepare(self, texts: Sequence[str]) -> None:
        return None


class Deaf:
    rate = RATE

    async def transcribe(self, pcm: Pcm) -> str:
        return ""


class Keys:
    """Answers each key with a tone of its own; 9 is answered at length."""

    async def think(self, said: Said, memory: Any, history: Sequence[Entry]) -> AsyncIterator[Step]:
        if said.kind == "digits":
            key = int(said.text[-1])
            yield Say(sentence(REPLY_HZ + 100 * key, long=key == 9))
            if key == 8:
                yield Do("transfer", {"extension": "200"})
            yield Remember(said.text)

    def fixed(self) -> Sequence[str]:
        return ()


def provider(agent: Agent, shared: Shared) -> PerCall:
    """The entry point."""
    settings = CascadeSettings(inter_digit_ms=60, sentence_gap_ms=100)
    return PerCall(lambda: Cascade(Deaf(), Keys(), Tones(), settings))
