"""A call's wiring, with parts that do what they are told: what goes where, and how a call ends."""

import asyncio
import gc
import json
import logging
import random
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from bridge import toolbox
from bridge.agent import Agent, TransferSettings, TurnSettings
from bridge.call import Call, Outcome
from bridge.dialog.flow import Flow
from bridge.dialog.turns import (
    AgentPaused,
    AgentResumed,
    BargeIn,
    NoInput,
    SpeechStarted,
    TurnCommitted,
    TurnPausing,
    Turns,
)
from bridge.engines import base as engines
from bridge.errors import ConfigError, EngineMissing, MediaFull, PbxGone, PbxRefused
from bridge.media.base import Left, Up
from bridge.mouth import ROOM_MS
from bridge.orders import Orders
from bridge.pbx.base import Dtmf, Hold, HungUp, Incoming, MediaLost
from bridge.recall import Memory
from bridge.sessions.model import Line, Record
from bridge.sessions.progress import Item, Progress
from bridge.transfertable import Destination

RATE = 8000
FRAME = RATE // 50


class Leg:
    """A PBX's side that writes down what it is told, and fails where it is told to."""

    def __init__(self, fail=None):
        self.incoming = Incoming("c1", ("demo",), "0123", "", "700", "en", "PCMU")
        self.events = asyncio.Queue()
        self.did = []
        self._fail = fail or {}
        self.variables = {}
        self.callee = ""
        self.answers = asyncio.Event()
        self.answers.set()

    def _step(self, name, *details):
        self.did.append((name, *details))
        if name in self._fail:
            raise self._fail[name]

    async def answer(self):
        self._step("answer")

    async def open_media(self, to, codec):
        self._step("open_media", to, codec)
        return ("127.0.0.1", 9000)

    async def join(self):
        self._step("join")

    async def transfer(self, extension, context):
        self._step("transfer", extension, context)

    async def ring(self, callee, noted):
        self.callee = "ringing"
        self._step("ring", callee.to, callee.context)
        await noted()
        await self.answers.wait()
        self.callee = "answered"
        await noted()

    async def talk(self):
        self._step("talk")

    async def connect(self):
        self._step("connect")

    async def take_back(self):
        self._step("take_back")
        self.callee = ""

    async def outcome(self, variables):
        self.variables |= variables

    async def leave(self, variables):
        self._step("leave", dict(variables))

    async def hang_up(self):
        self._step("hang_up")

    async def release(self):
        self._step("release")

    async def get_variable(self, name):
        self._step("get_variable", name)
        return self.variables.get(name)

    async def set_variable(self, name, value):
        self._step("set_variable", name, value)
        self.variables[name] = value

    async def send_dtmf(self, digits):
        self._step("send_dtmf", digits)

    async def statistics(self):
        self._step("statistics")
        return {}

    handles = {"bridge_id": "b", "media_id": "m"}  # noqa: RUF012

    def names(self):
        return [name for name, *_ in self.did]


