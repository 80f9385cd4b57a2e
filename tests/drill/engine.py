"""The agent that drills are held with: the real cascade, with a brain, an ear and a voice one can
measure.

Every sentence is one word again and again, each word a stretch of the tone that stands for it
(`bab bab bab.`), so that the caller's capture tells which sentence was heard, from when and how
much of it, and the rest of a sentence sounds like the sentence.

    keys 0 to 4   a short answer, a tone each
    keys 5 to 7   a long one
    key 8         the tool `count` (or `[drill] tool`), then a short answer
    speech        a short answer in a tone of its own: the way up works as well

`[drill] mortal = true` in the agent's file has it speak with a voice that can be killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.agent import Agent
from bridge.dialog.playout import MS_PER_SYLLABLE
from bridge.engines.base import Entry, Marks, Pcm, PerCall, Shared
from bridge.engines.cascade import Cascade, CascadeSettings
from bridge.engines.parts import Do, Remember, Said, Say, Step
from tests.drill.voice import RATE, Voice, tone

LONG_MS, SHORT_MS = 20 * int(MS_PER_SYLLABLE), 3 * int(MS_PER_SYLLABLE)
GREETING_HZ = (300, 400)
"""Of the two greetings, the long one and the short one."""
SHORT_KEYS, LONG_KEYS, TOOL_KEY = range(5), range(5, 8), 8
SPOKEN_HZ = 1900
_TONES = {  # by word, each of one syllable
    f"{letter}a{letter}": hz
    for letter, hz in zip("bdfghjklmnpr", (*GREETING_HZ, *range(1000, 2000, 100)), strict=True)
}
_WORDS = {hz: word for word, hz in _TONES.items()}
TASKS_FOLDER = "ARI_BRIDGE_DRILL_TASKS"
"""Names the drill's folder; a worker that gets SIGUSR1 writes there what its loop has to do."""


def hz_of_key(key: int) -> int:
    """The tone of the answer to a key."""
    return 1000 + 100 * key


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


def ms_of(text: str) -> int:
    """The length of a sentence."""
    return len(text.split()) * int(MS_PER_SYLLABLE)


class Tones:
    """A voice: each sentence is a sine."""

    rate = RATE

    async def say(self, text: str, first: bool) -> AsyncIterator[Pcm]:
        wave = tone(hz_of(text), ms_of(text))
        for piece in np.array_split(wave, max(1, len(wave) // 1600)):
            yield piece

    async def prepare(self, texts: Sequence[str]) -> None:
        return None

    def words(self, text: str) -> Marks:
        return ()  # all of one length: what was heard is told by syllables


class Mortal(Tones):
    """The same out of a process, with whose death the engine is lost."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice

    async def say(self, text: str, first: bool) -> AsyncIterator[Pcm]:
        async for piece in self._voice.say(hz_of(text), ms_of(text)):
            yield piece


class Loudness:
    """An ear that tells speech from none."""

    rate = RATE

    async def transcribe(self, pcm: Pcm) -> str:
        return "hello" if len(pcm) and np.abs(pcm).max() > 1000 else ""

    async def glimpse(self, cut: Callable[[], Pcm | None], rank: object) -> str | None:
        pcm = cut()
        return None if pcm is None else await self.transcribe(pcm)


class Keys:
    """Answers each key with a tone of its own, and whatever is said with another."""

    def __init__(self, tool: str) -> None:
        self._tool = tool

    async def think(self, said: Said, memory: Any, history: Sequence[Entry]) -> AsyncIterator[Step]:
        if said.kind == "words":
            yield Say(sentence(SPOKEN_HZ, long=False))
        if said.kind == "digits":
            key = int(said.text[-1])
            if key == TOOL_KEY:
                yield Do(self._tool)
            yield Say(sentence(hz_of_key(key), long=key in LONG_KEYS))
            yield Remember(said.text)

    def fixed(self) -> Sequence[str]:
        return ()

    def understands(self, text: str, memory: Any) -> float | None:
        return None


class WithVoice(PerCall):
    """A provider whose voice is there before the first call."""

    def __init__(self, make: Callable[[], Cascade], voice: Voice) -> None:
        super().__init__(make)
        self._voice = voice

    async def prepare(self) -> None:
        await self._voice.start()

    async def close(self) -> None:
        await self._voice.close()


def provider(agent: Agent, shared: Shared) -> PerCall:
    """The entry point."""
    folder = Path(os.environ[TASKS_FOLDER])
    _tell_tasks(folder)
    settings = CascadeSettings(inter_digit_ms=60, sentence_gap_ms=100)
    keys = Keys(agent.options.get("tool", "count"))
    if agent.options.get("mortal"):
        voice = Voice(folder)
        mortal = Mortal(voice)
        return WithVoice(lambda: Cascade(Loudness(), keys, mortal, settings), voice)
    return PerCall(lambda: Cascade(Loudness(), keys, Tones(), settings))


def _tell_tasks(folder: Path) -> None:
    """On SIGUSR1 write down how many tasks of each kind this worker has."""
    loop = asyncio.get_running_loop()
    path = folder / str(os.getpid())

    def tell() -> None:
        coroutines = [task.get_coro() for task in asyncio.all_tasks(loop)]
        kinds = Counter(getattr(c, "__qualname__", type(c).__name__) for c in coroutines)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(kinds))
        new.rename(path)

    loop.add_signal_handler(signal.SIGUSR1, tell)
