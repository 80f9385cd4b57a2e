"""Engines that fail in every way, behind a supervisor, on a line with real turns and playout."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from bridge.agent import Agent, TurnSettings
from bridge.engines import faults
from bridge.engines.base import (
    Audio,
    CallerText,
    Entry,
    Failed,
    Filler,
    ItemDone,
    ReplyDone,
    Resume,
    State,
    Text,
    ToolCall,
    ToolResult,
    TurnCommitted,
)
from bridge.engines.cascade import Cascade, CascadeSettings
from bridge.engines.parts import Do, Say
from bridge.engines.supervisor import Mind, Supervisor, begin
from bridge.errors import EngineError, EngineLost, EngineMissing, EngineRefused
from tests.unit.engines.line import Line
from tests.unit.engines.parts import FakeBrain, FakeStt, FakeTts

LONG = "One two three four five six. Seven eight nine ten eleven twelve."
AGENT = Agent(
    "test",
    engine_silent_s=2.0,
    engine_give_up_s=5.0,
    turns=TurnSettings(no_input_ms=600_000),
)


class Parts:
    """What the engines of a call share, as a worker's do: each new cascade gets the same."""

    def __init__(self, *texts, agent=AGENT, **answers):
        self.stt, self.brain, self.tts = FakeStt(*texts), FakeBrain(**answers), FakeTts()
        self.agent = agent
        self.gap_ms = 100
        self.made = []

    def engine(self):
        settings = CascadeSettings(inter_digit_ms=1000, sentence_gap_ms=self.gap_ms)
        engine = Cascade(self.stt, self.brain, self.tts, settings)
        self.made.append(engine)
        return engine

    async def make(self):
        return self.engine()

    @property
    def mind(self):
        return Mind(self.agent, self.make)


class Call(Line):
    """A line whose engine is supervised; the outage's clock is the audio's."""

    def __init__(self, *minds, first, **more):
        clock = lambda: self.at_ms / 1000  # noqa: E731
        super().__init__(Supervisor(minds, first, first_wait_s=0.0, clock=clock), **more)

    def kill(self, reason="killed"):
        """The engine in use says that it can't go on."""
        self.engine._life._emit(Failed(reason))


def call(parts, *others, **more):
    more.setdefault("agent", parts.agent)
    return Call(parts.mind, *(other.mind for other in others), first=parts.engine(), **more)


async def test_an_engine_that_does_its_work_is_left_alone():
    parts = Parts("hours", hours=[Say(LONG)])
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: len(line.heard) == 2)
        await line.silence(10_000)  # nothing is owed
    assert " ".join(line.lines) == LONG
    assert len(parts.made) == 1


@pytest.mark.parametrize("heard_ms", [100, 900, 1500, 2100])
async def test_an_engine_that_dies_in_mid_sentence(heard_ms):
    agent = replace(AGENT, greeting=LONG)
    parts = Parts(agent=agent)
    async with call(parts) as line:
        await line.silence(heard_ms)
        line.kill()
        await line.until(line.quiet)
    assert len(parts.made) == 2
    words = " ".join(line.lines).split()
    assert words == LONG.split()  # no word twice, none missing


async def test_one_that_dies_twice_in_one_sentence():
    agent = replace(AGENT, greeting=LONG)
    parts = Parts(agent=agent)
    parts.tts.late = "One"
    async with call(parts) as line:
        for sofar in ("One two three four five six.", ""):
            await line.silence(60)
            assert not line.heard, sofar
            line.kill()
        parts.tts.gate.set()
        await line.until(line.quiet)
    assert " ".join(line.lines).split() == LONG.split()


async def test_what_it_had_queued_plays_on_and_the_rest_of_its_sentence_follows():
    agent = replace(AGENT, greeting=LONG)
    parts = Parts(agent=agent)

    async def two_words(text, first):
        for _ in text.split()[:2]:
            yield np.full(3200, 3000, np.int16)
        raise EngineError("the voice is gone")

    whole, parts.tts.say = parts.tts.say, two_words
    async with call(parts) as line:
        parts.tts.say = whole
        await line.until(line.quiet)
    texts = [text.text for text in line.of(Text)]
    assert texts[0] == "One two three four five six."
    assert texts[0].endswith(texts[1])
    assert texts[2] == "Seven eight nine ten eleven twelve."
    assert " ".join(line.lines).split() == LONG.split()
    assert len(parts.made) == 2


