import asyncio

import pytest

from bridge.agent import Agent
from bridge.engines import stt_deepgram
from bridge.engines.base import CallerText, Shared
from bridge.engines.cascade import Cascade, CascadeSettings
from bridge.engines.stt_deepgram import provider
from bridge.errors import EngineLost, EngineMissing, EngineRefused
from tests.standins.deepgram import Deepgram
from tests.unit.engines.line import Line
from tests.unit.engines.parts import FakeModel, FakeTts

WORDS = "Where can I park? Thanks a lot."
SPEED = 4


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("DEEPGRAM_API_KEY", Deepgram.key)


async def line(far, model=None, **table):
    table = {"url": far.wss, **table}
    part = provider(table, "a.toml: [stt]", Agent("a", language="en"))
    cascade = Cascade(
        await part.prepare(Shared()),
        model or FakeModel(),
        FakeTts(),
        CascadeSettings(begin="pause"),
    )
    return Line(cascade, Agent("a"), real_time=True, speed=SPEED)


def finals(call):
    return [event.text for event in call.of(CallerText) if event.final]


async def test_a_turn_has_the_words_that_were_spoken_in_it():
    model = FakeModel()
    async with Deepgram(words=WORDS.split()) as far:
        async with await line(far, model, keyterms=["Aurora", "Ann"]) as call:
            await call.silence(700)
            await call.tone(800)
            await call.until(lambda: call.lines == ["You said Where can I park?."])
            await call.silence(400)
            await call.tone(600)
            await call.until(lambda: len(call.lines) == 2)
        async with asyncio.timeout(5):
            await far.gone.wait()
        [asked] = far.requests
    assert finals(call) == ["Where can I park?", "Thanks a lot."]
    assert [text for text in call.of(CallerText) if not text.final]
    assert far.control[-1] == "CloseStream"
    assert [value for name, value in asked if name == "keyterm"] == ["Aurora", "Ann"]
    assert ("language", "en") in asked


async def test_words_that_never_become_final_are_taken_as_they_are(monkeypatch):
    monkeypatch.setattr(stt_deepgram, "FINAL_S", 0.05)
    async with Deepgram(words=WORDS.split()) as far:
        far.finals = False
        async with await line(far) as call:
            await call.silence(200)
            await call.tone(800)
            await call.until(lambda: finals(call))
    assert "Where can I park?".startswith(finals(call)[0])


async def test_it_stays_connected_while_nothing_is_heard(monkeypatch):
    monkeypatch.setattr(stt_deepgram, "KEEP_ALIVE_S", 0.02)
    async with Deepgram() as far, await line(far):
        async with asyncio.timeout(5):
            while far.control.count("KeepAlive") < 2:
                await asyncio.sleep(0.01)


async def broken(far):
    async with await line(far) as call:
        await call.silence(200)
        far.drop()
        await call.until(lambda: False)


async def test_a_lost_connection_is_one_line():
    async with Deepgram() as far:
        with pytest.raises(ExceptionGroup) as caught:
            await broken(far)
    [error] = caught.value.exceptions
    assert isinstance(error, EngineLost)
    assert str(error).startswith("lost Deepgram: ")


async def started(far):
    async with await line(far):
        pass


async def test_keys_and_a_server_that_is_not_there(monkeypatch):
    async with Deepgram() as far:
        monkeypatch.setenv("DEEPGRAM_API_KEY", "wrong")
        with pytest.raises(EngineRefused, match="Deepgram refuses the key in DEEPGRAM_API_KEY"):
            await started(far)
        await far.refuse()
        with pytest.raises(EngineLost, match="no connection to Deepgram: can't connect"):
            await started(far)
        monkeypatch.delenv("DEEPGRAM_API_KEY")
        with pytest.raises(EngineMissing, match="set the environment variable DEEPGRAM_API_KEY"):
            await started(far)
