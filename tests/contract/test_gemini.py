"""What Gemini Live has beside the contract."""

from dataclasses import replace

import numpy as np
import pytest
from google.genai import types

from bridge.engines import gemini_live
from bridge.engines.base import Entry, Note, Resume, ToolCall, ToolResult
from tests.contract.far import CallTool, voice
from tests.contract.far_gemini import Gemini
from tests.contract.test_contract import CLOSED, LONG, OPEN, ask, heard_whole, likeness, loud_ms

FARS = [Gemini]
HISTORY = [Entry("agent", "Hello there."), Entry("caller", "Hi.")]


def turns(agent, **settings):
    """The agent with other settings of its turns."""
    return replace(agent, turns=replace(agent.turns, **settings))


def kept(line):
    """What the engine wants back after a crash."""
    return line.engine._ledger.state.get("contract")


async def speak(line, ms=600):
    """The caller says something."""
    await line.speak(voice(ms, line.rate, seed=9))


async def test_the_session_is_what_the_agent_file_says(far, call, agent):
    options = {**agent.options, "instructions": "You are a shop.", "voice": "Puck"}
    async with await call(agent=replace(agent, options=options)):
        pass
    (setup,) = far.setups
    assert setup.model == "models/gemini-live-2.5-flash-preview"
    assert setup.system_instruction.parts[0].text.startswith("You are a shop.")
    speech = setup.generation_config.speech_config
    assert speech.voice_config.prebuilt_voice_config.voice_name == "Puck"
    (tool,) = setup.tools
    assert [f.name for f in tool.function_declarations] == ["hang_up"]
    assert setup.context_window_compression.sliding_window
    assert not far.by_itself


async def test_the_greeting_is_asked_for(far, call, agent):
    far.answers.append([OPEN])
    async with await call(agent=replace(agent, greeting="Hello, this is Ann.")) as line:
        await line.until(lambda: loud_ms(line) >= OPEN.ms - 40)
    assert '"Hello, this is Ann."' in far.told[0]


async def test_only_turns_reach_the_model(far, call):
    far.answers.extend([[LONG], [OPEN]])
    async with await call() as line:
        await ask_while(line, 200)
        assert [(h.heard_ms, h.cut) for h in line.heard if h.heard_ms] == [(LONG.ms, False)]
        assert len(far.answers) == 1
        await ask(line)
        assert heard_whole(line, OPEN)
    heard = np.concatenate(far.caller)
    assert len(heard) < far.rate * 5  # two turns, and little around them


async def ask_while(line, ms):
    """A turn, and speech against its answer."""
    await speak(line)
    await line.until(lambda: loud_ms(line) >= 800)
    await speak(line, ms)
    await line.until(lambda: any(h.heard_ms for h in line.heard))


async def test_the_vendor_may_decide(far, call, agent):
    far.answers.extend([[LONG], [OPEN]])
    slow = far.say

    async def say(step):  # it is interrupted only while it generates
        await slow(step)
        if step is LONG:
            await far.wait(10_000)

    far.say = say
    async with await call(agent=turns(agent, barge_in="engine")) as line:
        assert line.engine.turns == "engine"
        await ask_while(line, 300)
        await line.until(lambda: any(not h.cut for h in line.heard))
        assert heard_whole(line, OPEN)
        cut = [h for h in line.heard if h.cut]
        assert 700 <= sum(h.heard_ms for h in cut) <= 1500
    assert far.by_itself
    assert likeness(np.concatenate(far.caller), voice(600, 16000, seed=9)) > 0.9


async def test_a_call_that_is_off_needs_no_result(far, call):
    far.answers.extend([[OPEN, CallTool("hang_up", {})], [CLOSED]])
    async with await call() as line:
        await speak(line)
        await line.until(lambda: line.of(ToolCall) and not line.playout.playing)
        (tool,) = line.of(ToolCall)
        await ask(line, 1000)
        assert heard_whole(line, CLOSED)
        line.engine.notify(ToolResult(tool.id, ok=True, value="late"))
        await line.silence(500)
    assert far.results == []


# Sessions that outlast a connection -------------------------------------------------------------


async def test_the_newest_handle_is_kept(far, call):
    far.answers.append([OPEN])
    async with await call() as line:
        await ask(line)
        await line.until(lambda: kept(line))
        await line.silence(200)
    state = kept(line)
    assert state == {"handle": "handle-1", "lines": 2}


@pytest.mark.parametrize("known", [True, False])
async def test_another_process_goes_on_with_the_session(far, call, known):
    if known:
        far.handles["h"] = [("agent", "Hello there."), ("caller", "Hi.")]
    state = {"contract": {"handle": "h", "lines": 2}}
    resume = Resume(owed=False, state=state)
    far.answers.append([OPEN])
    async with await call(history=HISTORY, resume=resume) as line:
        await ask(line)
        assert heard_whole(line, OPEN)
        assert line.made == 1
    assert list(far.history)[:2] == [("agent", "Hello there."), ("caller", "Hi.")]
    assert [setup.session_resumption.handle for setup in far.setups] == (
        ["h"] if known else ["h", None]
    )
    assert bool(far.setups[-1].history_config) != known


async def test_a_handle_that_is_too_old_is_not_used(far, call):
    far.handles["h"] = []
    resume = Resume(owed=False, state={"contract": {"handle": "h", "lines": 1}})
    async with await call(history=HISTORY, resume=resume) as line:
        await line.until(lambda: far.history is not None)
    assert [setup.session_resumption.handle for setup in far.setups] == [None]


async def test_go_away_is_obeyed_before_it_comes_to_that(far, call):
    far.answers.extend([[OPEN], [CLOSED]])
    async with await call() as line:
        await ask(line)
        await line.until(lambda: kept(line))
        await far.send(go_away=types.LiveServerGoAway(time_left="10s"))
        await line.until(lambda: far.connections == 2 and far.open == 1)
        await line.silence(300)
        await ask(line)
        assert heard_whole(line, OPEN, CLOSED)
        assert line.made == 1
        assert not [n for n in line.of(Note) if n.restarted]
    assert far.setups[1].session_resumption.handle == "handle-1"


async def test_a_connection_is_renewed_before_its_time(far, call, monkeypatch):
    monkeypatch.setattr(gemini_live.GeminiWire, "lasts_s", 4.0)
    far.answers.extend([[OPEN], [CLOSED]])
    async with await call() as line:
        await ask(line)
        await line.until(lambda: far.connections == 2 and far.open == 1)
        await line.silence(300)
        await ask(line)
        assert line.made == 1
