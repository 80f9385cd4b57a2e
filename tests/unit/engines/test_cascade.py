from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from bridge.agent import Agent, TurnSettings
from bridge.dialog.playout import Heard
from bridge.dialog.turns import State, TurnCommitted, TurnEager, TurnWithdrawn
from bridge.engines.answering import SAY_AGAIN
from bridge.engines.base import (
    CallerText,
    Entry,
    Expect,
    Filler,
    ReplyDone,
    Text,
    Timing,
    ToolCall,
    ToolResult,
)
from bridge.engines.cascade import PRE_ROLL_MS, Cascade, CascadeSettings
from bridge.engines.memory import MAX_HISTORY
from bridge.engines.parts import Do, Said, Say
from bridge.engines.rules import Intent, Lookup, Rules, RulesBrain
from bridge.errors import EngineError
from bridge.tooltables import KnowledgeTool
from tests.unit.engines.line import Line
from tests.unit.engines.parts import FakeBrain, FakeStt, FakeTts

AGENT = Agent("test", greeting="Hello there.")
LONG = "One two three four five six. Seven eight nine ten eleven twelve."


def parts(*texts, **answers):
    return FakeStt(*texts), FakeBrain(**answers), FakeTts()


def line(stt, brain, tts, **more):
    settings = CascadeSettings(inter_digit_ms=1000, sentence_gap_ms=100)
    return Line(Cascade(stt, brain, tts, settings), more.pop("agent", Agent("test")), **more)


async def test_it_greets_and_the_greeting_is_heard():
    async with line(*parts(), agent=AGENT) as call:
        await call.until(lambda: call.heard)
        await call.silence(100)
    assert call.heard == [Heard(1, 400, "Hello there.", False)]
    assert call.turns.state is State.LISTENING


def looker():
    """The rules brain with a fact, and an intent whose tool looks a number up."""
    lookup = Lookup(tool="status", argument="order", found="It {state}.", missing="No {digits}.")
    order = Intent("order", ("where is my order",), "Which?", lookup=lookup)
    return RulesBrain((order,), {"name": "somebody", "day": "Monday"}, Rules(), "test")


async def test_a_greeting_holds_what_the_dialplan_passed():
    agent = Agent("test", greeting="Hello {name}. Until {day} {else}.")
    passed = {"name": "Anna {day}", "other": "x"}
    async with line(FakeStt(), looker(), FakeTts(), agent=agent, variables=passed) as call:
        await call.until(lambda: len(call.heard) == 2)
    assert call.lines == ["Hello Anna {day}.", "Until Monday {else}."]


async def test_what_a_tool_found_is_said_and_what_it_did_not():
    async with line(FakeStt(), looker(), FakeTts()) as call:
        for n, (ok, value, said) in enumerate(
            [(False, "404", "No one, one."), (True, {"state": "is ready"}, "It is ready.")]
        ):
            await call.press("11#")
            await call.until(lambda n=n: len(call.of(ToolCall)) > n)
            tool = call.of(ToolCall)[n]
            assert (tool.name, tool.arguments) == ("status", {"order": "11"})
            call.engine.notify(ToolResult(tool.id, ok, value))
            await call.until(lambda n=n: len(call.heard) > n)
            assert call.lines[-1] == said


async def test_what_nobody_asked_a_tool_for_is_not_said():
    async with line(FakeStt(), looker(), FakeTts()) as call:
        await call.press("11#")
        await call.until(lambda: call.of(ToolCall))
        call.engine.notify(ToolResult("another", True, {"state": "is ready"}))
        await call.silence(500)
        assert call.lines == []


async def test_what_bridges_a_wait_is_given_for_each_tool_that_has_words_of_its_own():
    tools = {
        "docs": KnowledgeTool("knowledge", "Facts.", ".", filler="I'll look."),
        "mute": KnowledgeTool("knowledge", "Facts.", "."),
    }
    stt, brain, tts = parts()
    agent = Agent("test", filler="One moment. Please.", tool=tools)
    async with line(stt, brain, tts, agent=agent) as call:
        await call.until(lambda: len(call.of(Filler)) == 2)
        await call.silence(100)
    assert [clip.tool for clip in call.of(Filler)] == ["", "docs"]
    assert [text for text, _ in tts.asked] == ["One moment.", "Please.", "I'll look."]


