"""A cascade whose answers a language model gives."""

import pytest

from bridge.agent import Agent, TurnSettings
from bridge.dialog.turns import State, TurnWithdrawn
from bridge.engines.base import (
    CallerText,
    Entry,
    ReplyDone,
    Resume,
    Text,
    Timing,
    ToolCall,
    ToolResult,
)
from bridge.engines.cascade import Cascade, CascadeSettings
from bridge.engines.parts import Began, Do, Say
from bridge.engines.prompt import used
from bridge.engines.talk import GO_ON, SILENT
from tests.unit.engines.line import Line
from tests.unit.engines.parts import FakeModel, FakeStt, FakeTts

LOOK = Do("look", {"day": "Monday"})


def line(stt, model, tts=None, **more):
    settings = CascadeSettings(inter_digit_ms=1000, sentence_gap_ms=100)
    cascade = Cascade(stt, model, tts or FakeTts(), settings)
    return Line(cascade, more.pop("agent", Agent("test")), **more)


async def answered(call, n=1):
    await call.until(lambda: len(call.of(ReplyDone)) == n and call.quiet())


async def test_it_reads_the_conversation_as_it_was_heard():
    model = FakeModel(events=[Say("One two three four five six. Seven eight nine.")])
    async with line(FakeStt("events", "stop"), model, agent=Agent("t", greeting="Hi.")) as call:
        await call.until(lambda: call.heard)
        await call.tone(400)
        await call.until(lambda: call.turns.state is State.SPEAKING)
        await call.silence(500)
        await call.tone(900)
        await call.until(lambda: "You said stop." in call.lines)
    assert model.asked[-1] == [
        Entry("agent", "Hi."),
        Entry("caller", "events"),
        Entry("agent", "One two three"),
        Entry("caller", "stop"),
    ]


async def test_it_begins_before_the_turn_is_committed_and_gives_up_when_that_is_taken_back():
    model, tts = FakeModel(), FakeTts()
    model.answers = {"I would like": [Began(), Say("So you like it. Good.")]}
    async with line(FakeStt("I would like", "I would like to know"), model, tts) as call:
        await call.tone(400)
        await call.silence(300)
        assert tts.asked == [("So you like it.", True)]
        assert not call.of(Text)
        assert model.given_up == 0
        await call.tone(400)
        assert model.given_up == 1
        await answered(call)
    assert call.of(TurnWithdrawn)
    assert call.of(CallerText) == [CallerText("I would like to know", True, 1)]
    assert model.asked[-1] == [Entry("caller", "I would like to know")]


async def test_it_is_given_up_in_the_middle_of_a_word():
    model = FakeModel(**{"I would": [Began(), Say("You would.")]})
    model.gate.clear()
    async with line(FakeStt("I would", "I would not"), model) as call:
        await call.tone(400)
        await call.silence(300)
        assert (len(model.asked), model.given_up) == (1, 0)
        await call.tone(400)
        assert model.given_up == 1
        model.gate.set()
        await answered(call)
    assert call.lines == ["You said I would not."]


async def test_the_first_token_is_told_apart_from_the_first_sentence():
    model = FakeModel(hello=[Began(), Say("Hello.")])
    async with line(FakeStt("hello"), model) as call:
        await call.tone(400)
        await answered(call)
    last = call.of(Timing)[-1]
    assert last.transcript < last.first_token < last.first_audio


async def test_a_tools_result_is_said_in_the_same_reply():
    model = FakeModel(free=[Say("Let me look."), LOOK], **{"look=two": [Say("Two are free.")]})
    async with line(FakeStt("free"), model) as call:
        await call.tone(400)
        await call.until(lambda: call.of(ToolCall) and call.lines == ["Let me look."])
        await call.silence(500)
        assert not call.of(ReplyDone)
        [tool] = call.of(ToolCall)
        call.engine.notify(ToolResult(tool.id, True, "two"))
        await answered(call)
    assert call.lines == ["Let me look.", "Two are free."]
    assert model.asked[-1] == [
        Entry("caller", "free"),
        Entry("agent", "Let me look."),
        used(tool, True, "two"),
    ]