class Slot:
    """Plays a frame a delivery; room for half a second."""

    index = 0
    rate = RATE
    numbers = (1, 2, 3)
    left = ()
    recorded = None

    def __init__(self):
        self.on_frames = None
        self.queue = []  # one item number a sample
        self.counts, self.told = {}, {}
        self.cleared = True
        self.paused = self.tripped = self.echo = self.armed = False
        self.at_ms = 0
        self.closed = False
        self.resting = None, 0, False
        self.straight, self.straight_to_ms, self.straight_ms = None, 0, 0
        self.straight_most_ms, self.flowed_ms = 0, 0
        self.flow = Flow(self.pour)
        self.decided = []
        self.verdicts = False  # somebody who hears all calls may say something else any time

    def play(self, item, pcm):
        taken = min(len(pcm), RATE // 2 - len(self.queue))
        self.queue += [item] * taken
        return taken

    @property
    def room(self):
        return RATE // 2 - len(self.queue)

    def pour(self, flows, pcm):
        assert flows == [self.flow]
        assert len(self.queue) + pcm.size <= RATE // 2
        self.queue += [self.flow.item] * pcm.size
        to_ms = self.straight_to_ms + pcm.size * 1000 / RATE
        self.straight_to_ms = max(self.straight_to_ms, min(to_ms, self.straight_most_ms))
        self.flowed_ms = self.straight_ms

    def done(self, item):
        pass

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False

    def tune(self, sensitivity):
        self.sensitivity = sensitivity

    def arm(self, on):
        self.armed = on

    def deal(self):
        self.tripped = False

    def is_echo(self):
        return self.echo

    def clear(self):
        self.queue.clear()
        self.cleared = False
        self.paused = False

    def rest(self, hear, until_ms, speech, straight=None, straight_ms=0, most_ms=0):
        self.resting = hear, until_ms, speech
        self.straight, self.straight_to_ms, self.straight_most_ms = straight, straight_ms, most_ms

    def straight_on(self, straight_ms, most_ms):
        if self.straight is not None:
            self.straight_to_ms, self.straight_most_ms = straight_ms, most_ms

    def spoken(self, from_ms, to_ms):
        return self.decided[from_ms // 20 : to_ms // 20]

    lost = 0

    def stats(self):
        return {"mos": 4.2}

    def heard_items(self):
        told = {i: n for i, n in self.counts.items() if n != self.told.get(i)}
        self.told = dict(self.counts)
        return told

    async def close(self):
        self.closed = True

    def deliver(self, speech, frames=1):
        for _ in range(frames):
            self.cleared = True
            if not self.paused:
                for item in self.queue[:FRAME]:
                    self.counts[item] = self.counts.get(item, 0) + 1
                del self.queue[:FRAME]
            pcm = np.full(FRAME, 1000 if speech else 0, np.int16)
            hear, until_ms, same = self.resting
            self.decided.append(bool(speech))
            rests = self.at_ms + 20 <= until_ms and same in (bool(speech), None)
            if rests and not (self.tripped or self.verdicts):
                self.pass_on(hear, pcm)
            else:
                self.on_frames(Up(self.at_ms, pcm, (bool(speech),), (False,)))
            self.at_ms += 20

    def pass_on(self, hear, pcm):
        if self.straight is not None and self.at_ms + 20 <= self.straight_to_ms:
            take_many, name = self.straight
            if not take_many([name], [self.at_ms], pcm[None]):
                self.straight_ms = self.at_ms + 20
                return
        hear(self.at_ms, pcm)


class Media:
    address = ("127.0.0.1", 4000)
    place = "here"

    def __init__(self):
        self.slot, self.full = Slot(), False

    def check_room(self, call_id):
        assert call_id == "c1"
        if self.full:
            raise MediaFull("all 2 slots are taken")

    async def attach(self, call_id, rate, since_ms, answered_ms):
        self.answered_ms = answered_ms
        return self.slot

    async def open(self, call_id, remote, codec, rate, *, late, after=None):
        self.late = late
        assert (call_id, remote, codec, rate) == ("c1", ("127.0.0.1", 9000), "PCMU", RATE)
        return self.slot


class Engine:
    rate = RATE
    turns = "bridge"

    def __init__(self):
        self.told, self.heard_ms, self.closed, self.context = [], 0, False, None

    async def start(self, context):
        self.context = context

    def hear(self, at_ms, pcm):
        assert at_ms == self.heard_ms
        self.heard_ms += len(pcm) * 1000 // RATE

    def notify(self, event):
        self.told.append(event)

    async def close(self):
        self.closed = True

    def say(self, text, ms):
        item = self.context.new_item()
        self.context.emit(engines.Text(item, text))
        self.context.emit(engines.Audio(item, np.ones(ms * RATE // 1000, np.int16)))
        self.context.emit(engines.ItemDone(item))
        self.context.emit(engines.ReplyDone())
        return item


class Store:
    def __init__(self):
        self.record, self.lines = {}, []
        self.quick, self.waiting = True, []

    def begin(self, call_id):
        self.record.clear()

    def put(self, call_id, **fields):
        self.record |= fields

    def say(self, call_id, line):
        self.lines.append((line.role, line.text))

    async def written(self, call_id, timeout_s):
        return True

    owned = True

    def owns(self, call_id):
        return self.owned

    keys = ""

    async def passed_keys(self, call_id):
        keys, self.keys = self.keys, ""
        return keys

    def when_written(self, call_id, then):
        if self.quick:
            then()
        else:
            self.waiting.append(then)


class Talk:
    """A call with all its parts, in conversation."""

    def __init__(self, fail=None, mind=None, memory=None, keys="", ears=None):
        self.leg, self.media, self.store, self.engine = Leg(fail), Media(), Store(), Engine()
        self.store.keys = keys
        self.slot = self.media.slot
        self.slot.verdicts = ears is not None
        self.agent = Agent(
            "demo",
            turns=TurnSettings(no_input_ms=60_000),
            transfer=TransferSettings(extensions=("200",)),
        )

        async def ours(name):
            if mind is not None:
                raise mind
            assert name == "demo"
            return self.agent, self.engine

        self.call = Call(
            self.leg, self.media, self.store, ours, worker="w", memory=memory, ears=ears
        )
        self.task = asyncio.create_task(self.call.run())

    async def __aenter__(self):
        while self.slot.on_frames is None and not self.task.done():
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_):
        if not self.task.done():
            self.leg.events.put_nowait(HungUp("16"))
        await self.end()

    async def settle(self):
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self):
        outcome = await asyncio.wait_for(self.task, 5)
        assert self.leg.names()[-1] == "release"
        assert self.store.record["state"] == "ended"
        assert self.store.record["result"] == outcome.result
        return outcome


async def test_set_up_and_a_caller_who_hangs_up():
    async with Talk() as talk:
        assert talk.leg.names() == ["open_media", "answer", "join"]
        assert talk.store.record["state"] == "talking"
        talk.leg.events.put_nowait(HungUp("16"))
        assert await talk.end() == Outcome("hung-up", "16", gone=True)
        assert talk.slot.closed
        assert talk.engine.closed
        assert "leave" not in talk.leg.names()


@pytest.mark.parametrize(
    ("how", "records"),
    [("hangup", 1), ("lost", 1), ("cancelled", 1), ("moved", 0), ("taken", 0), ("another's", 0)],
)
async def test_a_call_has_one_record_in_the_log(caplog, how, records):
    async with Talk() as talk:
        talk.store.owned = how != "another's"
        if how == "cancelled":
            await talk.call.cancel("moved")  # whatever reason somebody gives
        else:
            talk.leg.events.put_nowait(HungUp(how))
        with caplog.at_level(logging.INFO):
            await talk.end()
    assert sum(line.startswith("call record ") for line in caplog.messages) == records


@pytest.mark.parametrize("order", ["say", "mute", "transfer", "listen"])
@pytest.mark.parametrize("taken", [False, True])
async def test_who_is_not_ready_yet_is_told_nothing(order, taken):
    memory = Memory(Record("c1", agent="demo", state="talking"), []) if taken else None
    talk = Talk(memory=memory)
    begin, start = asyncio.Event(), talk.engine.start

    async def late(context):
        await begin.wait()
        await start(context)

    talk.engine.start = late
    orders = Orders({"c1": talk.call}, {}, None, None, None)
    what = {"text": "Hello.", "on": True, "to": "200", "host": "127.0.0.1", "port": 9}
    await talk.settle()
    answer = await orders.carry_out(order, "c1", what)
    assert answer["error"] == ("not-ready" if taken else "refused"), "the desk asks again"
    assert talk.engine.told == []
    begin.set()
    async with talk:
        assert "error" not in await orders.carry_out("mute", "c1", what)


@pytest.mark.parametrize("step", ["open_media", "answer", "join"])
async def test_a_caller_who_hangs_up_during_set_up(step):
    async with Talk(fail={step: PbxGone("gone")}) as talk:
        assert (await talk.end()).result == "hung-up"
        assert "leave" not in talk.leg.names()


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (ConfigError("no agent 'demo'"), "unknown-agent"),
        (EngineMissing("needs the extra"), "failed"),
        (RuntimeError("a bug"), "failed"),
    ],
)
async def test_what_can_not_be_served_goes_on_in_the_dialplan(fault, result):
    async with Talk(mind=fault) as talk:
        assert (await talk.end()).result == result
        variables = {"ARI_BRIDGE_RESULT": result, "ARI_BRIDGE_REASON": str(fault)}
        variables |= {"ARI_BRIDGE_INTENT": "", "ARI_BRIDGE_SUMMARY": ""}
        assert talk.leg.did == [("leave", variables), ("release",)]


async def test_whom_there_is_no_slot_for_the_pbx_is_asked_for_nothing():
    talk = Talk()
    talk.media.full = True
    async with talk:
        assert (await talk.end()).result == "failed"
        assert [name for name, *_ in talk.leg.did] == ["leave", "release"]


async def test_a_caller_who_is_gone_by_the_time_we_give_him_back():
    async with Talk(mind=ConfigError("x"), fail={"leave": PbxGone("gone")}) as talk:
        assert (await talk.end()).result == "unknown-agent"


async def test_a_turn_is_told_to_the_engine_and_written_when_it_is_answered():
    async with Talk() as talk:
        talk.slot.deliver(True, 40)
        talk.slot.deliver(False, 40)
        kinds = [type(event) for event in talk.engine.told]
        assert kinds[0] is SpeechStarted
        assert kinds[-1] is TurnCommitted
        talk.engine.context.emit(engines.CallerText("hello", final=True, turn=1))
        assert talk.store.lines == []  # it may still be withdrawn
        talk.engine.say("good morning", 100)
        assert talk.store.lines == [("caller", "hello")]
        talk.slot.deliver(False, 6)
        assert talk.store.lines[1:] == [("agent", "good morning")]


async def test_it_is_written_when_he_said_it_unless_the_words_are_those_of_another_turn():
    async with Talk() as talk:
        lines = []
        talk.store.say = lambda call_id, line: lines.append(line)
        talk.engine.context.emit(engines.CallerText("early", final=True))
        talk.engine.context.emit(engines.ReplyDone())
        talk.slot.deliver(True, 40)
        talk.slot.deliver(False, 40)
        talk.engine.context.emit(engines.CallerText("hello", final=True, turn=1))
        talk.engine.context.emit(engines.ReplyDone())
        talk.slot.deliver(False, 600)
        talk.engine.context.emit(engines.CallerText("late", final=True))
        talk.engine.context.emit(engines.ReplyDone())
        early, hello, late = (line for line in lines if line.role == "caller")
        assert (early.begin, late.begin) == (0, 0)
        assert 0.7 < hello.end - hello.begin < 0.9
        assert 0.7 < hello.at - hello.end < 0.9


async def test_barge_in_drops_the_rest_and_tells_what_was_heard():
    async with Talk() as talk:
        item = talk.engine.say("one two three four five six seven eight", 4000)
        talk.slot.deliver(False, 50)
        talk.slot.deliver(True, 45)
        told = {type(event): event for event in talk.engine.told}
        assert BargeIn in told
        heard = told[engines.Heard]
        assert (heard.item, heard.cut) == (item, True)
        assert 1000 <= heard.heard_ms <= 1140, "he was silent while it was in doubt"
        assert ("event", "barge-in") in talk.store.lines
        # More of what was interrupted is not played, a new item is.
        talk.engine.context.emit(engines.Audio(item, np.ones(800, np.int16)))
        assert talk.slot.queue == []
        talk.slot.deliver(False, 36)  # he has finished, and no filler is due yet
        fresh = talk.engine.say("yes?", 100)
        assert set(talk.slot.queue) == {fresh}


async def test_what_changes_nothing_is_audio_for_the_engine_and_nothing_else(
    monkeypatch,
):
    told = []

    def frame(turns, at_ms, speech, near=True):
        told.append(at_ms)
        return own(turns, at_ms, speech, near)

    own = Turns.frame
    monkeypatch.setattr(Turns, "frame", frame)
    async with Talk() as talk:
        talk.slot.deliver(False, 100)
        talk.slot.deliver(True, 100)
        talk.slot.deliver(False, 60)
        committed = [e for e in talk.engine.told if isinstance(e, TurnCommitted)]
        assert committed == [TurnCommitted(1, 2000, 4000)]
        assert talk.engine.heard_ms == 5200
        assert len([at for at in told if at < 4000]) < 20
        told.clear()
        talk.slot.deliver(False, 10)
        talk.slot.at_ms += 20  # a frame that the agent wants dropped
        talk.engine.heard_ms += 20
        talk.slot.deliver(False)
        assert told[-1] == talk.slot.at_ms - 20


async def test_what_was_heard_of_a_stream_is_asked_for_when_it_matters(monkeypatch):
    async with Talk() as talk:
        asked = []
        own = talk.slot.heard_items
        monkeypatch.setattr(talk.slot, "heard_items", lambda: asked.append(1) or own())
        item = talk.engine.context.new_item()
        for _ in range(50):  # as it speaks, a frame at a time
            talk.engine.context.emit(engines.Audio(item, np.ones(FRAME, np.int16)))
            talk.slot.deliver(False)
        assert 1 <= len(asked) <= 5, "who notes how far the call has got asks by himself"
        talk.engine.context.emit(engines.Audio(item, np.ones(5 * FRAME, np.int16)))
        talk.engine.context.emit(engines.Mark("m"))
        talk.slot.deliver(False, 4)
        assert engines.Marked("m", heard=True) not in talk.engine.told
        talk.slot.deliver(False, 2)
        assert engines.Marked("m", heard=True) in talk.engine.told
        talk.engine.context.emit(engines.Audio(item, np.ones(5 * FRAME, np.int16)))
        talk.engine.context.emit(engines.ItemDone(item))
        talk.slot.deliver(False, 6)
        assert talk.engine.told[-1] == engines.Heard(item, 60 * 20, "", cut=False)


async def test_more_audio_than_the_ring_takes_is_fed_as_it_plays():
    async with Talk() as talk:
        item = talk.engine.say("x", 3000)
        talk.slot.deliver(False, 150)
        assert talk.slot.counts == {item: 3 * RATE}
        assert talk.engine.told[-1] == engines.Heard(item, 3000, "x", cut=False)


async def test_nothing_is_played_of_which_nobody_knows_what_it_says():
    async with Talk() as talk:
        talk.store.quick = False
        item = talk.engine.say("one", 40)
        assert "one" in talk.store.record["progress"]
        talk.slot.deliver(False, 3)
        assert talk.slot.counts == {}
        talk.engine.say("two", 40)
        for then in talk.store.waiting:
            then()
        talk.slot.deliver(False, 5)
        assert talk.slot.counts == {item: 320, item + 1: 320}
        talk.store.waiting.clear()
        talk.engine.say("three", 40)
        talk.engine.context.emit(engines.Interrupt())
        talk.slot.deliver(False)
        talk.store.waiting.pop()()
        talk.slot.deliver(False, 5)
        assert set(talk.slot.counts) == {item, item + 1}


async def test_an_engine_that_interrupts_itself_owes_nothing():
    async with Talk() as talk:
        talk.engine.context.emit(engines.Text(talk.engine.context.new_item(), "one"))
        assert Progress.from_text(talk.store.record["progress"]).replying
        talk.engine.context.emit(engines.Interrupt())
        assert not Progress.from_text(talk.store.record["progress"]).replying


async def test_an_engine_that_asks_for_room_is_held_back():
    async with Talk() as talk:
        talk.engine.say("x", ROOM_MS + 100)
        waiting = asyncio.ensure_future(talk.engine.context.room())
        await talk.settle()
        assert not waiting.done()
        talk.slot.deliver(False, 10)
        await talk.settle()
        assert waiting.done()


async def test_transfer_waits_until_the_announcement_was_heard():
    async with Talk() as talk:
        talk.engine.say("I connect you", 200)
        talk.engine.context.emit(engines.ToolCall("t", "transfer", {"extension": "200"}))
        talk.slot.deliver(False, 9)
        await talk.settle()
        assert "ring" not in talk.leg.names()
        talk.slot.deliver(False, 2)
        assert await talk.end() == Outcome("transferred", "200", gone=True)
        assert ("ring", "200", "from-ari-bridge") in talk.leg.did
        assert "connect" in talk.leg.names()


async def test_a_barge_in_cancels_a_tool_that_waits():
    async with Talk() as talk:
        talk.engine.say("I connect you", 2000)
        talk.engine.context.emit(engines.ToolCall("t", "transfer", {"extension": "200"}))
        talk.slot.deliver(True, 45)
        await talk.settle()
        assert engines.ToolResult("t", ok=False, value="interrupted") in talk.engine.told
        assert "ring" not in talk.leg.names()


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("transfer", {"extension": "666"}, "not in the agent's [transfer]"),
        ("transfer", {}, "not in the agent's [transfer]"),
        ("dance", {}, "there is no tool 'dance'"),
    ],
)
async def test_a_tool_that_may_not_be(name, arguments, says):
    async with Talk() as talk:
        talk.engine.context.emit(engines.ToolCall("t", name, arguments))
        await talk.settle()
        result = talk.engine.told[-1]
        assert (result.id, result.ok) == ("t", False)
        assert says in result.value
        assert not talk.task.done()


