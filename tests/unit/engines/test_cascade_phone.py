"""What a cascade does because it is on the telephone: long answers, and talks for the caller."""

from dataclasses import replace

import pytest

from bridge.agent import Agent
from bridge.engines.base import (
    TALK_NOTE,
    Entry,
    ReplyDone,
    Resume,
    State,
    Told,
    ToolCall,
    ToolResult,
)
from bridge.engines.cascade import Cascade, CascadeSettings
from bridge.engines.parts import Do, Said, Say
from tests.unit.engines.line import Line
from tests.unit.engines.parts import FakeBrain, FakeModel, FakeStt, FakeTts

AGENT = Agent("test", max_reply_s=1)
LONG = "One two three. Four five six. Seven eight nine."  # 600 ms each


def line(stt, brain, agent=AGENT, **more):
    settings = CascadeSettings(inter_digit_ms=1000, sentence_gap_ms=100)
    return Line(Cascade(stt, brain, FakeTts(), settings), agent, **more)


async def asked(call):
    """The caller says something, and hears the answer."""
    before = len(call.lines)
    await call.tone(400)
    await call.until(lambda: len(call.lines) > before and call.quiet())
    await call.silence(200)
    return call.lines[before:]


@pytest.mark.parametrize(("most_s", "said"), [(1, 2), (0, 3), (2, 3)])
async def test_a_long_answer_stops_behind_the_sentence_and_asks(most_s, said):
    brain = FakeBrain(story=[Say(LONG)])
    async with line(FakeStt("story"), brain, replace(AGENT, max_reply_s=most_s)) as call:
        heard = await asked(call)
    parts = ["One two three.", "Four five six.", "Seven eight nine."]
    assert heard == (parts if said == 3 else [*parts[:2], AGENT.go_on])


async def test_a_yes_brings_the_rest_with_what_was_to_be_done():
    brain = FakeBrain(story=[Say(LONG), Do("hang_up")])
    async with line(FakeStt("story", "yes"), brain) as call:
        await asked(call)
        assert not call.of(ToolCall)
        assert await asked(call) == ["Seven eight nine."]
        assert [tool.name for tool in call.of(ToolCall)] == ["hang_up"]
    assert [said for said, _, _ in brain.asked] == [Said("words", "story")]


async def test_a_no_is_told_to_the_brain():
    brain = FakeBrain(story=[Say(LONG)], declined=[Say("All right.")])
    async with line(FakeStt("story", "no"), brain) as call:
        await asked(call)
        assert await asked(call) == ["All right."]


async def test_something_else_is_answered_and_the_rest_forgotten():
    brain = FakeBrain(story=[Say(LONG)], hours=[Say("At nine.")])
    async with line(FakeStt("story", "hours", "yes"), brain) as call:
        await asked(call)
        assert await asked(call) == ["At nine."]
        assert await asked(call) == ["You said yes."]


# The same, and the process dies meanwhile ---------------------------------------------------------

TOLD = ("One two three.", "Four five six.", AGENT.go_on)
ASKED = (Entry("caller", "story"), *(Entry("agent", text) for text in TOLD))
DOES = {"story": [Say(LONG), Do("hang_up", {"why": "done"})], "declined": [Say("All right.")]}


async def kept():
    """What the session knows when the caller is asked whether to go on."""
    async with line(FakeStt("story"), FakeBrain(**DOES)) as call:
        assert await asked(call) == list(TOLD)
    return call.of(State)[-1].values


def next_process(state, *texts, history=ASKED, **resume):
    resume.setdefault("owed", False)
    taken = Resume(state=state, **resume)
    return line(FakeStt(*texts), FakeBrain(**DOES), history=history, resume=taken)


@pytest.mark.parametrize(
    ("said", "answer"), [("yes", ["Seven eight nine."]), ("no", ["All right."])]
)
async def test_the_rest_outlives_a_process_that_dies_behind_the_question(said, answer):
    async with next_process(await kept(), said) as call:
        assert await asked(call) == answer
        tools = call.of(ToolCall)
    assert [(tool.name, tool.arguments) for tool in tools] == (
        [("hang_up", {"why": "done"})] if said == "yes" else []
    )
    assert call.of(State)[-1].values == {}, "the next yes is an answer to something else"


