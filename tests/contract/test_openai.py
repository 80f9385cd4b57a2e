"""What OpenAI's Realtime API has beside the contract."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from openai.types import realtime as rt

from bridge.engines import openai_realtime, speech
from bridge.engines.base import (
    BargeIn,
    Entry,
    Failed,
    NoInput,
    Note,
    Resume,
    ToolCall,
    ToolResult,
)
from bridge.engines.prompt import ON_THE_PHONE
from bridge.errors import EngineError
from tests.contract.call import Call
from tests.contract.far import CallTool, Say, voice
from tests.contract.far_openai import OpenAi, OpenAiWide
from tests.contract.test_contract import CLOSED, LONG, OPEN, ask, heard_whole, likeness, loud_ms


class Watched(OpenAi):
    """Keeps what came."""

    def __init__(self):
        super().__init__()
        self.got = []

    async def take(self, event):
        if event.type != "input_audio_buffer.append":
            self.got.append(event)
        await super().take(event)

    def of(self, kind):
        """Events of a kind."""
        return [event for event in self.got if event.type == kind]

    @property
    def told(self):
        """What it was told in the caller's name, since the conversation began."""
        items = [event.item for event in self.of("conversation.item.create")]
        return [i.content[0].text for i in items if i.type == "message" and i.role == "user"]


FARS = [Watched]


def turns(agent, **settings):
    """The agent with other settings of its turns."""
    return replace(agent, turns=replace(agent.turns, **settings))


def engine_of(line):
    """The engine under the supervisor."""
    return line.engine._life._engine


async def speak(line, ms=600):
    """The caller says something."""
    await line.speak(voice(ms, line.rate, seed=9))


# Beginning ----------------------------------------------------------------------------------------


async def test_the_session_is_what_the_agent_file_says(far, call, agent):
    options = {
        **agent.options,
        "instructions": "You are a {what} shop.",
        "voice": "cedar",
        "noise_reduction": "near_field",
        "silence_ms": 400,
    }
    async with await call(agent=replace(agent, options=options), variables={"what": "book"}):
        pass
    (update,) = far.of("session.update")
    session = update.session
    long = speech.LONG.format(most_s=30)
    assert session.instructions == f"You are a book shop.\n\n{long}\n\n{ON_THE_PHONE}"
    assert session.audio.output.voice == "cedar"
    assert session.audio.input.noise_reduction.type == "near_field"
    assert session.audio.input.transcription.language == "en"
    detection = session.audio.input.turn_detection
    assert (detection.type, detection.silence_duration_ms) == ("server_vad", 400)
    assert (detection.create_response, detection.interrupt_response) == (False, False)
    assert [tool.name for tool in session.tools] == ["hang_up"]


async def test_the_greeting_is_the_agents_own(far, call, agent):
    far.answers.append([OPEN])
    async with await call(agent=replace(agent, greeting="Hello, this is Ann.")) as line:
        await line.until(lambda: line.heard)
        assert heard_whole(line, OPEN)
    (asked,) = far.of("response.create")
    assert '"Hello, this is Ann."' in asked.response.instructions


async def test_a_wide_line_is_heard_in_wide(call, agent, monkeypatch):
    async with OpenAiWide() as far:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-right-key")
        far.answers.append([OPEN])
        agent = replace(agent, options={"url": f"ws://{far.where}/v1"})
        async with Call(far, agent, await far.create(agent), line_rate=16000) as line:
            await ask(line)
            assert line.rate == 16000
            assert heard_whole(line, OPEN)
        assert likeness(np.concatenate(far.caller), voice(600, 24000, seed=9)) > 0.8
    assert not far.faults


async def test_what_the_server_refuses_is_one_line(far, call, agent, monkeypatch):
    async def refuse(event):
        await far.error("Invalid value: 'x'.\nSupported: marin", "invalid_value", event)

    monkeypatch.setattr(far, "update", refuse)
    with pytest.raises(EngineError, match=r"refuses the session: Invalid value: 'x'. Supported"):
        async with await call():
            pass


