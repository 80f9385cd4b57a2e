"""Speech to speech, with a wire that only writes down what it is told."""

import asyncio

import numpy as np
import pytest

from bridge.agent import Agent, TurnSettings
from bridge.engines.base import (
    AgentPaused,
    AgentResumed,
    Audio,
    BargeIn,
    CallerText,
    Context,
    Entry,
    Heard,
    Interrupt,
    ReplyDone,
    Resume,
    SpeechStarted,
    State,
    Text,
    Told,
    ToolResult,
    TurnCommitted,
    TurnWithdrawn,
)
from bridge.engines.speech import MAX_DIGITS, SpeechEngine
from bridge.engines.wire import MOST_WAITING, Outbox, SpeechSettings
from bridge.errors import EngineError, EngineLost

FRAME = np.ones(160, np.int16)


class Paper:
    """A wire."""

    lasts_s = 100.0

    def __init__(self, engine):
        self.told, self.past = [], None
        self.over = asyncio.Event()

    def __getattr__(self, name):
        return lambda *args, **more: self.told.append((name, *args, *more.values()))

    async def open(self, past):
        self.past = past

    async def run(self):
        await self.over.wait()

    async def close(self):
        self.told.append(("close",))


class Call:
    """A call with such an engine."""

    def __init__(self, barge_in="auto", turns="engine", interrupts=False, wire=Paper, **context):
        agent = Agent("a", turns=TurnSettings(barge_in=barge_in))
        self.events, self.items, self.wires = [], 0, []
        self._wire, self._context, self._agent = wire, context, agent
        self.engine = SpeechEngine(
            agent, SpeechSettings(), self._make, 8000, turns, interrupts=interrupts
        )

    def _make(self, engine):
        self.wires.append(self._wire(engine))
        return self.wires[-1]

    async def __aenter__(self):
        self.group = asyncio.TaskGroup()
        await self.group.__aenter__()
        context = Context(
            call_id="1",
            agent=self._agent,
            caller_number="100",
            rate=8000,
            emit=self.events.append,
            new_item=self._new_item,
            room=lambda: asyncio.sleep(0),
            tasks=self.group,
            **self._context,
        )
        await self.engine.start(context)
        return self

    async def __aexit__(self, *error):
        await self.engine.close()
        await self.group.__aexit__(*error)

    def _new_item(self):
        self.items += 1
        return self.items

    @property
    def told(self):
        """What the wire was told, audio left out."""
        return [t for t in self.wires[-1].told if t[0] != "hear"]

    def of(self, kind):
        """Events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


async def test_a_cut_is_never_longer_than_what_came():
    async with Call() as call:
        call.engine.replying()
        call.engine.audio("a", np.tile(FRAME, 5))
        call.engine.notify(BargeIn(0, 1000))
        call.engine.notify(Heard(1, 999, "", cut=True))
    assert ("cut", "a", 100, "") in call.told
    assert ("stop",) in call.told


async def test_what_comes_after_a_cut_is_dropped():
    async with Call() as call:
        call.engine.audio("a", FRAME)
        call.engine.notify(BargeIn(0, 1000))
        call.engine.audio("a", FRAME)
        call.engine.text("a", "more")
        call.engine.notify(Heard(1, 20, "", cut=True))
        call.engine.audio("a", FRAME)
        call.engine.audio("b", FRAME)
    assert [a.item for a in call.of(Audio)] == [1, 2]


async def test_an_answer_that_is_due_is_told():
    async with Call() as call:
        call.engine.began()
        call.engine.ended(500)
        assert call.events == [Text(1, "")]
        assert call.told == [("answer",)]
        call.engine.audio("a", FRAME)
        assert call.of(Audio)[0].item == 1
        call.engine.replied()
    assert call.of(ReplyDone)


async def test_who_speaks_on_before_he_is_answered():
    async with Call() as call:
        call.engine.ended(500)
        call.engine.began()
        assert call.told == [("answer",), ("stop",)]
        assert call.of(ReplyDone)  # nothing is owed any more
        assert not call.of(Interrupt)
        call.engine.ended(500)
    assert call.told[:3] == [("answer",), ("stop",), ("answer",)]


@pytest.mark.parametrize("interrupts", [True, False])
async def test_speech_while_the_agent_is_heard(interrupts):
    async with Call(interrupts=interrupts) as call:
        call.engine.audio("a", FRAME)
        call.engine.began()
        assert bool(call.of(Interrupt)) == interrupts
        call.engine.ended(300)
    assert not [t for t in call.told if t[0] == "answer"]
    assert bool(call.of(Text)) == interrupts


async def test_a_turn_whose_verdict_is_open():
    async with Call() as call:
        for verdict in (AgentResumed(0), BargeIn(0, 10)):
            call.engine.audio("a", FRAME)
            call.engine.began()
            call.engine.notify(AgentPaused(0))
            call.engine.ended(300)
            assert not [t for t in call.told if t[0] == "answer"]
            call.engine.notify(verdict)
    assert [t for t in call.told if t[0] == "answer"] == [("answer",)]


async def test_long_speech_that_may_not_interrupt_is_answered_when_the_agent_is_done():
    async with Call(barge_in="off") as call:
        call.engine.audio("a", FRAME)
        call.engine.began()
        call.engine.ended(900)
        assert call.told == []
        call.engine.notify(Heard(1, 20, "", cut=False))
        assert call.told == [("answer",)]


async def test_a_vendor_that_interrupts_is_not_heeded_where_nobody_may():
    async with Call(barge_in="off", interrupts=True) as call:
        call.engine.audio("a", FRAME)
        call.engine.began()
        call.engine.interrupted()
    assert not call.of(Interrupt)


# Where the bridge ends turns ----------------------------------------------------------------------


async def test_only_turns_are_sent_where_the_bridge_ends_them():
    async with Call(turns="bridge") as call:
        for n in range(100):
            call.engine.hear(n * 20, FRAME * n)
        assert call.wires[0].told == []
        call.engine.notify(SpeechStarted(1000))
        call.engine.hear(2000, FRAME)
        call.engine.notify(TurnCommitted(1, 1000, 1900))
        call.engine.hear(2020, FRAME)
        (begin, hear, answer) = call.wires[0].told
        assert begin[0] == "begin"
        assert begin[1][0] == 35  # from 300 ms before he spoke
        assert len(begin[1]) == (2000 - 700) * 8
        assert hear[0] == "hear"
        assert answer == ("answer",)
        call.engine.notify(TurnWithdrawn(1))
        assert call.told[-1] == ("answer",)  # nothing to stop yet


async def test_speech_against_the_agent_is_sent_once_it_interrupts():
    async with Call(turns="bridge") as call:
        call.engine.audio("a", FRAME)
        call.engine.hear(0, FRAME)
        call.engine.notify(SpeechStarted(0))
        assert call.told == []
        call.engine.notify(BargeIn(20, 20))  # a key
        assert call.told == []
        call.engine.notify(BargeIn(0, 20))
        assert [t[0] for t in call.told] == ["begin"]


async def test_speech_that_outlasts_the_agent_is_sent_at_its_end():
    async with Call(turns="bridge") as call:
        call.engine.audio("a", FRAME)
        call.engine.hear(0, FRAME)
        call.engine.notify(SpeechStarted(0))
        call.engine.notify(TurnCommitted(1, 0, 20))
    assert [t[0] for t in call.told][:2] == ["begin", "answer"]


# Words, keys, tools -------------------------------------------------------------------------------


async def test_words_that_come_late_close_what_they_were_answered_by():
    async with Call() as call:
        call.engine.ended(500)
        call.engine.audio("a", FRAME)
        call.engine.replied()
        call.engine.caller_said(" Hello ")
        assert call.events[-2:] == [CallerText("Hello", final=True), ReplyDone()]


async def test_two_utterances_before_an_answer_are_one_line():
    async with Call() as call:
        call.engine.ended(500)
        call.engine.caller_said("Hello.")
        call.engine.caller_said("")
        call.engine.caller_said("Are you there?")
        assert call.of(CallerText)[-1].text == "Hello. Are you there?"
        call.engine.audio("a", FRAME)
        call.engine.caller_said("Yes.")
        assert call.of(CallerText)[-1].text == "Yes."


async def test_a_number_is_told_after_a_silence_and_is_bounded():
    from bridge.engines.base import Digit

    async with Call() as call:
        for _ in range(100):
            call.engine.notify(Digit("1"))
        call.engine.hear(1980, FRAME)
        assert call.told == []
        call.engine.hear(2000, FRAME)
        ((what, text, answer),) = call.told
    assert (what, answer) == ("tell", True)
    assert text.count("1") == MAX_DIGITS


async def test_results_are_answered_when_all_are_there():
    async with Call() as call:
        call.engine.called("c1", "look", {})
        call.engine.called("c2", "book", {"n": 1})
        call.engine.replied()
        assert not call.of(ReplyDone)
        call.engine.notify(ToolResult("c1", True, 4))
        call.engine.notify(ToolResult("c2", False, "full"))
        call.engine.notify(ToolResult("c9", True, 0))
    assert call.told[:2] == [
        ("result", "c1", "look", True, 4, False),
        ("result", "c2", "book", False, "full", True),
    ]


async def test_a_result_waits_for_the_caller_who_speaks():
    async with Call() as call:
        call.engine.called("c1", "look", {})
        call.engine.began()
        call.engine.notify(ToolResult("c1", True, 4))
        call.engine.ended(400)
    assert call.told[:2] == [("result", "c1", "look", True, 4, False), ("answer",)]


# Sessions -----------------------------------------------------------------------------------------


async def test_a_session_is_renewed_where_nobody_speaks():
    async with Call(history=[Entry("caller", "Hi.")]) as call:
        call.engine.remember(handle="x")
        call.engine.began()
        call.engine.hear(95_000, FRAME)
        assert len(call.wires) == 1
        call.engine.ended(400)
        call.engine.audio("a", FRAME)
        call.engine.replied()
        call.engine.hear(95_020, FRAME)
        assert len(call.wires) == 1
        call.engine.notify(Heard(1, 20, "Hello.", cut=False))
        call.engine.hear(95_040, FRAME)
        while len(call.wires) < 2 or ("close",) not in call.wires[0].told:
            await asyncio.sleep(0)
        past = call.wires[1].past
        assert [m.text for m in past.messages[1:]] == ["Hi.", "Hello."]
        assert (past.state, past.lines) == ({"handle": "x", "lines": 1}, 2)
        call.engine.hear(96_000, FRAME)
        assert call.wires[1].told[-1][0] == "hear"
        call.engine.audio("a", FRAME)  # another "a" than the one before
        assert [a.item for a in call.of(Audio)] == [1, 2]
    assert call.of(State) == [State({"handle": "x", "lines": 1})]


async def test_who_speaks_meanwhile_keeps_his_session():
    class Slow(Paper):
        async def open(self, past):
            await super().open(past)
            if len(call.wires) > 1:
                call.engine.began()

    call = Call(wire=Slow)
    async with call:
        call.engine.renew_soon()
        call.engine.hear(1000, FRAME)
        while len(call.wires) < 2 or ("close",) not in call.wires[1].told:
            await asyncio.sleep(0)
        call.engine.hear(1020, FRAME)
        assert call.wires[0].told[-1][0] == "hear"


async def test_no_new_session_is_no_end_of_the_old_one(caplog):
    class Refused(Paper):
        async def open(self, past):
            if len(call.wires) > 1:
                raise EngineError("no room")

    call = Call(wire=Refused)
    async with call:
        call.engine.renew_soon()
        call.engine.hear(1000, FRAME)
        while not caplog.records:
            await asyncio.sleep(0)
        assert "no room" in caplog.text
        call.engine.hear(1020, FRAME)
        assert len(call.wires) == 2  # not at once again
        call.engine.hear(6000, FRAME)
        while len(call.wires) < 3:
            await asyncio.sleep(0)


# What waits to be sent ----------------------------------------------------------------------------


async def test_audio_that_the_vendor_does_not_take_is_bounded(monkeypatch):
    from bridge.engines import wire

    monkeypatch.setattr(wire, "STALL_S", 0.01)
    sent = []

    async def stall(text):
        sent.append(text)
        await asyncio.Event().wait()

    box = Outbox("Vendor", stall)
    for _ in range(MOST_WAITING + 7):
        box.put_audio("audio")
    box.put("event")
    assert box.refused == 7
    with pytest.raises(EngineLost, match="Vendor didn't read"):
        await box.run()
    assert sent == ["audio"]


async def test_an_exchange_while_a_session_opens_is_not_lost():
    class Slow(Paper):
        async def open(self, past):
            await super().open(past)
            if len(call.wires) == 2:
                call.engine.ended(400)
                call.engine.caller_said("When?")
                call.engine.audio("a", FRAME)
                call.engine.replied()
                call.engine.notify(Heard(1, 20, "Now.", cut=False))

    call = Call(wire=Slow)
    async with call:
        call.engine.renew_soon()
        call.engine.hear(1000, FRAME)
        while len(call.wires) < 2 or ("close",) not in call.wires[1].told:
            await asyncio.sleep(0)
        call.engine.hear(7000, FRAME)
        while len(call.wires) < 3 or ("close",) not in call.wires[0].told:
            await asyncio.sleep(0)
    assert [m.text for m in call.wires[2].past.messages[1:]] == ["When?", "Now."]


async def test_items_that_were_never_heard_are_forgotten():
    async with Call() as call:
        for n in range(1000):
            call.engine.text(f"item {n}", "Well")
            call.engine.notify(BargeIn(0, 0))
        assert not call.engine._items.samples
        assert not call.engine._items._heard


async def test_a_result_that_a_dead_process_asked_for_is_told():
    async with Call(resume=Resume(owed=False)) as call:
        call.engine.notify(ToolResult("dead:1", True, "booked"))
        ((what, text, answer),) = call.told
    assert (what, answer) == ("tell", True)
    assert "booked" in text


async def test_it_is_told_how_long_an_answer_may_be():
    async with Call() as call:
        [instructions] = call.wires[-1].past.messages
    assert "30 seconds of speech" in instructions.text


async def test_what_it_did_not_ask_for_is_told_and_answered():
    async with Call() as call:
        call.engine.notify(Told("Ann is off the line."))
        assert call.told == [("tell", "[Ann is off the line.]", True)]
        assert call.of(Text)  # something is due