async def test_it_does_not_greet_again_on_resume_and_remembers_what_was_said():
    stt, brain, tts = parts("again")
    history = [Entry("agent", "Hello there."), Entry("caller", "one"), Entry("dtmf", "12")]
    async with line(stt, brain, tts, agent=AGENT, history=history) as call:
        await call.silence(500)
        assert call.heard == []
        await call.tone(300)
        await call.until(lambda: call.heard)
    said, memory, before = brain.asked[-1]
    assert said == Said("words", "again")
    assert memory == ["one", "12"]
    assert list(before) == history


async def test_a_turn_is_answered_sentence_by_sentence():
    stt, brain, tts = parts("hours", hours=[Say("We are open. On Sunday we are not.")])
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.until(lambda: len(call.heard) == 2)
    assert call.lines == ["We are open.", "On Sunday we are not."]
    assert call.of(CallerText) == [CallerText("hours", True, 1)]
    assert [h.heard_ms for h in call.heard] == [600, 1000]  # without the gap
    assert tts.asked == [("We are open.", True), ("On Sunday we are not.", False)]
    assert len(call.of(ReplyDone)) == 1


async def test_it_is_ready_when_the_turn_is_committed():
    stt, brain, tts = parts("hours")
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.silence(220)
        assert call.of(TurnEager)
        assert tts.asked == [("You said hours.", True)]
        assert not call.of(Text)
        assert not call.of(CallerText)
        await call.until(lambda: call.of(Text))
    committed = next(at for at, what in call.log if isinstance(what, TurnCommitted))
    assert ("agent audio" in [what for at, what in call.log if at == committed]) is True
    assert len(stt.got) == 1


async def test_it_hears_the_turn_and_a_little_around_it():
    stt, brain, tts = parts("hours")
    async with line(stt, brain, tts) as call:
        await call.silence(1000)
        await call.tone(400)
        await call.until(lambda: call.heard)
    [audio] = stt.got
    assert len(audio) == (PRE_ROLL_MS + 400 + 120) * 16
    assert np.flatnonzero(audio)[0] == PRE_ROLL_MS * 16


async def test_what_was_prepared_is_forgotten_when_the_caller_goes_on():
    stt, brain, tts = parts("I would like", "I would like to know")
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.silence(300)
        await call.tone(400)
        await call.until(lambda: call.heard)
    assert call.of(TurnWithdrawn)
    assert call.of(CallerText) == [CallerText("I would like to know", True, 1)]
    assert call.lines == ["You said I would like to know."]
    assert brain.asked[-1][1] is None  # no memory of what was taken back


async def test_a_committed_turn_that_goes_on_is_answered_once():
    stt, brain, tts = parts("Where can I", "Where can I park", "thanks")
    tts.gate.clear()
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.silence(800)
        assert call.of(CallerText) == [CallerText("Where can I", True, 1)]
        assert call.turns.state is State.THINKING
        await call.tone(300)
        tts.gate.set()
        await call.until(lambda: call.lines)
        assert call.lines == ["You said Where can I park."]
        assert call.of(CallerText)[1:] == [CallerText("Where can I park", True, 1)]
        await call.tone(400)
        await call.until(lambda: len(call.lines) == 2)
    _, memory, history = brain.asked[-1]
    assert memory == ["Where can I park"]
    assert [e.text for e in history] == ["Where can I park", "You said Where can I park."]


async def test_an_interruption_stops_the_reply_and_history_holds_what_was_heard():
    stt, brain, tts = parts("events", "stop", events=[Say(LONG)])
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.until(lambda: call.turns.state is State.SPEAKING)
        await call.silence(500)
        await call.tone(900)
        await call.until(lambda: "You said stop." in call.lines)
    cut = [h for h in call.heard if h.cut]
    assert cut[0].text == "One two three"
    assert "Seven" not in " ".join(call.lines)
    _, _, history = brain.asked[-1]
    assert [e.text for e in history] == ["events", "One two three"]


async def test_a_sentence_that_another_reply_overtakes_ends_where_it_got():
    stt, brain, tts = parts("one", one=[Say("First one. Second one.")])
    tts.late = "Second"
    tts.gate.clear()
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.until(lambda: call.heard and call.turns.state is State.THINKING)
        await call.press("2#")
        await call.until(lambda: len(call.heard) == 3)
    assert [(h.text, h.cut) for h in call.heard] == [
        ("First one.", False),
        ("", True),  # the gap before it was all that came of it
        ("You said 2.", False),
    ]