async def test_a_refused_transfer_is_told_and_the_call_goes_on():
    async with Talk(fail={"ring": PbxRefused("busy")}) as talk:
        talk.engine.context.emit(engines.ToolCall("t", "transfer", {"to": "200"}))
        await talk.settle()
        assert talk.engine.told[-1] == engines.ToolResult("t", ok=False, value="200: busy")
        assert "take_back" in talk.leg.names()
        assert not talk.task.done()


async def test_hang_up():
    async with Talk() as talk:
        talk.engine.context.emit(engines.ToolCall("t", "hang_up"))
        assert (await talk.end()).result == "done"
        assert "hang_up" in talk.leg.names()


async def test_an_engine_that_leaves_gives_the_caller_back_once_all_was_heard():
    async with Talk() as talk:
        talk.engine.say("goodbye", 200)
        talk.engine.context.emit(engines.ToolCall("t", "leave"))
        await talk.settle()
        assert "leave" not in talk.leg.names(), "it is still being said"
        talk.slot.deliver(False, 20)
        assert (await talk.end()).result == "done"
        assert "leave" in talk.leg.names()
        assert "hang_up" not in talk.leg.names()


async def test_an_engine_gets_what_the_dialplan_passed_by_name():
    incoming = replace(Leg().incoming, args=("demo", "order=42=17", "loud", " vip=yes"))
    assert incoming.variables == {"order": "42=17", "vip": "yes"}


