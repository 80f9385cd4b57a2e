import asyncio
import contextlib

import numpy as np
import pytest

from bridge.agent import Agent
from bridge.engines.base import Shared
from bridge.engines.speech_openai import stt, tts
from bridge.engines.stt_queue import Rank
from bridge.errors import EngineError, EngineLost, EngineRefused
from tests.standins.openai import DROP, HANG, OpenAi

TONE = np.tile(np.array([3000] * 30 + [-3000] * 30, np.int16), 100)


@contextlib.asynccontextmanager
async def part(make, server, **table):
    shared = Shared()
    agent = Agent("a", language="fr")
    yield await make({"url": server.url, **table}, "a.toml: [x]", agent).prepare(shared)
    await shared.close()


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", OpenAi.key)


async def test_an_utterance_is_a_file_and_its_words_come_back():
    async with OpenAi(" Bonjour. ") as server, part(stt, server, prompt="Aurore") as ear:
        assert await ear.transcribe(TONE) == "Bonjour."
    [asked] = server.requests
    assert (asked["language"], asked["prompt"]) == ("fr", "Aurore")
    np.testing.assert_array_equal(server.heard[0], TONE)


async def test_nobody_pays_for_glimpses_unless_he_wants_them():
    async with OpenAi("one", "two") as server:
        async with part(stt, server) as ear:
            assert await ear.glimpse(lambda: TONE, Rank.GLIMPSE) is None
            assert await ear.glimpse(lambda: TONE, Rank.PAUSE) == "one"
            assert await ear.glimpse(lambda: None, Rank.PAUSE) is None
        async with part(stt, server, glimpses=True) as ear:
            assert await ear.glimpse(lambda: TONE, Rank.GLIMPSE) == "two"


async def test_speech_comes_as_it_is_made_and_at_our_rate():
    async with OpenAi([TONE, HANG]) as server, part(tts, server, instructions="Whisper.") as voice:
        pieces = voice.say("Bonjour.", first=True)
        first = await anext(pieces)
        assert 1000 < len(first) <= len(TONE) * 2 / 3
        assert not server.gone.is_set()
        await pieces.aclose()
        async with asyncio.timeout(5):
            await server.gone.wait()
    [asked] = server.requests
    assert (asked["input"], asked["instructions"]) == ("Bonjour.", "Whisper.")


async def test_all_of_a_sentence_is_there():
    async with OpenAi([TONE, TONE]) as server, part(tts, server) as voice:
        found = np.concatenate([p async for p in voice.say("Bonjour.", first=True)])
    assert abs(len(found) - len(TONE) * 4 / 3) < 100


@pytest.mark.parametrize(
    ("answer", "kind"), [(500, EngineError), (DROP, EngineLost), (b"nonsense", EngineError)]
)
async def test_what_goes_wrong_is_one_line(answer, kind):
    async with OpenAi(answer) as server, part(stt, server) as ear:
        with pytest.raises(kind, match=r"http://127"):
            await ear.transcribe(TONE)
    if answer == b"nonsense":
        return  # any bytes are audio
    steps = answer if answer == 500 else [TONE, answer]
    async with OpenAi(steps) as server, part(tts, server) as voice:
        with pytest.raises(kind, match=r"http://127"):
            [p async for p in voice.say("Bonjour.", first=True)]


@pytest.mark.parametrize("make", [stt, tts])
async def test_a_wrong_key(monkeypatch, make):
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    async with OpenAi() as server, part(make, server) as made:
        work = made.transcribe(TONE) if make is stt else made.prepare(["Bonjour."])
        with pytest.raises(EngineRefused, match="refuses the key in OPENAI_API_KEY"):
            await work