async def test_no_tool_is_called_before_the_turn_stands():
    model = FakeModel(free=[LOOK])
    async with line(FakeStt("free", "free on Sunday"), model) as call:
        await call.tone(400)
        await call.silence(300)
        assert model.asked
        assert not call.of(ToolCall)
        await call.tone(300)
        await answered(call)
    assert not call.of(ToolCall)
    assert call.lines == ["You said free on Sunday."]


async def test_two_tools_are_answered_at_once():
    model = FakeModel(free=[LOOK, Do("count")], **{"count=3": [Say("Three, on Monday.")]})
    async with line(FakeStt("free"), model) as call:
        await call.tone(400)
        await call.until(lambda: len(call.of(ToolCall)) == 2)
        one, two = call.of(ToolCall)
        call.engine.notify(ToolResult(one.id, True, "Monday"))
        await call.silence(100)
        assert len(model.asked) == 1
        call.engine.notify(ToolResult(two.id, True, 3))
        await answered(call)
    assert model.asked[-1][1:] == [used(one, True, "Monday"), used(two, True, 3)]


async def test_it_learns_that_a_tool_failed_and_what_it_did_wrong():
    wrong = Do("look", {}, "its arguments were no JSON object")
    model = FakeModel(
        free=[wrong],
        **{"look=its arguments were no JSON object": [LOOK], "look=broken": [Say("Sorry.")]},
    )
    async with line(FakeStt("free"), model) as call:
        await call.tone(400)
        await call.until(lambda: call.of(ToolCall))
        [tool] = call.of(ToolCall)
        call.engine.notify(ToolResult(tool.id, False, "broken"))
        await answered(call)
    assert call.lines == ["Sorry."]
    assert [e.ok for e in model.asked[-1][1:]] == [False, False]


async def test_a_model_that_never_stops_calling_tools_is_stopped():
    model = FakeModel(free=[LOOK], **{"look=no": [LOOK]})
    async with line(FakeStt("free"), model) as call:
        await call.tone(400)
        for n in range(1, 6):
            await call.until(lambda n=n: len(call.of(ToolCall)) == n)
            call.engine.notify(ToolResult(call.of(ToolCall)[-1].id, True, "no"))
        await answered(call)
    assert len(model.asked) == 5


async def test_an_interruption_ends_the_wait_for_a_tool_and_its_late_result_is_known():
    model = FakeModel(free=[Say("Let me look for you now please."), LOOK])
    async with line(FakeStt("free", "never mind", "thanks"), model) as call:
        await call.tone(400)
        await call.until(lambda: call.of(ToolCall))
        [tool] = call.of(ToolCall)
        await call.tone(900)
        await call.until(lambda: "You said never mind." in call.lines)
        call.engine.notify(ToolResult(tool.id, True, "two"))
        await call.silence(300)
        await call.tone(400)
        await call.until(lambda: "You said thanks." in call.lines)
    assert used(tool, True, "two") in model.asked[-1]


async def test_keys_and_silence_are_told():
    model = FakeModel(**{"42": [Say("Forty-two.")], SILENT: [Say("Hello?")]})
    async with line(FakeStt(), model, agent=Agent("t", greeting="Hi.")) as call:
        await call.until(lambda: call.heard)
        await call.press("42#")
        await answered(call, 2)
        await call.silence(9000)
        await call.until(lambda: "Hello?" in call.lines)
    assert model.asked[-1] == [
        Entry("agent", "Hi."),
        Entry("dtmf", "42"),
        Entry("agent", "Forty-two."),
        Entry("event", SILENT),
    ]


def resumed(model, history, resume, stt=None):
    return line(stt or FakeStt(), model, history=history, resume=resume)