async def test_a_digit_cuts_the_agent_and_reaches_the_engine():
    async with Talk() as talk:
        talk.engine.say("please enter your number", 2000)
        talk.slot.deliver(False, 5)
        talk.leg.events.put_nowait(Dtmf("4", 100))
        await talk.settle()
        assert [type(e) for e in talk.engine.told] == [BargeIn, engines.Digit]
        assert talk.slot.queue == []
        assert ("dtmf", "4") in talk.store.lines


async def test_keys_are_in_no_line_of_the_log(caplog):
    caplog.set_level(logging.DEBUG)
    memory = Memory(Record("1.1", agent="demo", state="talking"), [])
    async with Talk(memory=memory, keys="##") as talk:  # a key that nothing else is written with
        talk.leg.events.put_nowait(Dtmf("#", 100))
        await talk.settle()
        assert talk.store.lines.count(("dtmf", "#")) == 3
        talk.engine.say("please enter your number", 2000)
    assert "call record" in caplog.text
    assert "#" not in caplog.text


async def test_keys_that_were_pressed_between_two_owners_reach_the_engine():
    memory = Memory(Record("1.1", agent="demo", state="talking"), [])
    async with Talk(memory=memory, keys="42") as talk:
        await talk.settle()
        digits = [e.digit for e in talk.engine.told if isinstance(e, engines.Digit)]
        assert digits == ["4", "2"]
        assert ("dtmf", "2") in talk.store.lines


async def test_a_process_that_dies_before_it_has_written_what_was_heard_leaves_that_to_its_heir():
    async with Talk() as dying:
        item = dying.engine.say("one two three four five six seven eight", 4000)
        dying.slot.deliver(False, 100)
        dying.leg.events.put_nowait(Dtmf("4", 100))
        await dying.settle()
        assert dying.store.lines == [("dtmf", "4"), ("event", "barge-in")]
        record = Record(
            "c1", agent="demo", state="talking", progress=dying.store.record["progress"]
        )
    lines = [Line(9.0, role, text) for role, text in dying.store.lines[:2]]
    heir = Talk(memory=Memory(record, lines))
    heir.slot.left = (Left(item, 4 * RATE, True, 2 * RATE, True),)
    async with heir:
        role, text = heir.store.lines[0]
        assert (role, text) == ("agent", "one two three four")
        assert heir.engine.context.history == (
            engines.Entry("dtmf", "4"),
            engines.Entry("agent", "one two three four"),
        )
        assert heir.engine.context.resume.digits == "4"
        assert heir.slot.queue == []
        assert Progress.from_text(heir.store.record["progress"]).items == (), "it is told"


@pytest.mark.parametrize("speaking", [True, False])
async def test_a_tool_that_is_asked_for_by_another_key_is_another_call(monkeypatch, speaking):
    runs = []

    async def count(call):
        runs.append(call.key)
        return len(runs)

    monkeypatch.setattr(toolbox, "_load", {"count": count}.__getitem__)
    talk = Talk()
    talk.agent = replace(talk.agent, tools=("count",))
    async with talk:
        for key in "55":
            talk.leg.events.put_nowait(Dtmf(key, 100))
            await talk.settle()
            talk.slot.deliver(False)
            talk.engine.context.emit(engines.ToolCall(f"t{len(runs)}", "count"))
            await talk.settle()
            talk.engine.say("one two three four", 1000)
            talk.slot.deliver(False, 5 if speaking else 60)
        progress = Progress.from_text(talk.store.record["progress"])
    assert len(set(runs)) == 2
    results = [e.value for e in talk.engine.told if isinstance(e, engines.ToolResult)]
    assert results == [1, 2]
    assert list(progress.asked.values()) == [1], "what came before the present reply"


async def test_what_the_agent_has_noted_is_known_to_its_heir():
    agent = {"tools": ("remember",)}
    talk = Talk()
    talk.agent = replace(talk.agent, **agent)
    async with talk:
        noted = {"name": "order", "value": "4711"}
        talk.engine.context.emit(engines.ToolCall("t", "remember", noted))
        await talk.settle()
        assert talk.engine.context.notes == {"order": "4711"}
        record = Record("c1", agent="demo", state="talking", progress=talk.store.record["progress"])
    heir = Talk(memory=Memory(record, []))
    heir.agent = replace(heir.agent, **agent)
    async with heir:
        assert heir.engine.context.notes == {"order": "4711"}
        noted["value"] = ""
        heir.engine.context.emit(engines.ToolCall("t", "remember", noted))
        await heir.settle()
        assert Progress.from_text(heir.store.record["progress"]).notes == {}


async def test_what_an_engine_asks_for_after_it_heard_an_interruption_is_new(monkeypatch):
    runs = []

    async def count(call):
        runs.append(call.key)

    monkeypatch.setattr(toolbox, "_load", {"count": count}.__getitem__)
    talk = Talk()
    talk.agent = replace(talk.agent, tools=("count",))
    talk.engine.turns = "engine"
    async with talk:
        for _ in range(2):
            talk.engine.context.emit(engines.Interrupt())
            talk.slot.deliver(False)
            talk.engine.context.emit(engines.ToolCall("t", "count"))
            await talk.settle()
    assert len(set(runs)) == 2