async def test_an_interrupted_reply_makes_nothing_more():
    stt, brain, tts = parts("one", one=[Say("First one here. Second one. Third one.")])
    tts.late = "Second"
    tts.gate.clear()
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.until(lambda: call.turns.state is State.SPEAKING)
        await call.silence(100)
        await call.press("5")
        tts.gate.set()
        await call.silence(500)
        assert [text for text, _ in tts.asked] == ["First one here.", "Second one."]
        assert not call.of(ReplyDone)


async def test_a_prepared_reply_makes_one_sentence_and_calls_no_tool():
    stt, brain, tts = parts("events", events=[Say("First. Second."), Do("transfer")])
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.silence(500)
        assert [text for text, _ in tts.asked] == ["First."]
        assert not call.of(ToolCall)
        await call.until(lambda: call.of(ToolCall))
    assert [text for text, _ in tts.asked] == ["First.", "Second."]


async def test_a_noise_is_answered_with_nothing():
    async with line(*parts("")) as call:
        await call.tone(200)
        await call.silence(800)
    assert call.of(CallerText) == [CallerText("", True, 1)]
    assert not call.of(Text)
    assert call.turns.state is State.LISTENING


@pytest.mark.parametrize("keys", ["4217#", "4217"])
async def test_keys_make_a_number(keys):
    stt, brain, tts = parts()
    async with line(stt, brain, tts) as call:
        await call.press(keys)
        pressed = call.at_ms
        await call.until(lambda: call.heard)
    assert brain.asked == [(Said("digits", "4217"), None, ())]
    [at] = call.when(Text)
    assert (at < pressed) == ("#" in keys)
    if "#" not in keys:
        assert at == pressed - 200 + 1000  # after the last key


async def test_a_lonely_terminator_is_no_number():
    stt, brain, tts = parts()
    async with line(stt, brain, tts) as call:
        await call.press("#")
        await call.silence(2000)
    assert brain.asked == []


async def test_a_key_cuts_the_agent_short():
    stt, brain, tts = parts("order", order=[Say(LONG)])
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.until(lambda: call.turns.state is State.SPEAKING)
        await call.press("1#")
        await call.until(lambda: "You said 1." in call.lines)
    assert "Seven" not in " ".join(call.lines)


async def test_silence_is_asked_about():
    stt, brain, tts = parts(silence=[Say("Still there?")])
    async with line(stt, brain, tts) as call:
        await call.silence(9000)
    assert brain.asked[0][0] == Said("silence", count=1)
    assert call.lines == ["Still there?"]


@pytest.mark.parametrize(
    ("value", "asked"), [("busy", [Said("failed", "transfer")]), ("interrupted", [])]
)
async def test_a_tool_that_failed_is_told_to_the_brain_unless_the_caller_wanted_it(value, asked):
    stt, brain, tts = parts("human", human=[Say("One moment."), Do("transfer", {"extension": "1"})])
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.until(lambda: call.of(ToolCall))
        await call.until(call.quiet)
        [tool] = call.of(ToolCall)
        assert (tool.name, tool.arguments) == ("transfer", {"extension": "1"})
        for _ in range(2):  # told twice, it counts once
            call.engine.notify(ToolResult(tool.id, False, value))
            await call.silence(500)
    assert [said for said, _, _ in brain.asked[1:]] == asked


async def test_a_part_that_fails_fails_the_call_with_its_reason():
    class BrokenTts(FakeTts):
        async def say(self, text, first):
            raise EngineError("no voice today")
            yield

    stt, brain, _ = parts("hours")
    reached = []
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with line(stt, brain, BrokenTts()) as call:
            await call.tone(400)
            await call.silence(400)
            reached.append("prepared")  # nobody asked for it yet
            await call.silence(400)
    assert reached == ["prepared"]
    [error] = caught.value.exceptions
    assert (type(error), str(error)) == (EngineError, "no voice today")