async def test_a_turn_whose_words_were_never_known_is_heard_again():
    parts = Parts("hours", hours=[Say("We are open.")])
    parts.stt.gate.clear()  # it hangs without a word
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: len(parts.made) == 2)
        assert line.at_ms > 400 + 600 + 2000
        parts.stt.gate.set()
        await line.until(line.quiet)
    assert line.lines == ["We are open."]
    first, again = parts.stt.got[0], parts.stt.got[-1]
    assert (np.abs(again) > 0).sum() == (np.abs(first) > 0).sum() == 400 * 16
    assert len(line.commits()) == 1


async def test_a_turn_that_is_spoken_while_there_is_no_engine():
    parts = Parts("hours", hours=[Say("We are open.")])
    engines = [None, None, None]

    async def make():
        if engines:
            engines.pop()
            raise EngineError("no connection")
        return parts.engine()

    async with Call(Mind(AGENT, make), first=parts.engine(), agent=AGENT) as line:
        line.kill()
        await line.tone(400)
        await line.until(lambda: line.lines)
    assert line.lines == ["We are open."]
    assert line.of(CallerText) == [CallerText("hours", True, 1)]


async def test_a_turn_that_was_understood_is_not_heard_again():
    parts = Parts("hours", hours=[Say("We are open.")])
    parts.tts.gate.clear()
    parts.tts.late = "We"
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: line.of(CallerText))
        parts.tts.gate.set()
        line.kill()
        await line.until(line.quiet)
    assert len(parts.stt.got) == 1
    assert line.lines == ["We are open."]


async def test_an_interrupted_answer_is_not_given_after_all():
    parts = Parts("hours", hours=[Say(LONG)])
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: line.playout.playing)
        await line.silence(600)
        await line.tone(800)  # barge-in
        line.kill()
        await line.until(lambda: len(parts.made) == 2)
        await line.tone(200)
        await line.until(lambda: len(line.commits()) == 2)
        await line.silence(3000)
    assert [said.text for said, _, _ in parts.brain.asked if said.kind == "words"][:1] == ["hours"]
    assert " ".join(line.lines).count("One") == 1


async def test_what_an_engine_raises_is_its_own_end_only():
    parts = Parts("hours", hours=[Say("We are open.")])
    async with call(parts) as line:

        def broken(*_):
            raise ZeroDivisionError("a bug")

        parts.made[0].hear = broken
        await line.tone(400)
        await line.until(line.quiet)
        await line.until(lambda: line.lines)
    assert line.lines == ["We are open."]
    assert len(parts.made) == 2


async def test_without_a_fallback_it_is_given_up_in_time():
    parts = Parts("hours")
    parts.stt.gate.clear()
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: line.of(Failed))
        assert len(line.of(Failed)) == 1
        assert 2000 + 5000 <= line.at_ms - 1000 <= 2000 + 5000 + 2000 + 500


async def test_a_voice_that_hangs_without_a_sound_is_given_up():
    parts = Parts("hours", hours=[Say(LONG)])
    parts.tts.gate.clear()  # the texts come, and no audio, from every engine
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: line.of(Failed))
        assert line.at_ms - 1000 <= 2000 + 5000 + 2000 + 500
    assert len(parts.made) >= 3
    assert not line.of(ReplyDone)


async def test_the_fallback_goes_on_with_the_conversation():
    parts, other = Parts("hours"), Parts("hours", agent=replace(AGENT, name="other"))
    parts.stt.gate.clear()
    async with call(parts, other) as line:
        await line.tone(400)
        await line.until(lambda: line.lines)
    assert line.lines == ["You said hours."]
    assert not line.of(Failed)
    assert len(parts.made) >= 2
    assert len(other.made) == 1


async def test_an_engine_that_dies_whenever_it_is_asked_is_given_up():
    parts = Parts(*["hours"] * 1000)
    parts.brain.answers["hours"] = None  # iterating over it raises
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: line.of(Failed))
    assert 5000 <= line.at_ms - 600 <= 7000  # it died when it was asked eagerly, at 600


async def test_a_fallback_of_another_rate_and_kind():
    class Service:
        rate, turns = 24000, "engine"

        async def start(self, context):
            self.context, self.heard = context, []
            assert context.rate == 24000
            assert context.agent.name == "other"
            assert context.history == (Entry("agent", "Hello there."),)

        def hear(self, at_ms, pcm):
            self.heard.append(pcm)

        def notify(self, event):
            assert not isinstance(event, TurnCommitted)

        async def close(self):
            pass

    service = Service()

    async def gone():
        raise EngineMissing("gone")

    async def make():
        return service

    parts = Parts(agent=replace(AGENT, greeting="Hello there."))
    other = Mind(replace(AGENT, name="other"), make)
    minds = [Mind(parts.agent, gone), other]
    async with Call(*minds, first=parts.engine(), agent=parts.agent) as line:
        line.turns_by = []
        line.engine._context = replace(line.engine._context, turns_by=line.turns_by.append)
        await line.until(lambda: line.heard)
        line.kill()
        await line.until(lambda: hasattr(service, "context"))
        await line.silence(400)
        assert all(len(pcm) == 480 for pcm in service.heard)
        item = service.context.new_item()
        service.context.emit(Text(item, "Hi."))
        for _ in range(7):
            service.context.emit(Audio(item, np.full(1001, 5000, np.int16)))
        service.context.emit(ItemDone(item))
        service.context.emit(ReplyDone())
        await line.until(lambda: len(line.heard) == 2)
    assert line.turns_by == ["engine"]
    assert line.heard[-1].text == "Hi."
    assert abs(line.heard[-1].heard_ms - 7 * 1001 / 24) < 3