@pytest.mark.parametrize("how", ["key", "end", "none"])
async def test_what_was_heard_before_the_host_died_is_told_whatever_comes_first(how):
    noted = Item(3, "one two three four", RATE, RATE, done=True)
    record = Record("c1", agent="demo", state="talking", progress=Progress((noted,), 3).to_text())
    heir = Talk(memory=Memory(replace(record, place="elsewhere"), []))
    async with heir:
        if how == "key":
            heir.leg.events.put_nowait(Dtmf("4", 100))
            await heir.settle()
        elif how == "end":
            heir.leg.events.put_nowait(HungUp("hangup"))
            await heir.end()
        if how != "end":
            heir.slot.deliver(False, 2)
        assert heir.store.lines.count(("agent", "one two three four")) == 1


async def test_the_end_of_an_answered_turn_is_not_heard_again():
    """It would make a turn of its own, whose reply overtakes the owed one."""
    async with Talk() as talk:
        talk.slot.deliver(True, 40)
        talk.slot.deliver(False, 40)
        answered_ms = Progress.from_text(talk.store.record["progress"]).answered_ms
        assert 800 < answered_ms < 1600
        record = Record("c1", agent="demo", state="talking", progress=talk.store.record["progress"])
    heir = Talk(memory=Memory(record, []))
    async with heir:
        assert heir.media.answered_ms == answered_ms
        heir.leg.events.put_nowait(Dtmf("4", 100))
        await heir.settle()
        again = Progress.from_text(heir.store.record["progress"]).answered_ms
        assert again == answered_ms, "the next heir is told as well"
    elsewhere = Talk(memory=Memory(replace(record, place="elsewhere"), []))
    async with elsewhere:
        elsewhere.leg.events.put_nowait(Dtmf("4", 100))
        await elsewhere.settle()
        anew = Progress.from_text(elsewhere.store.record["progress"]).answered_ms
        assert anew == -1, "a new slot's audio time begins anew"


@pytest.mark.parametrize(("place", "asked"), [("here", 0), ("elsewhere", 1)])
async def test_whose_question_died_with_its_host_is_asked_at_once(place, asked):
    """On the same host he is heard again instead."""
    noted = Progress(since_ms=1000, unanswered=True, replying=True)
    record = Record("c1", agent="demo", state="talking", place=place, progress=noted.to_text())
    heir = Talk(memory=Memory(record, []))
    async with heir:
        assert [type(e) for e in heir.engine.told].count(NoInput) == asked
        assert not heir.engine.context.resume.owed, "nothing else is said"


async def test_the_callers_words_are_a_line_or_unsettled_and_never_both():
    async with Talk() as talk:
        talk.slot.deliver(True, 40)
        talk.slot.deliver(False, 40)
        talk.engine.context.emit(engines.CallerText("hello", final=True, turn=1))
        assert Progress.from_text(talk.store.record["progress"]).caller == "hello"
        item = talk.engine.context.new_item()
        talk.engine.context.emit(engines.Audio(item, np.ones(800, np.int16)))
        assert talk.store.lines == [("caller", "hello")]
        assert Progress.from_text(talk.store.record["progress"]).caller == ""


async def test_what_can_not_be_noted_ends_its_call_and_no_other():
    """The worker notes all its calls in one go."""
    async with Talk() as talk:
        talk.engine.say("x", 1000)
        with pytest.raises(TypeError):
            talk.engine.context.emit(engines.State({"handle": object()}))
        talk.engine.context.new_item()
        talk.call.note()
        assert (await talk.end()).result == "failed"


async def test_hold_pauses_the_agent():
    async with Talk() as talk:
        talk.engine.say("x", 1000)
        talk.leg.events.put_nowait(Hold(True))
        await talk.settle()
        assert talk.slot.paused
        talk.leg.events.put_nowait(Hold(False))
        await talk.settle()
        assert not talk.slot.paused


@pytest.mark.parametrize("end", ["media", "engine", "shutdown"])
async def test_the_dialplan_goes_on_when_we_can_not(end):
    async with Talk() as talk:
        if end == "media":
            talk.leg.events.put_nowait(MediaLost())
        elif end == "engine":
            talk.engine.context.emit(engines.Failed("the model is gone"))
        else:
            talk.call.end(Outcome("shutdown"))
        outcome = await talk.end()
        assert outcome.result == ("shutdown" if end == "shutdown" else "failed")
        assert talk.leg.names()[-2:] == ["leave", "release"]


async def test_a_task_of_the_engine_that_breaks_ends_the_call():
    async with Talk() as talk:

        async def broken():
            raise RuntimeError("a bug")

        talk.engine.context.tasks.create_task(broken())
        outcome = await talk.end()
        assert outcome == Outcome("failed", "a bug")
        assert "leave" in talk.leg.names()


async def test_the_longest_call():
    talk = Talk()
    talk.agent = Agent("demo", max_call_s=0)
    async with talk:
        assert (await talk.end()).result == "done"
        assert "leave" in talk.leg.names()


async def test_an_engine_that_breaks_while_it_hears_ends_the_call_once(caplog):
    async with Talk() as talk:

        def broken(at_ms, pcm):
            raise RuntimeError("a bug")

        talk.engine.hear = broken
        talk.slot.deliver(False, 5)
        outcome = await talk.end()
        assert outcome == Outcome("failed", "a bug")
        assert "leave" in talk.leg.names()
        assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize(("name", "result"), [("hang_up", "done"), ("transfer", "transferred")])
async def test_what_we_asked_for_may_be_told_before_the_answer_comes(name, result):
    async with Talk() as talk:

        async def slowly(*_):
            talk.leg.events.put_nowait(HungUp("left"))
            await asyncio.sleep(60)

        setattr(talk.leg, {"transfer": "connect"}.get(name, name), slowly)
        talk.engine.context.emit(engines.ToolCall("t", name, {"extension": "200"}))
        assert (await talk.end()).result == result


async def test_on_hold_the_engine_hears_nothing():
    async with Talk() as talk:
        talk.slot.deliver(False, 2)
        talk.leg.events.put_nowait(Hold(True))
        await talk.settle()
        talk.slot.deliver(False, 5)
        assert talk.engine.heard_ms == 40


async def test_a_sentence_that_the_end_cuts_off_is_told_as_far_as_it_was_heard():
    async with Talk() as talk:
        talk.engine.say("one two three four five six seven eight", 4000)
        talk.slot.deliver(False, 100)
        talk.leg.events.put_nowait(HungUp("hangup"))
        await talk.end()
        [(role, text)] = talk.store.lines
        assert role == "agent"
        assert text
        assert "one two three four five six seven eight".startswith(text)
        assert len(text) < 30


async def test_lost_packets_are_treated_as_the_agent_says_and_quality_is_kept():
    talk = Talk()
    talk.agent = Agent("demo", late_packets="silence")
    async with talk:
        assert talk.media.late == "silence"
        talk.leg.events.put_nowait(HungUp("hangup"))
        await talk.end()
        assert talk.store.record["audio"] == '{"mos": 4.2}'