async def test_a_long_answer_waits_for_room():
    words = " ".join(["word"] * 60) + "."
    stt, brain, tts = parts("long", long=[Say(words)])
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        most = 0
        for _ in range(700):
            await call.silence(20)
            most = max(most, call.playout.waiting_ms)
    assert call.heard[0].heard_ms == 12_000
    assert most <= 2400


async def test_after_close_nothing_more_comes():
    stt, brain, tts = parts("hours")
    tts.gate.clear()
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.silence(800)
        await call.engine.close()
        await call.engine.close()
        tts.gate.set()
        await call.tone(400)
        await call.silence(800)
    assert not call.of(ReplyDone)


def test_parts_of_different_rates_are_refused():
    stt, brain, tts = parts()
    tts.rate = 8000
    with pytest.raises(EngineError, match="16000 Hz and TTS at 8000"):
        Cascade(stt, brain, tts, CascadeSettings())


BACK = "Welcome back. Shall we go on?"
PAST = (Entry("agent", "Hello there."), Entry("caller", "one"), Entry("agent", "You said one."))


async def back(*texts, **answers):
    """A caller who is back, and says these."""
    stt, brain, tts = parts(*texts, **answers)
    call = line(stt, brain, tts, agent=AGENT, history=PAST)
    start = call.engine.start
    call.engine.start = lambda context: start(replace(context, rejoin=BACK))
    async with call:
        await call.until(lambda: call.of(ReplyDone) and call.quiet())
        for n in range(len(texts)):
            await call.tone(300)
            await call.until(lambda n=n: len(call.of(ReplyDone)) == n + 2 and call.quiet())
    return call, brain


async def test_a_caller_who_is_back_and_wants_to_go_on_hears_the_last_again():
    call, brain = await back("yes", "two", **{SAY_AGAIN: [Say("You said one.")]})
    assert call.lines == ["Welcome back.", "Shall we go on?", "You said one.", "You said two."]
    assert brain.asked[-1][1] == ["one", SAY_AGAIN]  # its memory is what it was


async def test_a_caller_who_is_back_and_wants_to_begin_anew_is_greeted():
    call, brain = await back("no", "two")
    assert call.lines == ["Welcome back.", "Shall we go on?", "Hello there.", "You said two."]
    assert brain.asked[-1][1] is None


async def test_a_caller_who_is_back_may_just_talk_on():
    call, brain = await back("two", "yes")
    assert call.lines[2:] == ["You said two.", "You said yes."]
    assert brain.asked[-1][1] == ["one", "two"]


# The caller's words while he speaks ---------------------------------------------------------------


def glimpses(call):
    return [t for t in call.of(CallerText) if not t.final]


async def test_a_pause_brings_the_words_so_far_and_they_settle_the_silence():
    stt, brain, tts = parts(hours=[Say("We are open.")])
    brain.understands = lambda text, memory: 1.0
    agent = Agent("test", turns=TurnSettings(complete_silence_ms=280))
    stt.glimpses = ["what are your hours"]
    async with line(stt, brain, tts, agent=agent) as call:
        await call.tone(400)
        await call.until(lambda: call.heard)
    [commit] = call.when(TurnCommitted)
    assert commit == 400 + 280 - 20  # told with the frame that begins then
    assert glimpses(call)[-1].text == "what are your hours"
    assert stt.got == []  # nothing was transcribed again at the end
    assert [t.text for t in call.of(CallerText) if t.final] == ["what are your hours"]


async def test_it_tells_what_sounds_like_a_hum_whatever_was_made_of_it():
    stt, brain, tts = parts()
    stt.glimpses = ["Utah."]
    t = np.arange(16000 * 420 // 1000) / 16000
    beats = np.interp(
        t, [0, 0.06, 0.13, 0.17, 0.21, 0.25, 0.36, 0.42], [0, 1, 1, 0.1, 0.1, 1, 1, 0]
    )
    vowel = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 12))
    async with line(stt, brain, tts) as call:
        for envelope, hum in ((beats, True), (np.hanning(len(t)), False)):
            told = len(glimpses(call))
            pcm = np.round(envelope * vowel * 4000).astype(np.int16)
            for frame in pcm.reshape(-1, 320):
                await call.step(frame, True)
            await call.until(lambda told=told: len(glimpses(call)) > told + 1)
            assert glimpses(call)[-1].hum is hum
            await call.until(lambda: call.heard)