async def test_a_tool_that_fails_after_its_engine_was_lost():
    parts = Parts("human", human=[Say("One moment."), Do("transfer", {"extension": "200"})])
    parts.brain.answers["failed"] = parts.brain.answers["transfer"] = [Say("It is closed.")]
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: line.of(ReplyDone) and line.lines)
        (tool,) = line.of(ToolCall)
        line.kill()
        await line.until(lambda: len(parts.made) == 2)
        line.engine.notify(ToolResult(tool.id, ok=False, value="no"))
        await line.until(lambda: len(line.lines) == 2)
    assert line.lines == ["One moment.", "It is closed."]


async def test_tools_of_two_engines_have_two_names():
    parts = Parts("human", "human", human=[Do("transfer", {"extension": "200"})])
    async with call(parts) as line:
        for n in (1, 2):
            await line.tone(400)
            await line.until(lambda n=n: len(line.of(ToolCall)) == n)
            line.engine.notify(ToolResult(line.of(ToolCall)[-1].id, ok=True, value=None))
            line.kill()
            await line.until(lambda n=n: len(parts.made) == n + 1)
    assert len({tool.id for tool in line.of(ToolCall)}) == 2


async def test_an_engine_gets_its_own_state_back_and_no_other():
    parts = Parts()
    seen = []

    class Keeper(Cascade):
        async def start(self, context):
            seen.append(context.resume)
            context.emit(State({"session": len(seen)}))
            await super().start(context)

    def engine():
        return Keeper(parts.stt, parts.brain, parts.tts, CascadeSettings())

    async def make():
        return engine()

    states = []
    async with Call(Mind(AGENT, make), first=engine(), agent=AGENT) as line:
        emit = line.engine._context.emit
        line.engine._context = replace(
            line.engine._context, emit=lambda e: states.append(e) or emit(e)
        )
        line.kill()
        await line.until(lambda: len(seen) == 2)
    assert seen[0] is None
    assert seen[1].state == {"session": 1}
    assert State({"test": {"session": 2}}) in states


@pytest.mark.parametrize("values", [{"session": object()}, {"at": float("nan")}, None])
async def test_an_engine_whose_state_can_not_be_kept_is_lost_and_not_its_call(values):
    parts = Parts("hours", hours=[Say("We are open.")])

    class Wild(Cascade):
        async def start(self, context):
            context.emit(State(values))
            await super().start(context)

    first = Wild(parts.stt, parts.brain, parts.tts, CascadeSettings())
    states = []
    async with Call(parts.mind, parts.mind, first=first, agent=AGENT) as line:
        await line.tone(400)
        await line.until(lambda: line.lines)
        states += line.of(State)
    assert line.lines == ["We are open."]
    assert not states


# When a call begins ------------------------------------------------------------------------------


async def test_who_answers_a_call_is_the_first_who_can():
    async def broken():
        raise EngineMissing("needs the extra")

    parts = Parts(agent=replace(AGENT, name="other"))
    agent, engine = await begin([Mind(AGENT, broken), parts.mind])
    assert agent.name == "other"
    assert engine.rate == 16000
    with pytest.raises(EngineMissing, match="needs the extra"):
        await begin([Mind(AGENT, broken)])


class Stillborn(Cascade):
    async def start(self, context):
        raise EngineError("no connection")


def stillborn(parts):
    return Stillborn(parts.stt, parts.brain, parts.tts, CascadeSettings())


async def test_an_engine_that_can_not_be_started_is_replaced_at_once():
    parts, other = Parts(), Parts(agent=replace(AGENT, name="other", greeting="Hello there."))
    minds = [parts.mind, other.mind]
    async with Call(*minds, first=stillborn(parts), agent=other.agent) as line:
        await line.until(lambda: line.heard)
    assert line.lines == ["Hello there."]
    assert line.heard[0].heard_ms == 400


async def test_where_nothing_can_be_started_the_call_fails_at_once():
    parts = Parts()
    with pytest.raises(EngineError, match="no connection"):
        await Call(parts.mind, first=stillborn(parts), agent=AGENT).__aenter__()