# Voices in the background ---


class Ears:
    """The worker's, with the one ear of the call."""

    voice = near = True

    def __init__(self):
        self.turns = self.enoughs = self.opened = 0

    def open(self, rate, sensitivity, *, hurries=True):
        self.opened += 1
        return self

    def hear(self, pcm, fired):
        pass

    def his_own(self):
        self.turns += 1

    def enough(self):
        self.enoughs += 1

    def close(self):
        pass


@pytest.mark.parametrize(
    ("barge_in", "autonomous", "enough"),
    [("off", True, 1), ("auto", True, 0), ("off", False, 0)],
)
async def test_a_bot_that_hears_for_itself_needs_no_more_than_the_voices_begin(
    barge_in, autonomous, enough
):
    ears = Ears()
    talk = Talk(ears=ears)
    talk.engine.turns, talk.engine.autonomous = "engine", autonomous
    talk.agent = replace(talk.agent, turns=replace(talk.agent.turns, barge_in=barge_in))
    async with talk:
        talk.slot.deliver(True, 2)
        assert ears.enoughs == 0
        talk.slot.deliver(True, 40)
        assert ears.enoughs == enough


@pytest.mark.parametrize(
    ("barge_in", "autonomous", "told", "opened"),
    [("off", True, False, 0), ("off", True, True, 1), ("auto", True, False, 1)],
)
async def test_where_nothing_hangs_on_a_voice_nobody_listens_for_one(
    barge_in, autonomous, told, opened
):
    ears, talk = Ears(), Talk()
    talk.call._ears = ears
    talk.engine.turns, talk.engine.autonomous = "engine", autonomous
    talk.engine.told_of_speech = told
    talk.agent = replace(talk.agent, turns=replace(talk.agent.turns, barge_in=barge_in))
    async with talk:
        talk.slot.deliver(True, 20)
        talk.slot.deliver(False, 100)
        assert ears.opened == opened
        talk.engine.autonomous = False
        talk.engine.context.turns_by("bridge")
        assert ears.opened == 1, "another engine stands in"
        talk.slot.deliver(True, 20)
        assert ears.opened == 1


@pytest.mark.parametrize("owner", ["bridge", "engine"])
async def test_what_the_caller_says_alone_tells_how_loud_he_is(owner):
    ears = Ears()
    talk = Talk(ears=ears)
    talk.engine.turns = owner
    async with talk:
        talk.slot.deliver(True, 20)
        talk.slot.deliver(False, 100)
        assert ears.turns == 1
        talk.engine.say("one two three four five six seven eight", 4000)
        ears.near = False
        talk.slot.deliver(True, 30)
        talk.slot.deliver(False, 100)
        assert ears.turns == 1, "somebody in the background"
        ears.near = True
        talk.slot.deliver(True, 60)
        talk.slot.deliver(False, 100)
        assert ears.turns == 2, "an interruption is his"


async def test_the_silence_behind_a_cough_makes_no_certain_voice_of_it():
    """Recognisers make words of coughs; what nobody is certain of doesn't interrupt."""
    ears = Ears()
    talk = Talk(ears=ears)
    async with talk:
        talk.engine.say("one two three four five six seven eight", 4000)
        talk.slot.deliver(False, 50)
        talk.slot.tripped, ears.near = True, None
        talk.slot.deliver(True, 12)
        talk.slot.deliver(False, 5)
        talk.engine.context.emit(engines.CallerText("stop", final=False, until_ms=talk.slot.at_ms))
        talk.slot.deliver(False, 60)
        told = [type(event) for event in talk.engine.told]
        assert AgentPaused in told
        assert BargeIn not in told


# A barge-in that is taken back -------------------------------------------------------------------


async def test_what_is_no_interruption_makes_the_agent_wait_and_go_on():
    async with Talk() as talk:
        item = talk.engine.say("one two three four five six seven eight", 4000)
        talk.slot.deliver(False, 50)
        assert talk.slot.armed
        talk.slot.deliver(True, 2)
        talk.slot.paused = talk.slot.tripped = True  # media's reflex
        talk.slot.deliver(True, 10)
        assert talk.slot.paused
        assert not talk.slot.tripped
        assert not talk.slot.armed
        talk.slot.deliver(False, 5)
        partial = engines.CallerText("uh-huh", final=False, until_ms=talk.slot.at_ms)
        talk.engine.context.emit(partial)
        assert talk.slot.paused, "he may go on"
        talk.slot.deliver(False, 5)
        assert not talk.slot.paused
        talk.slot.deliver(False, 200)
        kinds = [type(event) for event in talk.engine.told]
        assert kinds.count(AgentPaused) == kinds.count(AgentResumed) == 1
        assert BargeIn not in kinds
        assert talk.engine.told[-1] == engines.Heard(
            item, 4000, "one two three four five six seven eight", cut=False
        )
        assert talk.store.lines == [("agent", "one two three four five six seven eight")]


async def test_a_word_that_counts_drops_the_rest():
    async with Talk() as talk:
        talk.engine.say("one two three four five six seven eight", 4000)
        talk.slot.deliver(False, 50)
        talk.slot.tripped = True
        talk.slot.deliver(True, 12)
        talk.slot.deliver(False, 5)
        talk.engine.context.emit(engines.CallerText("stop", final=False, until_ms=talk.slot.at_ms))
        assert BargeIn in [type(event) for event in talk.engine.told]
        assert talk.slot.queue == []
        talk.slot.deliver(False, 60)
        assert TurnCommitted in [type(event) for event in talk.engine.told]


async def test_the_agents_own_echo_does_not_hold_it_up():
    async with Talk() as talk:
        talk.engine.say("x", 1000)
        talk.slot.deliver(False, 5)
        talk.slot.tripped = talk.slot.echo = True
        talk.slot.deliver(True, 1)
        assert not talk.slot.paused
        assert not talk.slot.tripped


async def test_a_hold_that_comes_into_a_pause_holds():
    async with Talk() as talk:
        talk.engine.say("x", 1000)
        talk.slot.deliver(False, 5)
        talk.slot.tripped = True
        talk.slot.deliver(True, 5)
        talk.leg.events.put_nowait(Hold(True))
        await talk.settle()
        assert talk.slot.paused
        assert not talk.slot.armed
        assert '"held":true' in talk.store.record["progress"]
        talk.leg.events.put_nowait(Hold(False))
        await talk.settle()
        assert not talk.slot.paused