async def test_it_goes_on_with_a_reply_that_another_process_began():
    model = FakeModel(**{GO_ON: [Say("And six on Sunday.")]})
    history = [Entry("caller", "When?"), Entry("agent", "We open at nine.")]
    resume = Resume(given=("We open at nine.", "We close at five."), replying=True, rest="at five.")
    async with resumed(model, history, resume) as call:
        await answered(call)
    assert call.lines == ["at five.", "And six on Sunday."]
    assert model.asked == [
        [
            Entry("caller", "When?"),
            Entry("agent", "We open at nine. We close at five."),
            Entry("event", GO_ON),
        ]
    ]


async def test_it_asks_again_for_a_tool_whose_result_is_not_known():
    model = FakeModel(**{"look=two": [Say("Two are free.")]})
    old = ToolCall("ab:tool-1", "look", {"day": "Monday"})
    history = [Entry("caller", "free"), Entry("agent", "Let me look.")]
    resume = Resume(given=("Let me look.",), replying=True, tools=((old, None),))
    async with resumed(model, history, resume) as call:
        await call.until(lambda: call.of(ToolCall))
        [tool] = call.of(ToolCall)
        assert (tool.name, tool.arguments) == (old.name, old.arguments)
        assert model.asked == []
        call.engine.notify(ToolResult(tool.id, True, "two"))
        await answered(call)
    assert model.asked == [[*history, used(tool, True, "two")]]


async def test_a_result_that_is_known_is_read():
    model = FakeModel(**{"look=two": [Say("Two are free.")]})
    old = ToolCall("ab:tool-1", "look")
    history = [Entry("caller", "free"), Entry("agent", "Let me look.")]
    known = ToolResult(old.id, True, "two")
    resume = Resume(given=("Let me look.",), replying=True, tools=((old, known),))
    async with resumed(model, history, resume) as call:
        await answered(call)
    assert model.asked == [[*history, used(old, True, "two")]]


async def test_a_call_that_is_taken_up_in_silence_asks_nothing():
    model = FakeModel()
    history = [Entry("caller", "When?"), Entry("agent", "At nine.")]
    async with resumed(model, history, Resume()) as call:
        await call.silence(500)
    assert model.asked == []


@pytest.mark.parametrize("said", ["yes", "no, something else"])
async def test_a_caller_who_is_back_is_the_models_to_understand(said):
    model = FakeModel()
    history = [Entry("caller", "When?"), Entry("agent", "At")]
    async with line(FakeStt(said), model, history=history, rejoin="Shall we go on?") as call:
        await call.until(lambda: call.lines == ["Shall we go on?"])
        await call.tone(400)
        await call.until(lambda: len(call.lines) == 2)
    assert model.asked == [
        [*history, Entry("agent", "Shall we go on?"), Entry("caller", said)],
    ]


PAUSED = Agent("t", turns=TurnSettings(eager_silence_ms=400, complete_silence_ms=500))


def early(stt, model, tts=None, begin="pause"):
    settings = CascadeSettings(begin=begin)
    return Line(Cascade(stt, model, tts or FakeTts(), settings), PAUSED)


def glimpsing(*glimpses):
    stt = FakeStt()
    stt.glimpses = list(glimpses)
    return stt


async def test_in_a_pause_behind_a_whole_sentence_it_is_begun():
    model, tts = FakeModel(), FakeTts()
    async with early(glimpsing("where can I park"), model, tts) as call:
        await call.tone(1000)
        await call.silence(120)
        assert model.asked == [[Entry("caller", "where can I park")]]
        await call.silence(260)
        assert not tts.asked  # it may still be a mere pause
        await call.silence(40)
        assert [text for text, _ in tts.asked] == ["You said where can I park."]
        assert not call.of(Text)
        await answered(call)
    assert len(model.asked) == 1
    assert call.of(CallerText)[-1] == CallerText("where can I park", True, 1)


@pytest.mark.parametrize(
    ("begin", "heard"),
    [("eager", "where can I park"), ("end", "where can I park"), ("pause", "and")],
)
async def test_else_it_is_begun_later(begin, heard):
    model = FakeModel()
    async with early(glimpsing(heard), model, begin=begin) as call:
        await call.tone(1000)
        await call.silence(300)
        assert model.asked == []
        await call.silence(120)
        assert len(model.asked) == (0 if begin == "end" else 1)
        await answered(call)
    assert len(model.asked) == 1