async def test_a_conversation_that_is_taken_over_waits_for_its_engine():
    parts = Parts(hours=[Say(LONG)])
    history = [Entry("agent", "Hello."), Entry("caller", "hours")]
    first = stillborn(parts)
    line = Call(parts.mind, first=first, agent=AGENT, history=history)
    start, resume = (
        line.engine.start,
        Resume(given=("One two three four five six.",), replying=True),
    )
    line.engine.start = lambda context: start(replace(context, resume=resume))
    async with line:
        await line.until(lambda: line.heard)
    assert line.lines == ["Seven eight nine ten eleven twelve."]


async def test_one_that_dies_slowly_whenever_it_is_asked_is_given_up():
    parts = Parts("hours", agent=replace(AGENT, engine_silent_s=4.0, engine_give_up_s=3.0))
    parts.tts.gate.clear()  # so each life is longer than the limit of the outage
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: line.of(Failed))
    assert len(parts.made) == 2


async def test_a_filler_comes_at_the_calls_rate_and_is_no_sign_of_life():
    parts = Parts("hours", agent=replace(AGENT, filler="One moment."))
    parts.stt.gate.clear()
    whole = parts.tts.say

    async def late(text, first):
        await reached.wait()
        async for pcm in whole(text, first):
            yield pcm

    parts.tts.say, reached = late, asyncio.Event()
    line = call(parts)
    line.rate, line.frame = 8000, 160
    async with line:
        await line.tone(400)
        await line.until(lambda: line.at_ms > 2500)
        reached.set()
        await line.until(lambda: len(parts.made) > 1)
        assert line.at_ms <= 400 + 720 + 2000 + 500
    assert {len(filler.pcm) for filler in line.of(Filler)} == {2 * 1600}


async def test_a_pause_between_sentences_is_no_sign_of_life_and_holds_no_words():
    parts = Parts("hours", hours=[Say(LONG)])
    whole = parts.tts.say
    gone = True

    async def say(text, first):
        if gone and not text.startswith("One"):
            until = line.at_ms + 400
            while line.at_ms < until:
                await asyncio.sleep(0)
            raise EngineError("there is no voice")
        async for pcm in whole(text, first):
            yield pcm

    parts.tts.say, parts.gap_ms = say, 900
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: len(parts.made) == 4)
        gone = False
        await line.until(line.quiet)
    assert " ".join(line.lines).split() == LONG.split()
    parts = Parts("hours", hours=[Say(LONG)])
    parts.tts.say, gone = say, True
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: line.of(Failed))


# What is counted, and how frames are gathered ----------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EngineMissing("no key"), "missing"),
        (EngineRefused("a wrong key"), "refused"),
        (EngineLost("no connection"), "lost"),
        (EngineError("something"), "failed"),
    ],
)
async def test_why_engines_are_lost_is_counted(error, kind):
    async def broken():
        raise error

    before = faults.count.copy()
    parts = Parts(agent=replace(AGENT, name="other"))
    await begin([Mind(replace(AGENT, engine="theirs"), broken), parts.mind])
    assert faults.count - before == {("theirs", kind): 1}


async def test_a_hung_engine_is_counted_as_silent():
    before = faults.count.copy()
    parts = Parts("hours", agent=replace(AGENT, engine="mine"))
    parts.stt.gate.clear()
    async with call(parts) as line:
        await line.tone(400)
        await line.until(lambda: len(parts.made) == 2)
    assert faults.count - before == {("mine", "silent"): 1}


async def test_frames_are_gathered_for_who_prefers_larger_ones_and_none_is_missing_at_a_turns_end():
    class Slow:
        rate, turns, uplink_chunk_ms = 8000, "bridge", 100

        async def start(self, context):
            self.context, self.heard = context, []

        def hear(self, at_ms, pcm):
            self.heard.append((at_ms, len(pcm)))

        def notify(self, event):
            if isinstance(event, TurnCommitted):
                self.until_ms = self.heard[-1][0] + self.heard[-1][1] // 8
                self.end_ms = event.end_ms
                self.context.emit(ReplyDone())

        async def close(self):
            pass

    engine = Slow()
    async with Call(Mind(AGENT, None), first=engine, agent=AGENT) as line:
        await line.tone(460)
        await line.until(line.commits)
        assert engine.until_ms >= engine.end_ms
        await line.silence(1000)
    sizes = {size for _, size in engine.heard}
    assert 800 in sizes
    assert max(sizes) == 800
    at = [at_ms for at_ms, _ in engine.heard]
    assert at == [0, *np.cumsum([size // 8 for _, size in engine.heard])[:-1].tolist()]