@pytest.mark.parametrize(
    ("status", "cure"), [(403, "OPENAI_API_KEY"), (404, "model"), (429, "billing"), (503, "503")]
)
async def test_a_refusal_names_its_cure(far, call, monkeypatch, status, cure):
    monkeypatch.setattr(far.server, "_allow", lambda request: status)
    with pytest.raises(EngineError, match=cure):
        async with await call():
            pass


# Who has the floor --------------------------------------------------------------------------------


async def test_the_vendor_may_decide_on_interruptions(far, call, agent):
    far.answers.extend([[LONG], [OPEN]])
    async with await call(agent=turns(agent, barge_in="engine")) as line:
        await speak(line)
        await line.until(lambda: loud_ms(line) >= 800)
        await speak(line, 300)  # too short for the bridge, not for the server
        await line.until(lambda: any(not h.cut for h in line.heard))
        cut = sum(h.heard_ms for h in line.heard if h.cut)
        assert not line.of(BargeIn)
        assert far.cuts[-1] == pytest.approx(cut, abs=60)
        assert 700 <= cut <= 1500
    detection = far.session.audio.input.turn_detection
    assert (detection.create_response, detection.interrupt_response) == (True, True)
    assert not far.of("response.create")
    assert not far.of("response.cancel")


async def test_an_uh_huh_costs_nothing(far, call):
    far.answers.extend([[LONG], [OPEN]])
    async with await call() as line:
        await speak(line)
        await line.until(lambda: loud_ms(line) >= 800)
        await speak(line, 200)
        await line.until(lambda: line.heard)
        assert [(h.heard_ms, h.cut) for h in line.heard] == [(LONG.ms, False)]
        await line.silence(1000)
        assert len(far.answers) == 1
        await ask(line)
        assert heard_whole(line, OPEN)
    assert not far.of("response.cancel")


async def test_what_is_said_while_nobody_may_interrupt_is_answered_later(far, call, agent):
    far.answers.extend([[replace(LONG, ms=3000)], [OPEN]])
    async with await call(agent=turns(agent, barge_in="off")) as line:
        await speak(line)
        await line.until(lambda: loud_ms(line) >= 600)
        await speak(line, 1000)
        await line.until(lambda: len(line.heard) == 2)
        assert not any(h.cut for h in line.heard)
        assert heard_whole(line, OPEN)


async def test_who_speaks_on_is_answered_once(far, call):
    """The answer that was asked for isn't wanted any more, and may not even be created yet."""
    far.answers.extend([[Say("Late.", 400, every_ms=5000, sizes=(10, 4000))], [OPEN]])
    slow = far.say

    async def say(step):
        if step.text == "Late.":
            await far.wait(3000)
        await slow(step)

    far.say = say
    async with await call() as line:
        await speak(line)
        await line.until(lambda: far.active)
        await speak(line, 500)
        await line.until(lambda: loud_ms(line) >= OPEN.ms - 40)
        assert heard_whole(line, OPEN)
        assert loud_ms(line) <= OPEN.ms + 40
        assert line.made == 1
    assert len(far.of("response.cancel")) == 1


async def test_a_key_stops_the_answer_and_numbers_are_told_at_once(far, call):
    far.answers.extend([[LONG], [OPEN]])
    async with await call() as line:
        await speak(line)
        await line.until(lambda: loud_ms(line) >= 400)
        await line.press("42#")
        await line.until(lambda: any(not h.cut for h in line.heard))
        assert heard_whole(line, OPEN)
        assert far.told == ["[The caller pressed the keys 42.]"]
        far.answers.append([CLOSED])
        await line.press("7")
        await line.until(lambda: far.told[1:])
        assert far.told[1] == "[The caller pressed the keys 7.]"


async def test_a_silent_caller_is_asked(far, call):
    far.answers.append([OPEN])
    async with await call() as line:
        line.engine.notify(NoInput(1))
        await line.until(lambda: line.heard)
    assert "still there" in far.told[0]


# Tools --------------------------------------------------------------------------------------------


