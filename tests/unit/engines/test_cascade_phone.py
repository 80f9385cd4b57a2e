"""What a cascade does because it is on the telephone: long answers, and talks for the caller."""

from dataclasses import replace

import pytest

from bridge.agent import Agent
from bridge.engines.base import TALK_NOTE, Told, ToolCall, ToolResult
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