@pytest.mark.parametrize("mode", ["goodbye", "dialplan"])
async def test_a_caller_who_says_nothing_at_all(mode):
    talk = Talk()
    talk.agent = Agent("demo", turns=TurnSettings(no_input_ms=1000, after_no_input=mode))
    async with talk:
        for count in (1, 2):
            talk.slot.deliver(False, 50)
            assert talk.engine.told[-1] == NoInput(count)
            talk.engine.say("still there?", 100)
            talk.slot.deliver(False, 10)
        talk.slot.deliver(False, 50)
        if mode == "goodbye":
            assert NoInput(3, last=True) in talk.engine.told
            talk.engine.say("goodbye", 100)
            await talk.settle()
            assert "hang_up" not in talk.leg.names(), "it is still being said"
            talk.slot.deliver(False, 10)
        outcome = await talk.end()
        assert outcome.result == ("done" if mode == "goodbye" else "no-input")
        assert ("hang_up" in talk.leg.names()) == (mode == "goodbye")


async def talk_to_ann(talk):
    """The agent has rung somebody for the caller, and talks to him."""
    talk.engine.context.emit(engines.ToolCall("t", "transfer", {"to": "ann"}))
    await talk.settle()
    assert talk.leg.names()[-2:] == ["ring", "talk"]


def with_ann(mode="goodbye"):
    talk = Talk()
    talk.engine.speaks = True
    talk.agent = Agent(
        "demo",
        turns=TurnSettings(no_input_ms=1000, no_input_prompts=1, after_no_input=mode),
        transfer=TransferSettings(to={"ann": Destination("201", "attended")}),
    )
    return talk


@pytest.mark.parametrize("mode", ["goodbye", "dialplan"])
async def test_whom_it_rang_says_nothing_at_all_and_the_caller_is_taken_back(mode):
    async with with_ann(mode) as talk:
        talk.slot.deliver(False, 51)
        assert talk.engine.told[-1] == NoInput(1), "the caller was silent before"
        await talk_to_ann(talk)
        for told in (NoInput(1), NoInput(2, last=True)):
            talk.slot.deliver(False, 51)
            assert told in talk.engine.told
        await talk.settle()
        assert talk.leg.names()[-1] == "take_back"
        talk.engine.say("I couldn't reach her", 100)
        talk.slot.deliver(False, 10)
        await talk.settle()
        assert "hang_up" not in talk.leg.names(), "it isn't he who has said nothing"
        assert not talk.task.done()
        talk.engine.told.clear()
        talk.slot.deliver(False, 51)
        assert talk.engine.told[-1] == NoInput(1)


@pytest.mark.parametrize("rings", [False, True])
async def test_a_pbx_that_doesnt_answer_a_transfer_for_the_api_ends_no_call(rings):
    talk = Talk(fail={"transfer": TimeoutError(), "connect": TimeoutError()})
    to = {"box": Destination("300@vm", "dialplan"), "ann": Destination("201", "blind")}
    talk.agent = Agent("demo", transfer=TransferSettings(to=to))
    async with talk:
        with pytest.raises(PbxRefused, match="the PBX did not answer"):
            await talk.call.transfer("ann" if rings else "box")
        await talk.settle()
        assert not talk.task.done()


async def test_nobody_is_told_to_say_something_to_whom_it_rang():
    async with with_ann() as talk:
        await talk_to_ann(talk)
        with pytest.raises(ConfigError, match="the agent talks to ann now"):
            talk.call.talk.say("Your line is about to be cut.")


async def test_nobody_is_told_to_say_something_while_it_rings():
    async with with_ann() as talk:
        talk.leg.answers.clear()
        talk.engine.context.emit(engines.ToolCall("t", "transfer", {"to": "ann"}))
        await talk.settle()
        with pytest.raises(ConfigError, match="he is being put through"):
            talk.call.talk.say("Hello.")


async def test_an_engine_that_has_no_goodbye_is_not_waited_for():
    talk = Talk()
    talk.agent = Agent("demo", turns=TurnSettings(no_input_ms=1000, no_input_prompts=0))
    async with talk:
        talk.slot.deliver(False, 101)
        assert (await talk.end()).result == "done"


# Greeting, fillers, marks ------------------------------------------------------------------------


