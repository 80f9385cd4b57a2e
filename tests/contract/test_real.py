"""One conversation with each vendor of spoken models: its stand-in, and the real one where the
environment holds its key (`ELEVENLABS_AGENT_ID` as well, for ElevenLabs)."""

import os

import pytest

from bridge.agent import Agent, TurnSettings
from bridge.engines.base import Entry, Failed, Note, Resume
from bridge.engines.rates import resample
from bridge.engines.registry import Engines
from tests.contract.call import SPEED, Call
from tests.contract.far_deepgram import Deepgram
from tests.contract.far_elevenlabs import ElevenLabs
from tests.contract.far_gemini import Gemini
from tests.contract.far_openai import OpenAi
from tests.contract.test_contract import LONG, OPEN, loud_ms
from tests.demo.voice import clip


class Real:
    """A vendor itself."""

    def __init__(self, far):
        self.engine = far.engine
        self._engines = Engines()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        await self._engines.close()

    def options(self):
        """The table of the agent file."""
        own = {"agent_id": os.environ.get("ELEVENLABS_AGENT_ID", "")}
        return own if self.engine == "elevenlabs" else {}

    async def create(self, agent):
        """An engine for one call."""
        return await self._engines.create(agent)


def places():
    """(stand-in, whether it is the real one that is meant), chosen before anything runs."""
    for far in (OpenAi, Gemini, Deepgram, ElevenLabs):
        yield pytest.param(far, False, id=f"{far.__name__}")
        there = far is not ElevenLabs or os.environ.get("ELEVENLABS_AGENT_ID")
        if os.environ.get(far.key_env) and there:
            yield pytest.param(far, True, id=f"{far.__name__}-itself")


@pytest.mark.parametrize(("standin", "real"), list(places()))
async def test_a_conversation(standin, real, monkeypatch):
    async with Real(standin) if real else standin() as place:
        if not real:
            for name, value in place.environment().items():
                monkeypatch.setenv(name, value)
            place.hurry(monkeypatch)
            place.answers.extend([[OPEN], [OPEN], [LONG], [OPEN], [OPEN]])
        options = {**place.options()}
        if standin is not ElevenLabs:
            options["instructions"] = "You are a test. Answer in one short sentence."
        agent = Agent(
            "real",
            engine=standin.engine,
            greeting="Hello, this is the test line. How can I help you?",
            engine_silent_s=15.0 if real else 60.0,
            turns=TurnSettings(no_input_ms=600_000),
            options=options,
            file="real.toml",
        )
        await converse(place, agent, 1 if real else SPEED)
        await go_on(place, agent, 1 if real else SPEED)
        if not real:
            assert not place.faults


async def said(line, text):
    """The caller says this, and is answered for a while."""
    before = loud_ms(line)
    words = clip(text)
    await line.speak(resample(words.pcm, 8000, line.rate))
    await line.until(lambda: loud_ms(line) >= before + 400, at_most_ms=30_000)


async def silent(line):
    """The agent has said what it had to say."""
    still = 0
    while still < 75:
        await line.silence(20)
        still = 0 if line.playout.playing else still + 1


async def converse(place, agent, speed):
    """Greeting, an answer, and one that is interrupted."""
    async with Call(place, agent, await place.create(agent)) as line:
        line.speed = speed
        await line.until(lambda: loud_ms(line) >= 400, at_most_ms=30_000)
        await silent(line)
        await said(line, "What is two plus two?")
        await silent(line)
        await said(line, "Please count slowly from one to thirty.")
        await said(line, "Stop it, that is enough, thank you very much indeed.")
        await silent(line)
        assert any(h.cut for h in line.heard)
        well(line)


async def go_on(place, agent, speed):
    """After a crash: no greeting, and what was asked is answered."""
    history = [Entry("agent", agent.greeting), Entry("caller", "What is three plus three?")]
    async with Call(
        place, agent, await place.create(agent), history=history, resume=Resume()
    ) as line:
        line.speed = speed
        await line.until(lambda: loud_ms(line) >= 300, at_most_ms=30_000)
        await silent(line)
        well(line)


def well(line):
    """Nothing failed on the way."""
    assert line.made == 1
    assert not line.of(Failed)
    assert not [note for note in line.of(Note) if note.restarted]
    assert "".join(line.lines).strip()
