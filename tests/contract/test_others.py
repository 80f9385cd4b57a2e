"""What Deepgram's and ElevenLabs' agents have beside the contract."""

from dataclasses import replace

import numpy as np
import pytest
from deepgram.agent.v1 import types as dg

from bridge.engines import deepgram_agent
from bridge.engines.base import Note
from bridge.errors import EngineError
from tests.contract.call import Call
from tests.contract.far import voice
from tests.contract.far_deepgram import Deepgram
from tests.contract.far_elevenlabs import ElevenLabs
from tests.contract.test_contract import CLOSED, LONG, OPEN, ask, heard_whole, likeness, loud_ms

FARS = [Deepgram]


@pytest.fixture
async def eleven(monkeypatch):
    """ElevenLabs."""
    async with ElevenLabs() as far:
        for name, value in far.environment().items():
            monkeypatch.setenv(name, value)
        far.hurry(monkeypatch)
        yield far
    assert not far.faults


def of(agent, far, **options):
    """The agent, with that engine."""
    return replace(agent, engine=far.engine, options={**far.options(), **options})


async def test_deepgrams_settings_are_what_the_agent_file_says(far, call, agent):
    options = {**agent.options, "instructions": "You are a shop.", "listen": "nova-3"}
    agent = replace(agent, options=options, greeting="Hello, this is Ann.")
    far.answers.append([OPEN])
    async with await call(agent=agent) as line:
        await line.until(lambda: line.heard)
    settings = far.settings.agent
    assert settings.think.prompt.startswith("You are a shop.")
    assert (settings.think.provider.type, settings.think.provider.model) == (
        "open_ai",
        "gpt-4o-mini",
    )
    assert [f.name for f in settings.think.functions] == ["hang_up"]
    assert (settings.listen.provider.version, settings.listen.provider.model) == ("v1", "nova-3")
    assert settings.speak.provider.model == "aura-2-thalia-en"
    assert far.said == ["Hello, this is Ann."]


async def test_deepgram_is_kept_alive_on_hold(far, call, monkeypatch):
    monkeypatch.setattr(deepgram_agent, "KEEP_ALIVE_S", 0.01)
    alive = []
    take = far.take

    async def watch(event):
        alive.append(event.type)
        await take(event)

    far.take = watch
    async with await call() as line:
        engine = line.engine._life._engine
        engine.hear = lambda at_ms, pcm: None  # nothing is passed on
        await line.until(lambda: alive.count("KeepAlive") >= 2)


async def test_deepgrams_error_is_one_line_and_survived(far, call):
    far.answers.extend([[OPEN], [CLOSED]])
    async with await call() as line:
        await ask(line)
        await far.emit(dg.AgentV1Error, description="LLM\nis gone.", code="FAILED_TO_THINK")
        await line.until(lambda: line.made == 2 and far.open == 1)
        await line.silence(500)
        await ask(line)
        (note,) = [n.text for n in line.of(Note) if n.restarted]
        assert note.endswith("Deepgram: LLM is gone.")


async def test_what_is_injected_is_not_the_callers_line(far, call):
    far.answers.append([OPEN])
    async with await call() as line:
        await line.press("42#")
        await line.until(lambda: loud_ms(line) >= OPEN.ms - 40)
        assert not [e for e in line.log if "pressed" in str(e)]


async def test_an_agent_at_elevenlabs_is_told_what_the_dialplan_passed(eleven, agent):
    options = {"instructions": "You are a shop."}
    agent = replace(of(agent, eleven, **options), greeting="Hello, this is Ann.")
    eleven.answers.extend([[OPEN], [CLOSED]])
    engine = await eleven.create(agent)
    async with Call(eleven, agent, engine, variables={"order": "4217"}) as line:
        await line.until(lambda: loud_ms(line) >= OPEN.ms - 40)
        await line.until(lambda: not line.playout.playing)
        await ask(line)
        assert heard_whole(line, OPEN, CLOSED)
    assert eleven.start["dynamic_variables"] == {"order": "4217"}
    assert eleven.override["first_message"] == "Hello, this is Ann."
    assert eleven.override["prompt"]["prompt"].startswith("You are a shop.")


async def test_a_public_agent_needs_no_key(eleven, agent, monkeypatch):
    monkeypatch.delenv("ELEVENLABS_API_KEY")
    eleven.allow = lambda request: None
    monkeypatch.setattr(eleven.server, "_allow", lambda request: None)
    agent = of(agent, eleven, public=True)
    eleven.answers.append([OPEN])
    async with Call(eleven, agent, await eleven.create(agent)) as line:
        await ask(line)
        assert heard_whole(line, OPEN)
    assert eleven.override == {}


async def test_an_agent_at_elevenlabs_is_told_what_was_heard_of_its_cut_answer(eleven, agent):
    agent = of(agent, eleven)
    eleven.answers.extend([[LONG], [OPEN]])
    async with Call(eleven, agent, await eleven.create(agent)) as line:
        await line.speak(voice(600, line.rate, seed=9))
        await line.until(lambda: loud_ms(line) >= 1000)
        await line.speak(voice(1200, line.rate, seed=9))
        await line.until(lambda: any(not h.cut for h in line.heard))
        await line.until(lambda: eleven.told)
        (heard,) = [h.text for h in line.heard if h.cut]
    assert heard
    assert heard != LONG.text
    assert [told for told in eleven.told if f'only this: "{heard}"' in told] == eleven.told


async def test_what_was_sent_before_an_interruption_is_dropped(eleven, agent):
    agent = of(agent, eleven)
    eleven.answers.extend([[LONG], [OPEN]])
    async with Call(eleven, agent, await eleven.create(agent)) as line:
        await line.speak(voice(600, line.rate, seed=9))
        await line.until(lambda: loud_ms(line) >= 600)
        eleven.stop()
        await eleven.tell("interruption", event_id=1000)
        await eleven.tell("audio", audio_base_64="AAAA", event_id=999)  # overtaken
        await line.silence(300)
        before = loud_ms(line)
        await line.silence(1000)
        assert loud_ms(line) == before


@pytest.mark.parametrize("form", ["pcm_44100", "mp3_22050", "nonsense"])
async def test_a_format_that_is_no_telephones_is_one_line(eleven, agent, form):
    eleven.format = form
    agent = of(agent, eleven)
    with pytest.raises(EngineError, match="set it to ulaw_8000"):
        async with Call(eleven, agent, await eleven.create(agent)):
            pass


async def test_the_callers_audio_is_what_he_said(eleven, agent):
    agent = of(agent, eleven)
    eleven.answers.append([OPEN])
    async with Call(eleven, agent, await eleven.create(agent)) as line:
        await ask(line)
    assert likeness(np.concatenate(eleven.caller), voice(600, 8000, seed=9)) > 0.95