async def test_the_greeting_is_there_before_the_caller_is():
    talk = Talk()
    talk.agent = Agent("demo", greeting="hello")
    answered, there = talk.leg.answer, []

    async def greet(context):
        talk.engine.context = context
        talk.engine.say("hello", 100)

    async def answer():
        there.append((len(talk.slot.queue), talk.slot.paused))
        await answered()

    talk.engine.start, talk.leg.answer = greet, answer
    async with talk:
        assert there == [(RATE // 10, True)]
        assert not talk.slot.paused
        talk.slot.deliver(False, 6)
        assert talk.store.lines == [("agent", "hello")]


async def test_an_engine_that_can_not_begin_leaves_the_call_unanswered():
    talk = Talk()

    async def broken(context):
        raise EngineMissing("no model")

    talk.engine.start = broken
    async with talk:
        assert (await talk.end()).result == "failed"
        assert "answer" not in talk.leg.names()


async def test_the_wait_for_a_tool_is_bridged_by_its_own_words(monkeypatch):
    go_on = asyncio.Event()

    async def slow(call):
        await go_on.wait()

    monkeypatch.setattr(toolbox, "_load", {"slow": slow}.__getitem__)
    talk = Talk()
    talk.agent = Agent("demo", tools=("slow",), turns=TurnSettings(filler_after_ms=500))
    async with talk:
        talk.engine.context.emit(engines.Filler(np.ones(RATE // 4, np.int16), "slow"))
        talk.engine.context.emit(engines.Filler(np.ones(RATE // 2, np.int16)))
        talk.engine.context.emit(engines.ToolCall("t", "slow"))
        await talk.settle()
        talk.slot.deliver(False, 100)
        assert list(talk.slot.counts.values()) == [RATE // 4]
        go_on.set()


async def test_a_long_wait_is_bridged_and_nobody_counts_that_as_said():
    talk = Talk()
    talk.agent = Agent("demo", turns=TurnSettings(filler_after_ms=500, no_input_ms=60_000))
    async with talk:
        clip = np.ones(RATE // 10, np.int16)
        talk.engine.context.emit(engines.Filler(clip))
        talk.slot.deliver(True, 20)
        talk.slot.deliver(False, 40)
        assert TurnCommitted in [type(event) for event in talk.engine.told]
        talk.slot.deliver(False, 40)
        [soft] = talk.slot.counts
        talk.slot.deliver(False, 100)
        assert len(talk.slot.counts) == 1, "not again at once"
        talk.slot.deliver(False, 50)
        _, filler = talk.slot.counts
        assert talk.slot.counts == {soft: RATE * 36 // 100, filler: len(clip)}
        item = talk.engine.say("there it is", 200)
        talk.slot.deliver(False, 20)
        assert talk.slot.counts[item] == RATE // 5
        assert talk.store.lines == [("agent", "there it is")]
        assert [e.item for e in talk.engine.told if isinstance(e, engines.Heard)] == [item]
        talk.slot.deliver(False, 500)
        assert len(talk.slot.counts) == 3, "nothing is owed any more"


async def test_real_audio_cuts_a_filler_off():
    talk = Talk()
    talk.agent = Agent("demo", turns=TurnSettings(filler_after_ms=100, no_input_ms=60_000))
    async with talk:
        talk.engine.context.emit(engines.Filler(np.ones(RATE // 4, np.int16)))
        talk.slot.deliver(True, 20)
        while not talk.slot.queue:
            talk.slot.deliver(False)
        item = talk.engine.say("yes", 100)
        assert talk.slot.queue == []
        talk.slot.deliver(False)
        assert set(talk.slot.queue) == {item}


async def test_marks_come_back():
    async with Talk() as talk:
        emit = talk.engine.context.emit
        talk.engine.say("one", 100)
        emit(engines.Mark("first"))
        talk.engine.say("two three four five", 2000)
        emit(engines.Mark("second"))
        talk.slot.deliver(False, 6)
        assert engines.Marked("first", True) in talk.engine.told
        talk.slot.deliver(True, 60)
        told = talk.engine.told
        assert engines.Marked("second", False) in told


async def test_where_a_turns_time_went_is_kept():
    async with Talk() as talk:
        talk.slot.deliver(True, 40)
        talk.slot.deliver(False, 40)
        talk.engine.say("good morning", 1000)
        talk.slot.deliver(False, 6)
        talk.slot.deliver(True, 40)
        talk.slot.deliver(False, 60)
        talk.leg.events.put_nowait(HungUp("hangup"))
        await talk.end()
        turn, cut = json.loads(talk.store.record["latency"])
        assert turn["turn"] == 1
        assert {"last_voice", "received", "decided", "first_packet"} <= set(turn["at_s"])
        assert turn["at_s"]["last_voice"] <= turn["at_s"]["decided"] <= turn["at_s"]["first_packet"]
        assert cut["turn"] == 2
        assert {"onset", "paused", "dropped", "decided"} <= set(cut["at_s"])


# Frames that go past the conversation ------------------------------------------------------------


class Bot(Engine):
    """Hears for itself; given frames straight, or one by one."""

    turns = "engine"
    autonomous = True

    def __init__(self, straight):
        super().__init__()
        self.straight = (self.hear_many, self) if straight else None
        self.item, self.got, self.many, self.flowed = None, [], 0, 0

    def hear(self, at_ms, pcm):
        self.got.append((at_ms, pcm.tolist()))

    @staticmethod
    def hear_many(bots, at_ms, pcm):
        for bot, ms, samples in zip(bots, at_ms, pcm, strict=True):
            bot.hear(ms, samples)
            bot.many += 1
        return ()

    def more(self, ms):
        if self.item is None:
            self.item = self.context.new_item()
        pcm = np.ones(ms * RATE // 1000, np.int16)
        flow = self.context.flow
        if self.straight and flow.takes(self.item, len(pcm)):
            self.flowed += 1
            flow.pour([flow], pcm[None])
        else:
            self.context.emit(engines.Audio(self.item, pcm))

    def done(self):
        if self.item is not None:
            self.context.emit(engines.ItemDone(self.item))
            self.context.emit(engines.ReplyDone())
            self.item = None


def act(talk, what, n):
    """A step of a script."""
    conversation, presence = talk.call._conversation, talk.call.talk
    match what:
        case "speaks" | "is silent":
            talk.slot.deliver(what == "speaks", n)
        case "bot streams":
            for _ in range(n):
                talk.engine.more(20)
                talk.slot.deliver(False)
        case "bot says":
            talk.engine.more(20 * n)
        case "bot is done":
            talk.engine.done()
        case "bot clears":
            talk.engine.item = None
            talk.engine.context.emit(engines.Interrupt())
        case "bot writes" if talk.engine.item is not None:
            talk.engine.context.emit(engines.Text(talk.engine.item, f"So {n}. "))
        case "marks":
            talk.engine.context.emit(engines.Mark(f"m{n}"))
        case "looks":
            talk.call.note()
            noted = talk.store.record.get("progress")
            conversation._write_down()
            assert talk.store.record.get("progress") == noted, "nothing of it was left out"
        case "mutes" | "holds":
            change = presence.mute if what == "mutes" else presence.hold
            change(True)
            talk.slot.deliver(n % 2 == 0, n)
            change(False)
        case "key":
            talk.engine.item = None
            presence.digit(str(n % 10))


STEPS = (
    *("speaks", "speaks", "speaks", "is silent", "is silent", "bot streams", "bot streams"),
    *("bot says", "bot is done", "bot clears", "bot writes", "marks", "looks", "looks", "looks"),
    *("mutes", "holds", "key"),
)


@pytest.mark.parametrize("barge_in", ["off", "auto"])
@pytest.mark.parametrize("seed", range(8))
async def test_what_goes_past_the_conversation_makes_no_difference(barge_in, seed):
    found, straight, flowed = [], 0, 0
    for past in (True, False):
        steps = random.Random(seed)
        talk, seen = Talk(), []
        talk.engine = Bot(past)
        talk.agent = replace(talk.agent, turns=replace(talk.agent.turns, barge_in=barge_in))
        async with talk:
            for _ in range(60):
                act(talk, steps.choice(STEPS), steps.choice([1, 2, 3, 7, 15, 40]))
                told = [e for e in talk.engine.told if not isinstance(e, TurnPausing)]
                heard = [e for e in told if not isinstance(e, engines.Heard | engines.Marked)]
                playout = talk.call._conversation._mouth.playout
                seen.append((heard, playout.last_item, talk.slot.queue.copy(), talk.slot.paused))
            talk.slot.deliver(False, 100)
            talk.call.note()
            told = [e for e in talk.engine.told if not isinstance(e, TurnPausing)]
            progress = talk.store.record["progress"]
            found.append((seen, told, talk.engine.got, talk.store.lines, progress))
            straight += talk.engine.many
            flowed += talk.engine.flowed
    for one, other in zip(*found, strict=True):
        assert one == other
    assert straight
    assert flowed


async def test_speech_that_is_over_is_forgotten_while_the_call_rests():
    talk = Talk()
    talk.engine = Bot(True)
    async with talk:
        noted = []
        for speech in (True, True, *(False,) * 6):
            talk.slot.deliver(speech, 10)
            talk.call.note()
            noted.append(Progress.from_text(talk.store.record["progress"]).since_ms)
    assert (noted[1], noted[-1]) == (0, -1), "an heir would give it to the bot once more"


async def test_little_of_a_call_stays_until_garbage_is_collected():
    """Where an engine knows its call (ours don't: tests/pbx/test_garbage.py), all of it stays; a
    worker has hundreds of calls in a minute."""
    calls, left = 5, []
    for traced in (False, True):  # the first time things are made that stay
        if traced:
            gc.collect()
            gc.disable()
            tracemalloc.start()
        try:
            for _ in range(calls):
                async with Talk() as talk:
                    talk.engine.say("hello there", 400)
                    talk.slot.deliver(False, 500)
                del talk
            if traced:
                left.append(tracemalloc.get_traced_memory()[0])
                gc.collect()
                left.append(tracemalloc.get_traced_memory()[0])
        finally:
            gc.enable()
            tracemalloc.stop()
    before, after = left
    assert (before - after) / calls < 45_000