async def test_what_lacks_his_last_voice_is_no_guess_for_a_model():
    model = FakeModel()
    stt = glimpsing("where can I park")
    async with early(stt, model) as call:
        await call.tone(860)  # the last glimpse lacks 20 ms of it
        assert glimpsed_until(call) == 840
        stt.gate.clear()
        await call.silence(300)
        assert model.asked == []
        stt.gate.set()
        await call.silence(20)
        assert len(model.asked) == 1
        await answered(call)


def glimpsed_until(call):
    return [event.until_ms for event in call.of(CallerText)][-1]


async def test_what_was_guessed_wrong_is_begun_anew():
    model = FakeModel()
    stt = glimpsing("where can I", "where can I pa", "where can I park today", "where can I park")
    async with early(stt, model) as call:
        await call.tone(1000)
        await call.silence(120)
        await answered(call)
    asked = [history[-1].text for history in model.asked]
    assert asked[-1] == "where can I park"
    assert model.given_up == len(asked) - 1
    assert call.lines == ["You said where can I park."]


async def test_who_goes_on_after_a_pause_is_not_answered_for_its_words():
    model = FakeModel(**{"where can I park": [Began(), Say("Behind the shop.")]})
    model.gate.clear()
    stt = glimpsing("where can I park")
    async with early(stt, model) as call:
        await call.tone(1400)
        await call.silence(120)
        assert (len(model.asked), model.given_up) == (1, 0)
        stt.glimpses = ["where can I park my car"]
        await call.tone(800)
        assert (len(model.asked), model.given_up) == (1, 1)
        model.gate.set()
        await answered(call)
    assert call.lines == ["You said where can I park my car."]


@pytest.mark.parametrize(
    ("first", "second", "answered_is"),
    [
        ("the shop is nice", "the shop is mice", "the shop is nice"),
        ("the shop is nice", "The shop is nice.", "the shop is nice"),
        ("the shop is nice", "where is the shop", "where is the shop"),
        ("", "the shop is nice", "the shop is nice"),
    ],
)
async def test_another_reading_of_the_same_voice_is_answered_only_if_it_is_a_whole_sentence(
    first, second, answered_is
):
    model = FakeModel()
    stt = glimpsing(first)
    async with early(stt, model) as call:
        await call.tone(1000)
        await call.silence(380)
        assert model.asked == []
        stt.glimpses = [second]
        await answered(call)
    asked = [history[-1].text for history in model.asked]
    assert asked == ([first] if first and first != answered_is else []) + [answered_is]
    assert call.of(CallerText)[-1] == CallerText(answered_is, True, 1)
    assert any(text.text == second for text in call.of(CallerText))  # it was read so


async def test_a_model_thinks_as_soon_as_the_voice_has_stopped_and_the_pause_asks_no_more():
    model = FakeModel()
    stt = glimpsing("where can I park")
    async with early(stt, model) as call:
        await call.tone(800)
        await call.silence(60)
        looks = len(stt.glimpsed)
        assert glimpsed_until(call) == 840
        await call.silence(40)
        assert model.asked == [[Entry("caller", "where can I park")]]
        assert len(stt.glimpsed) == looks
        await answered(call)
    assert len(model.asked) == 1


async def test_what_was_begun_in_a_pause_is_given_up_as_soon_as_he_speaks_on():
    model = FakeModel(**{"where can I park": [Began(), Say("Behind the shop.")]})
    model.gate.clear()
    stt = glimpsing("where can I park")
    async with early(stt, model) as call:
        await call.tone(800)
        await call.silence(120)
        assert (len(model.asked), model.given_up) == (1, 0)
        await call.tone(40)
        assert (len(model.asked), model.given_up) == (1, 0)  # it may be a click
        await call.tone(20)
        assert (len(model.asked), model.given_up) == (1, 1)
        model.gate.set()
        await answered(call)