async def test_a_tool_that_he_interrupts_is_told_and_not_answered(far, call):
    far.answers.extend([[LONG, CallTool("hang_up", {})], [OPEN]])
    async with await call() as line:
        await speak(line)
        await line.until(lambda: line.of(ToolCall) and loud_ms(line) >= 400)
        (tool,) = line.of(ToolCall)
        await speak(line, 1000)
        line.engine.notify(ToolResult(tool.id, ok=False, value="interrupted"))
        await line.until(lambda: any(not h.cut for h in line.heard))
        assert heard_whole(line, OPEN)
    assert far.results == [("hang_up", False, {"error": "interrupted"})]


async def test_arguments_that_are_no_object_go_back(far, call):
    async def call_tool(step):
        item = rt.RealtimeConversationItemFunctionCall(
            id="item_f", type="function_call", call_id="call_f", name="hang_up", arguments="[1"
        )
        far.items[item.id] = item
        await far.emit(
            rt.ResponseFunctionCallArgumentsDoneEvent,
            name="hang_up",
            arguments="[1",
            call_id="call_f",
            item_id="item_f",
            response_id=far.active,
            output_index=0,
        )

    far.call_tool = call_tool
    far.answers.extend([[CallTool("hang_up", {})], [OPEN]])
    async with await call() as line:
        await ask(line)
        assert heard_whole(line, OPEN)
        assert not line.of(ToolCall)
    assert far.results[0][1] is False


# Faults -------------------------------------------------------------------------------------------


async def test_an_answer_that_fails_is_asked_for_again(far, call):
    async def fail(step):
        details = {"type": "failed", "error": {"code": "server_error", "message": "Try\nagain."}}
        response = far.response("failed", details)
        far.active = None
        await far.emit(rt.ResponseDoneEvent, response=response)
        await asyncio.Event().wait()

    far.call_tool = fail
    far.answers.extend([[CallTool("x", {})], [OPEN]])
    async with await call() as line:
        await ask(line)
        assert heard_whole(line, OPEN)
        (note,) = [n.text for n in line.of(Note) if n.restarted]
        assert "couldn't answer: Try again." in note
        assert not line.of(Failed)


async def test_a_session_near_its_end_is_renewed_unheard(far, call, monkeypatch):
    monkeypatch.setattr(openai_realtime.OpenAiWire, "lasts_s", 5.0)
    far.answers.extend([[replace(LONG, ms=4500)], [OPEN]])
    async with await call() as line:
        await ask(line)
        assert far.connections == 1  # not while it is answering
        await line.until(lambda: far.connections == 2 and far.open == 1)
        await line.silence(400)
        await ask(line)
        assert heard_whole(line, OPEN)
        assert line.made == 1
        assert not [n for n in line.of(Note) if n.restarted]
    assert far.history == [("caller", far.words), ("agent", LONG.text)]


async def test_the_rest_of_an_answer_is_asked_for(far, call):
    history = [Entry("caller", "When?")]
    resume = Resume(given=("We open", "at"), replying=True, rest="nine.", digits="5")
    far.answers.append([OPEN])
    async with await call(history=history, resume=resume) as line:
        await line.until(lambda: line.heard)
    assert far.told[0] == "When?"
    assert 'heard this of your answer: "We open at"' in far.told[1]
    assert 'with the words "nine."' in far.told[1]


async def test_a_tool_of_before_the_failure_is_told_in_words(far, call):
    before = ToolCall("old:1", "book_table", {})
    done = ToolCall("old:0", "look_up", {})
    resume = Resume(owed=False, tools=((done, ToolResult("old:0", True, "four")), (before, None)))
    far.answers.append([OPEN])
    async with await call(history=[Entry("caller", "Book.")], resume=resume) as line:
        await line.until(lambda: far.told[1:])
        line.engine.notify(ToolResult("old:1", True, "booked"))
        await line.until(lambda: line.heard)
    assert "look_up" in far.told[1]
    assert "four" in far.told[1]
    assert "book_table" in far.told[2]
    assert "booked" in far.told[2]