@pytest.mark.parametrize("rest", ["", "on?"])
async def test_a_question_that_was_begun_is_only_brought_to_its_end(rest):
    state = await kept()
    begun = {"replying": True, "given": TOLD, "rest": rest}
    async with next_process(state, "yes", history=ASKED[:1], **begun) as call:
        await call.until(lambda: call.of(ReplyDone) and call.quiet())
        assert call.lines == ([rest] if rest else [])
        assert await asked(call) == ["Seven eight nine."]


async def test_the_rest_that_was_being_said_is_gone_on_with():
    history = (*ASKED, Entry("caller", "yes"))
    async with next_process(await kept(), history=history, replying=True, owed=True) as call:
        await call.until(lambda: call.of(ToolCall) and call.quiet())
        assert call.lines == ["Seven eight nine."]


async def test_a_yes_to_the_question_is_no_yes_to_the_brain_later():
    history = (*ASKED, Entry("caller", "yes"), Entry("agent", "Seven eight nine."))
    brain = FakeBrain(**DOES)
    resume = Resume(owed=False)
    async with line(FakeStt("hours"), brain, history=history, resume=resume) as call:
        await asked(call)
    assert [said.text for said, _, _ in brain.asked] == ["story", "hours"]


async def test_a_rest_that_was_cut_short_is_forgotten():
    async with line(FakeStt("story", "yes", "what"), FakeBrain(**DOES)) as call:
        await asked(call)
        await call.tone(400)
        await call.until(lambda: call.playout.playing)
        await call.tone(600)
        assert call.of(State)[-1].values == {}


async def test_a_model_goes_on_by_itself():
    model = FakeModel(story=[Say(LONG)], yes=[Say("Seven eight nine.")])
    async with line(FakeStt("story", "yes"), model) as call:
        assert (await asked(call))[-1] == AGENT.go_on
        assert await asked(call) == ["Seven eight nine."]
    assert [e.text for e in model.asked[-1][-2:]] == [AGENT.go_on, "yes"]


async def test_the_greeting_is_said_whole():
    async with line(FakeStt(), FakeBrain(), replace(AGENT, greeting=LONG)) as call:
        await call.until(lambda: call.quiet() and call.lines)
        await call.silence(200)
    assert len(call.lines) == 3


# Talks for the caller -----------------------------------------------------------------------------


async def test_whom_a_transfer_has_reached_is_told_of_the_caller():
    brain = FakeBrain(human=[Do("transfer", {"extension": "200"})])
    brain.answers["200 hears you."] = [Say("A caller for you."), Do("connect")]
    async with line(FakeStt("human"), brain) as call:
        await call.tone(400)
        await call.until(lambda: call.of(ToolCall))
        [tool] = call.of(ToolCall)
        call.engine.notify(ToolResult(tool.id, True, "200 hears you."))
        await call.until(lambda: call.lines and call.quiet())
        assert call.lines == ["A caller for you."]
        assert call.of(ToolCall)[-1].name == "connect"
    assert brain.asked[-1][0] == Said("answered", "200 hears you.")


async def test_what_he_says_is_no_callers_word():
    notes = {TALK_NOTE: "You talk to 200 now."}
    brain = FakeBrain()
    async with line(FakeStt("hello"), brain, notes=notes) as call:
        await call.tone(400)
        await call.until(lambda: brain.asked)
    assert brain.asked[0][0] == Said("answered", notes[TALK_NOTE], said="hello")


async def test_when_he_has_hung_up_the_caller_is_told():
    brain = FakeBrain(transfer=[Say("It didn't work.")])
    async with line(FakeStt(), brain) as call:
        call.engine.notify(Told("200 is off the line."))
        await call.until(lambda: call.lines)
    assert call.lines == ["It didn't work."]
    assert brain.asked[0][0] == Said("failed", "transfer")
