"""A word with every vendor: with its stand-in, and with itself where its key is in the environment.

What a vendor says of its own is judged loosely; that it takes what we send, and answers, is not.
"""

import contextlib
import os

import numpy as np
import pytest

from bridge.agent import Agent
from bridge.engines import llm_anthropic, llm_openai, speech_openai, tts_http
from bridge.engines.base import Context, Entry, Shared
from bridge.engines.parts import Say
from bridge.engines.rates import resample
from tests.demo.voice import clip
from tests.standins.anthropic import Anthropic
from tests.standins.cartesia import Cartesia
from tests.standins.deepgram import Deepgram
from tests.standins.openai import OpenAi

AGENT = Agent("a")
CONTEXT = Context("call-1", AGENT, "100", 8000, print, int, None, None)
TONE = np.tile(np.array([3000] * 30 + [-3000] * 30, np.int16), 200)
CARTESIA_VOICE = os.environ.get("CARTESIA_VOICE", "a0e99841-438c-4a64-b679-ae501e7d6091")


def vendors(*parts):
    """Each part with its stand-in; and with the vendor, if there is a key for it."""
    found = []
    for name, make, far, answer, table in parts:
        key = f"{name.upper()}_API_KEY"
        found.append(pytest.param(make, far, answer, table, key, id=f"{name}-standin"))
        if os.environ.get(key):
            found.append(pytest.param(make, None, answer, table, key, id=name))
    return pytest.mark.parametrize(("make", "far", "answer", "table", "key"), found)


@contextlib.asynccontextmanager
async def part(make, far, answer, table, key, monkeypatch):
    """The part, connected."""
    shared = Shared()
    async with contextlib.AsyncExitStack() as stack:
        if far is not None:
            server = await stack.enter_async_context(far(answer))
            monkeypatch.setenv(key, server.key)
            table = {**table, "url": server.url}
        stack.push_async_callback(shared.close)
        yield await make(table, "a.toml", AGENT).prepare(shared)


@vendors(
    ("openai", llm_openai.provider, OpenAi, ["Hello."], {"model": "gpt-4.1-mini"}),
    ("anthropic", llm_anthropic.provider, Anthropic, ["Hello."], {"model": "claude-haiku-4-5"}),
)
async def test_a_model_answers(make, far, answer, table, key, monkeypatch):
    async with part(make, far, answer, table, key, monkeypatch) as model:
        history = [Entry("agent", "Good morning."), Entry("caller", "Please just say hello.")]
        steps = [step async for step in model.answer(CONTEXT, history)]
    assert "hello" in " ".join(step.text for step in steps if isinstance(step, Say)).lower()


@vendors(
    ("openai", speech_openai.tts, OpenAi, [TONE], {}),
    ("cartesia", tts_http.cartesia, Cartesia, [TONE], {"voice": CARTESIA_VOICE}),
    ("deepgram", tts_http.deepgram, Deepgram, [TONE], {}),
)
async def test_a_voice_speaks(make, far, answer, table, key, monkeypatch):
    async with part(make, far, answer, table, key, monkeypatch) as voice:
        pcm = np.concatenate([p async for p in voice.say("Good morning to you.", first=True)])
    assert len(pcm) > 0.4 * voice.rate
    assert np.abs(pcm.astype(int)).max() > 1000


@vendors(("openai", speech_openai.stt, OpenAi, "When are you open?", {}))
async def test_words_are_heard(make, far, answer, table, key, monkeypatch):
    async with part(make, far, answer, table, key, monkeypatch) as ear:
        text = await ear.transcribe(resample(clip("When are you open?").pcm, 8000, 16000))
    assert "open" in text.lower()
