"""Parts of a cascade for tests: what they hear, think and say is set by the test."""

import asyncio

import numpy as np

from bridge.engines.parts import Remember, Say
from bridge.engines.prompt import Used


class FakeStt:
    """Gives the texts it was given, one an utterance; `gate` holds it up.

    It has no time for glimpses, unless the test says what they are: `glimpses`, the last for ever.
    """

    rate = 16000

    def __init__(self, *texts):
        self.texts = list(texts)
        self.glimpses = []
        self.glimpsed = []
        self.got = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def transcribe(self, pcm):
        self.got.append(pcm)
        await self.gate.wait()
        return self.texts.pop(0) if self.texts else ""

    async def glimpse(self, cut, rank):
        if not self.glimpses or (pcm := cut()) is None:
            return None
        self.glimpsed.append((rank, pcm))
        await self.gate.wait()
        return self.glimpses.pop(0) if len(self.glimpses) > 1 else self.glimpses[0]


class FakeBrain:
    """Answers with the steps that the test wrote for a text; it remembers what it was asked."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    async def think(self, said, memory, history):
        self.asked.append((said, memory, tuple(history)))
        yield Remember([*(memory or []), said.text or said.kind])
        for step in self.answers.get(said.text or said.kind, [Say(f"You said {said.text}.")]):
            yield step

    def fixed(self):
        return []

    def understands(self, text, memory):
        return 1.0 if text in self.answers else 0.0


class FakeTts:
    """A tone of 200 ms a word; `asked` is what it had to say.

    `gate` holds it up, but only for texts that begin with `late`.
    """

    rate = 16000

    def __init__(self):
        self.asked = []
        self.late = ""
        self.gate = asyncio.Event()
        self.gate.set()

    async def say(self, text, first):
        self.asked.append((text, first))
        if text.startswith(self.late):
            await self.gate.wait()
        for _ in text.split():
            yield np.full(3200, 3000, np.int16)

    def words(self, text):
        return ()

    async def prepare(self, texts):
        pass


class FakeModel:
    """A language model that answers the conversation's last line with the steps given for it.

    The line is its text, or of a tool `TOOL=VALUE`. `asked` holds what it read; `gate` holds up
    what follows its first step; `given_up` counts answers that nobody read to their end.
    """

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []
        self.given_up = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, context, history):
        self.asked.append(list(history))
        last = history[-1]
        key = f"{last.call.name}={last.value}" if isinstance(last, Used) else last.text
        try:
            for n, step in enumerate(self.answers.get(key, [Say(f"You said {key}.")])):
                if n:
                    await self.gate.wait()
                yield step
        except (GeneratorExit, asyncio.CancelledError):
            self.given_up += 1
            raise
