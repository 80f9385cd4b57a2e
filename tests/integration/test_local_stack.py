"""The engine `cascade` with a real local stack, as a caller on a telephone meets it.

Speech to text by moonshine, answers by a language model behind llama.cpp's server, speech by piper
behind the Wyoming protocol: none of it ours, and no key. The model is so small that what it says is
seldom right, so that is not judged; that it was asked and heard is.
"""

import re

import numpy as np
import pytest
import pytest_asyncio

from bridge.audio.g711 import decode_ulaw, encode_ulaw
from bridge.dialog.turns import BargeIn
from bridge.engines.base import CallerText, ReplyDone, Text
from bridge.engines.rates import resample
from bridge.engines.registry import Engines
from bridge.errors import EngineLost
from tests.bench.speculation import agent
from tests.demo.voice import clip
from tests.lab.local import Llama, WyomingPiper
from tests.unit.engines.line import Line

LONG_MS = 90_000
"""A slow machine may take so long to say what comes to the model's mind."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def servers():
    with Llama() as llama, WyomingPiper() as piper:
        yield llama, piper


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engines():
    engines = Engines()
    yield engines
    await engines.close()


def phone(text):
    pcm = clip(text).pcm
    return resample(decode_ulaw(encode_ulaw(pcm)), 8000, 16000)


def words(text):
    return re.findall(r"[a-z']+", text.lower())


async def transcript(engines, who, call, from_ms):
    """What the caller heard since then, by transcribing it."""
    frames = np.concatenate(call.played[from_ms // 20 :]).astype(np.int16)
    heard = resample(decode_ulaw(encode_ulaw(resample(frames, 16000, 8000))), 8000, 16000)
    provider = await engines._provider(who)
    return words(await provider._stt.transcribe(heard))


async def test_turns_with_a_model_that_remembers_and_can_be_interrupted(servers, engines):
    llama, piper = servers
    who = agent(llama.url, piper.url, "pause")
    await engines.prepare(who)
    async with Line(await engines.create(who), who, real_time=True) as call:
        await call.silence(300)
        await call.speak(phone("Do you sell gift cards?"))
        asked = call.at_ms
        await call.until(lambda: call.of(ReplyDone) and call.quiet(), LONG_MS)
        assert "gift" in finals(call)[0]
        expected, heard = words(call.said), await transcript(engines, who, call, asked)
        missing = [word for word in expected if word not in heard]
        assert len(missing) <= len(expected) / 2, (expected, heard)

        await call.speak(phone("Tell me everything about your books please."))
        lines = len(call.of(Text))
        await call.until(lambda: len(call.of(Text)) > lines and call.playout.playing, LONG_MS)
        await call.silence(300)
        await call.speak(phone("Sorry to interrupt. Where can I park?"))
        assert call.of(BargeIn)
        last = len(call.of(Text))
        await call.until(lambda: "park" in finals(call)[-1], LONG_MS)
        await call.until(lambda: len(call.of(Text)) > last and call.quiet(), LONG_MS)


def finals(call):
    return [event.text for event in call.of(CallerText) if event.final]


async def ask(call):
    async with call:
        await call.speak(phone("Where can I park?"))
        await call.until(lambda: False)


async def test_a_model_that_dies_is_one_line(servers, engines):
    _, piper = servers
    with Llama() as other:
        who = agent(other.url, piper.url, "pause")
        await engines.prepare(who)
    call = Line(await engines.create(who), who, real_time=True)
    with pytest.raises(ExceptionGroup) as caught:
        await ask(call)
    [error] = caught.value.exceptions
    assert isinstance(error, EngineLost)
    assert re.fullmatch(r"no connection to http://127\.0\.0\.1:\d+/v1: .+", str(error))