async def test_a_second_look_with_more_silence_may_read_better_and_is_what_is_answered():
    stt, brain, tts = parts(**{"are you open": [Say("We are open.")]})
    stt.glimpses = ["argue hope", "argue hope", "are you open"]
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.until(lambda: call.heard)
    [commit] = call.when(TurnCommitted)
    assert commit < 400 + AGENT.turns.end_silence_ms - 20
    assert call.lines == ["We are open."]
    assert [t.text for t in call.of(CallerText) if t.final] == ["are you open"]
    assert brain.asked[-1][1] is None  # what had been prepared left nothing behind
    assert stt.got == []


async def test_what_reads_worse_the_second_time_is_not_what_is_answered():
    stt, brain, tts = parts()
    brain.understands = lambda text, memory: {"are you hope": 0.5, "argue hope": 0.1}[text]
    stt.glimpses = ["are you hope", "are you hope", "argue hope"]
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.until(lambda: call.heard)
    assert call.lines == ["You said are you hope."]


async def test_half_a_sentence_is_waited_for():
    stt, brain, tts = parts()
    stt.glimpses = ["I would like to"]
    agent = Agent("test", turns=TurnSettings(incomplete_silence_ms=1000))
    async with line(stt, brain, tts, agent=agent) as call:
        await call.tone(400)
        await call.until(lambda: call.heard)
    assert call.when(TurnCommitted) == [400 + 1000 - 20]


async def test_words_come_while_the_caller_speaks_and_stop_when_he_is_done():
    stt, brain, tts = parts()
    stt.glimpses = ["so"]
    async with line(stt, brain, tts) as call:
        await call.tone(2000)
        told = glimpses(call)
        assert [b.until_ms - a.until_ms for a, b in pairwise(told)] == [300] * (len(told) - 1)
        assert told[0].until_ms <= 260
        assert told[-1].until_ms >= 1700
        await call.until(lambda: call.heard)
        before = len(stt.glimpsed)
        await call.silence(2000)
        assert len(stt.glimpsed) == before


async def test_speech_that_comes_to_nothing_is_not_listened_to_for_ever():
    stt, brain, tts = parts()
    stt.glimpses = [""]
    agent = Agent("test", greeting="One two three four five six seven eight nine ten.")
    async with line(stt, brain, tts, agent=agent) as call:
        await call.silence(200)
        await call.tone(160)  # too short to interrupt
        await call.silence(1800)
        before = len(stt.glimpsed)
        await call.silence(1000)
    assert len(stt.glimpsed) == before
    assert before <= 7


async def test_how_the_answer_came_about_is_told_when_the_turn_stands():
    stt, brain, tts = parts("hours")
    ticks = iter(range(1, 100))
    cascade = Cascade(stt, brain, tts, CascadeSettings(), clock=lambda: float(next(ticks)))
    async with Line(cascade, Agent("test")) as call:
        await call.tone(400)
        await call.silence(400)
        assert call.of(Timing) == []
        await call.until(lambda: call.heard)
    last = call.of(Timing)[-1]
    assert last.turn == 1
    assert last.heard < last.transcript < last.first_token < last.first_audio


async def test_it_says_what_it_expects_once_the_turn_stands():
    stt, brain, tts = parts("order", order=[Say("Which number?"), Expect("number")])
    async with line(stt, brain, tts) as call:
        await call.tone(400)
        await call.silence(400)
        assert call._expected == ""
        await call.until(lambda: call.heard)
    assert call._expected == "number"


async def test_what_was_heard_before_a_turn_is_taken_back_stays_known_however_long_the_call():
    history = [Entry("agent", f"Line {n}.") for n in range(MAX_HISTORY)]
    stt, brain, tts = parts("one", "one two", "three", one=[Say("Yes.")])
    async with line(stt, brain, tts, history=history) as call:
        await call.tone(400)
        await call.silence(300)  # an answer is prepared, and history as it is is remembered
        call.engine.notify(Heard(99, 400, "Said meanwhile.", False))
        await call.tone(400)
        await call.until(lambda: "You said one two." in call.lines)
        await call.tone(400)
        await call.until(lambda: "You said three." in call.lines)
    _, _, known = brain.asked[-1]
    assert "Said meanwhile." in [entry.text for entry in known]
    assert len(known) == MAX_HISTORY
