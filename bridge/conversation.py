"""A call's conversation: the caller's audio, his turns, and the engine, wired together.

Wires four parts by their ports:

    slot     the media process' side: caller audio up
    turns    who speaks (pure): makes turns of speech decisions
    mouth    the agent's audio down, and what was heard of it
    engine   the mind

Theory of operation. The media process delivers the caller's audio every 20 ms, silence included:
that is the only clock of the conversation. A delivery goes to the engine, then `Mouth` learns
what has gone out since, then the frames go through `Turns`, whose actions are carried out at once
and told to the engine. What the engine emits is carried out at once as well. None of that waits;
what takes time (tools) runs in the call's task group.

Mostly nothing changes: somebody speaks on, or nobody speaks. Then the conversation *rests*: a
delivery is no more than audio for the engine, and `Turns` makes up for it before it is told
anything else. An engine that only passes frames on is given them straight by the slot, with those
of all other calls; then the conversation learns of them when it is told anything else.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import bridge.engines.base as engines
from bridge import metrics
from bridge.agent import Agent
from bridge.dialog.completeness import Expected, end_silence_ms
from bridge.dialog.endpointing import Phase
from bridge.dialog.latency import TurnLatency
from bridge.dialog.playout import Heard
from bridge.dialog.turns import (
    Action,
    AgentPaused,
    AgentResumed,
    BargeIn,
    NoInput,
    SpeechStarted,
    State,
    TurnCommitted,
    Turns,
    TurnWithdrawn,
)
from bridge.ears import Ear, Ears
from bridge.engines.base import Engine
from bridge.errors import ConfigError
from bridge.filler import Filler
from bridge.media.base import FRAME_MS, Slot, Up
from bridge.mouth import Mouth
from bridge.pbx.base import Incoming
from bridge.recall import Memory, interrupted, noted_items, restore, restore_lost
from bridge.sessions.base import Store
from bridge.sessions.model import BARGE_IN
from bridge.sessions.progress import Progress
from bridge.stopwatch import Stopwatch
from bridge.tools import Outcome, Tools
from bridge.transcript import Transcript

log = logging.getLogger(__name__)

DRY_MS, LOOK_MS = 40, 1000
"""An agent whose item isn't complete and that gives nothing for so long has paused; and so often at
least it is asked what was heard of it."""


WORDS_MS = 10_000
"""Words that come so long after a turn are another's."""


class Conversation:
    """One call's. It goes on from `start` or `take_up` until the call is `over`."""

    def __init__(
        self,
        call_id: str,
        agent: Agent,
        engine: Engine,
        slot: Slot,
        tools: Tools,
        transcript: Transcript,
        store: Store,
        over: Callable[[], bool],
        end: Callable[[Outcome], None],
        ears: Ears | None = None,
    ) -> None:
        """Wire the parts; nothing flows yet.

        Args:
            call_id: names the call.
            agent: whose settings hold.
            engine: the mind; the call starts and closes it.
            slot: the audio; the call closes it.
            tools: runs tool calls.
            transcript: where lines are written.
            store: where progress is noted.
            over: whether the call has an outcome already.
            end: ends the call.
            ears: tells voices from noises; None: every noise may be one.
        """
        self._id, self._agent, self._engine, self._slot = call_id, agent, engine, slot
        self._tools, self._transcript, self._store = tools, transcript, store
        self._over, self._end, self._ears = over, end, ears
        self._ear: Ear | None = None
        self._turns = Turns(agent.turns, engine.turns, agent.language)
        self._watch = Stopwatch(lambda text: store.put(call_id, latency=text), count=self._count)
        self._mouth = Mouth(slot, self._watch.sent, self._heard, self._marked, self._recorded)
        self._filler = Filler(agent.turns.filler_after_ms, slot.rate, lambda: tools.running)
        self._now_ms = 0
        # So far deliveries of which detectors and ear say the same as of the last change nothing;
        # and so far nobody waits to be told of what has gone out.
        # When it is due, unless more audio of the same item comes; when it is due then.
        self._rests_ms, self._account_ms, self._look_ms = 0, 0.0, 0.0
        self._whatever = self._straight = False  # what may come meanwhile; whether past us
        self._item = 0  # of which it gave audio last
        self._hears: Callable[[int, engines.Pcm], None] = self._hear
        self._same: tuple[Sequence[bool], bool, bool | None] = ((), False, None)
        self._speaking, self._given_ms = False, 0  # as the turns know it; when it gave audio last
        self._replying = self._leaving = False
        self._on_hold = self._apart = False  # by his phone; for a transfer
        self._armed: bool | None = None  # as the slot was told
        self._expected: Expected = ""
        self._given: list[tuple[int, str]] = []
        self._speech_ms = self._turn_ms = -1  # begin of speech, of a turn that has no words yet
        self._answered_ms = -1
        self._said = (0, 0)  # begin and end of the caller's last turn
        self._muted = False
        self._unheard = False  # the caller's last turn was lost before it came to words
        self._state: Mapping[str, Any] = {}
        self._unknown: Mapping[str, Any] = {}
        self._noted, self._news = Progress(), True  # whether anything has come since
        self._begun_to_speak = asyncio.Event()
        # In one batch with the line, so that nobody takes the caller's words for unsettled.
        tools.on_change = transcript.on_settled = self.note
        tools.quiet = lambda: not self._mouth.playing
        tools.transfer.aside = self._set_apart

    # Beginning and end ----------------------------------------------------------------------------

    def context(
        self,
        agent: Agent,
        incoming: Incoming,
        tasks: asyncio.TaskGroup,
        history: Sequence[engines.Entry] = (),
        resume: engines.Resume | None = None,
    ) -> engines.Context:
        """What the engine is started with."""
        return engines.Context(
            call_id=self._id,
            agent=agent,
            caller_number=incoming.caller_number,
            variables=incoming.variables,
            notes=self._tools.notes,
            rate=self._slot.rate,
            emit=self._emit,
            new_item=self._mouth.playout.new_item,
            more=self._more,
            now_ms=lambda: self._slot.straight_ms,
            room=self._mouth.wait_for_room,
            tasks=tasks,
            turns_by=self._turns_by,
            history=history,
            resume=resume,
        )

    def begin(self, greeting: bool) -> None:
        """A new conversation; the agent may greet."""
        self._replying = greeting
        self.note()

    def take_up(
        self, memory: Memory, *, fresh: bool = False
    ) -> tuple[engines.Resume, tuple[engines.Entry, ...]]:
        """One that another process began: items, turn, tools.

        `fresh`: the slot is a new one, what waited in the old one is lost. Returns what the engine
        is to know of it, the history last.
        """
        progress = memory.progress
        if fresh:
            resume = restore_lost(memory, self._mouth.playout)
        else:
            progress = interrupted(progress, self._slot)
            resume = restore(memory, self._slot, self._mouth.playout)
        cut = self._mouth.playout.dropped()
        if fresh:
            self._mouth.owe_past()
        if progress.unanswered:  # he is heard again, and then answered
            resume = replace(resume, replying=False, owed=False)
            self._unheard = fresh
        self._replying, self._state = resume.replying, progress.extra
        self._unknown = progress.unknown
        if not fresh:  # a new slot's audio time begins anew
            self._answered_ms = progress.answered_ms
        self._given = [(0, text) for text in resume.given] if resume.replying else []
        self._turns.turn, self._turns.guard_until_ms = progress.turn, 0
        self._transcript.caller(progress.caller)
        self._watch.take_up(memory.record.latency)
        self._tools.take_up(progress, asks_again=resume.replying)
        self._speaking = self._mouth.playing
        if self._speaking or self._replying:
            self._turns.agent_started()
        if not self._replying:
            self._turns.reply_done(0)
        self._muted = progress.muted
        if progress.held:
            self._on_hold = True
        self._tools.transfer.took_up()
        self._hold()
        for heard in cut:
            self._transcript.settle()
            self._transcript.agent(heard)
        self._transcript.note("taken over")
        self.note()  # in one batch with these
        log.info("taken up with %d ms still to be heard", self._mouth.playout.waiting_ms)
        told = tuple(engines.Entry("agent", heard.text) for heard in cut if heard.text)
        return resume, (*memory.history(), *told)

    async def spoken(self) -> None:
        """Returns when the engine has given its first audio (or has nothing to say)."""
        await self._begun_to_speak.wait()

    def listen(self) -> None:
        """The engine is ready: audio flows."""
        self._slot.tune(self._agent.turns.sensitivity)
        self._prick_up()
        context: Any = contextvars.copy_context()
        # Media's reader doesn't run in the call's context, where the log finds the call's id.
        self._hears = partial(context.run, self._hear)
        self._slot.on_frames = partial(context.run, self.guarded, self._deliver)
        if self._unheard:  # he waits for an answer: he is asked to say it again
            self._unheard = False
            self._engine.notify(NoInput(1))

    def look(self) -> None:
        """Write down how far the conversation has got by now, if that has changed."""
        self._update()
        if not self._mouth.idle:
            self._account()
        playout, noted = self._mouth.playout, self._noted
        forgets = self._speech_ms >= 0 and self._turns.endpoint.phase is Phase.SILENT
        same = not (self._news or forgets) and noted.last_item == playout.last_item
        if not (same and noted.items == noted_items(playout.open_items())):
            self._write_down()  # else nothing has changed: nothing else does so by itself

    def note(self) -> None:
        """The same, as far as is known."""
        if not self._over():
            self._wake()
            self._write_down()

    def _write_down(self) -> None:
        if self._over():
            return
        self._news = False
        if self._turns.endpoint.phase is Phase.SILENT:
            self._speech_ms = -1
        progress = Progress(
            items=noted_items(self._mouth.playout.open_items()),
            last_item=self._mouth.playout.last_item,
            tools=self._tools.open(),
            replying=self._replying,
            given=tuple(self._given),
            caller=self._transcript.caller_text,
            turn=self._turns.turn,
            since_ms=self._turn_ms if self._turn_ms >= 0 else self._speech_ms,
            unanswered=self._turn_ms >= 0,
            answered_ms=self._answered_ms,
            held=self._on_hold,
            muted=self._muted,
            extra=self._state,
            done=self._tools.done,
            asked=self._tools.asked,
            notes=dict(self._tools.notes),
            unknown=self._unknown,
        )
        if progress != self._noted:
            self._noted = progress
            self._store.put(self._id, progress=progress.to_text())

    def _recorded(self, then: Callable[[], None]) -> None:
        """Call it when all that the engine gives right now is on record."""
        self._store.when_written(self._id, partial(self.guarded, then))

    def finish(self) -> None:
        """The call is over: tell what was heard of the sentence that its end cut off."""
        self._watch.close()
        if self._ear is not None:
            self._ear.close()
        self._transcript.settle()
        self._mouth.close()

    @property
    def timed(self) -> list[dict[str, object]]:
        """How long each turn took so far: see `Stopwatch`."""
        return self._watch.rows

    # What the caller does -------------------------------------------------------------------------

    def digit(self, digit: str) -> None:
        """He pressed a key."""
        self._wake()
        self._transcript.say("dtmf", digit)
        if self._apart or self._tools.transfer.talks_to:
            return  # the agent isn't with him
        self._leaving = False
        self._filler.silent_since(self._now_ms)
        self._carry_out(self._turns.digit(self._now_ms))
        if not (self._replying or self._tools.open()):
            self._tools.over()
        self.note()
        self._engine.notify(engines.Digit(digit))

    def hold(self, on: bool) -> None:
        """His phone holds the call, or takes it back."""
        self._wake()
        self._transcript.say("event", "hold" if on else "resume")
        self._on_hold = on
        self._hold()
        self.note()

    def _set_apart(self, on: bool) -> None:
        """He is out of hearing, because somebody else is rung; or he, or that one, is there."""
        self._wake()
        self._apart, self._leaving = on, False
        self._turns.somebody_else()
        self._hold()
        self.note()

    def _hold(self) -> None:
        on = self._on_hold or self._apart
        if on is self._mouth.held:
            return
        self._mouth.hold(on)
        self._carry_out(self._turns.hold(on))
        self._arm()

    # What somebody does who looks after the call -------------------------------------------------

    def mute(self, on: bool) -> None:
        """Nothing of the agent is heard from now on, but it goes on listening; or it is again."""
        if on is self._muted:
            return
        self._wake()
        self._transcript.note("agent muted" if on else "agent unmuted")
        self._muted = on
        if on:
            self._cut()
        self.note()

    def say(self, text: str) -> bool:
        """Have the agent say just this, now. False: its engine can't be told what to say.

        Raises:
            ConfigError: it is muted, or not with the caller.
        """
        if self._muted:
            raise ConfigError("the agent is muted: unmute it first")
        if talks_to := self._tools.transfer.talks_to:
            raise ConfigError(f"the agent talks to {talks_to} now, for the caller, who waits")
        if self._apart:
            raise ConfigError("the caller hears ringing or music now: he is being put through")
        if not getattr(self._engine, "speaks", False):
            return False
        self._wake()
        self._cut()
        self._transcript.say("event", f"told to say: {text}")
        self._leaving = False
        self._engine.notify(engines.Speak(text))
        self._reply(True)
        return True

    def _cut(self) -> None:
        """What the agent is saying is over, and not because of the caller."""
        if self._mouth.playing or self._replying:
            self._turns.interrupted()
            self._drop()
            self._tools.over()
            self._reply(False)

    def guarded(self, work: Callable[..., None], *what: Any) -> None:
        """Do it, unless the call is over; the call's boundary, where others call us."""
        if self._over():
            return
        try:
            work(*what)
        except Exception as error:  # noqa: BLE001 - the call's boundary, which logs it
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        log.error("a fault of ours ended the call", exc_info=error)
        self._end(Outcome("failed", str(error) or type(error).__name__))

    def _deliver(self, up: Up) -> None:
        begin_ms, speech = up.at_ms, up.speech
        end_ms = begin_ms + len(speech) * FRAME_MS
        if self._straight:
            self._learn_time()
        if begin_ms != self._now_ms:  # frames of a call that wants late packets dropped
            self._catch_up()
            self._now_ms = begin_ms
        if not self._mouth.held:  # what a phone on hold sends is not for the engine
            self._engine.hear(begin_ms, up.pcm)
        self._watch.arrived(end_ms)
        if begin_ms >= self._account_ms and not self._mouth.idle:
            self._account()
        if self._slot.tripped:
            self._tripped()
        ear = self._ear
        heard = (speech, True, True) if ear is None else (speech, ear.voice, ear.near)
        if end_ms <= self._rests_ms and (heard == self._same or self._is_same(heard)):
            self._now_ms = end_ms
            self._only_hear()
            return
        self._catch_up()
        self._frames(*heard)
        self._arm()
        self._fill()
        self._rest(heard)

    def _frames(self, speech: Sequence[bool], voiced: bool, near: bool | None) -> None:
        turns = self._turns
        for loud in speech:
            spoke = turns.caller_speaks
            if actions := turns.frame(self._now_ms, loud and voiced, near):
                self._carry_out(actions)
            if self._ear is not None and spoke and turns.caller_was_heard:
                self._ear.his_own()
            self._now_ms += FRAME_MS

    def _rest(self, heard: tuple[Sequence[bool], bool, bool | None]) -> None:
        """Rest from here on, if more of what was heard last, or whatever comes, changes nothing for
        a while."""
        known = self._speaking or self._mouth.idle  # else it may fall silent and tell nothing
        if not (known and self._filler.rests):
            return
        until_ms = self._turns.rests_until(heard[2]) if len(set(heard[0])) == 1 else 0
        whatever_ms = self._turns.indifferent_until()
        self._whatever = whatever_ms > self._now_ms  # sooner over, but no gap in his speech ends it
        self._rests_ms, self._same = whatever_ms if self._whatever else until_ms, heard
        self._only_hear()

    def _is_same(self, heard: tuple[Sequence[bool], bool, bool | None]) -> bool:
        """Whether this is what the rest is for."""
        return self._whatever and heard[1:] == self._same[1:]

    def _only_hear(self) -> None:
        """Be given nothing but audio until something may change."""
        if self._rests_ms <= self._now_ms:
            return
        straight = None if self._mouth.held else getattr(self._engine, "straight", None)
        to_ms = self._rests_ms if self._mouth.idle else int(self._account_ms)
        self._straight = straight is not None
        speech = None if self._whatever else self._same[0][0]
        self._slot.rest(self._hears, self._rests_ms, speech, straight, to_ms)

    def _hear(self, at_ms: int, pcm: engines.Pcm) -> None:
        """Frames that change nothing; guarded, without another step on the way of each frame."""
        if self._over():
            return
        try:
            if self._straight:
                self._learn_time()
            if at_ms != self._now_ms:
                self._catch_up()
            self._now_ms = end_ms = at_ms + len(pcm) * 1000 // self._slot.rate
            if not self._mouth.held:
                self._engine.hear(at_ms, pcm)
            self._watch.arrived(end_ms)
            if at_ms >= self._account_ms and not self._mouth.idle:
                self._account()
            if self._straight and self._rests_ms:
                self._only_hear()
        except Exception as error:  # noqa: BLE001 - as in `guarded`
            self._fault(error)

    def _wake(self) -> None:
        """Something else than audio comes: look at everything again."""
        self._mouth.flows, self._news = 0, True
        self._account_ms = 0.0
        self._catch_up()

    def _catch_up(self) -> None:
        """The turns learn of the frames that they weren't told of, and the rest is over."""
        if self._rests_ms:
            self._update()
            if self._rests_ms:  # else what came of that has ended it already
                self._rests_ms, self._straight = 0, False
                self._slot.rest(self._hears, 0, False)

    def _update(self) -> None:
        """The turns learn of the frames that they weren't told of."""
        if self._straight:
            self._learn_time()
        if not self._rests_ms:
            return
        told_ms = self._turns.now_ms
        if not self._whatever:
            self._turns.pass_over(self._now_ms)
        elif told_ms < self._now_ms:
            speech, straight = self._slot.spoken(told_ms, self._now_ms), self._straight
            self._now_ms, self._straight = told_ms, False  # what comes of it needs no more
            self._frames(speech, *self._same[1:])
            self._straight = straight and self._rests_ms > 0

    def _learn_time(self) -> None:
        """Frames have gone straight to the engine."""
        if (now_ms := self._slot.straight_ms) > self._now_ms:
            self._now_ms = now_ms
            self._watch.arrived(now_ms)

    def _arm(self) -> None:
        armed = self._turns.armed
        if armed is not self._armed:
            self._armed = armed
            self._slot.arm(armed)

    def _tripped(self) -> None:
        """Media has paused the agent by itself: from here on the pause is ours."""
        self._wake()
        self._carry_out(self._turns.tripped(self._now_ms))
        self._slot.deal()
        if self._turns.state is State.PAUSED and self._slot.is_echo():
            self._carry_out(self._turns.echo(self._now_ms))

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        self._news = True
        self._watch.acted(action, self._turns.turn)
        match action:
            case AgentPaused():
                self._mouth.pause()
            case AgentResumed():
                self._mouth.resume()
            case BargeIn():
                self._interrupted()
            case TurnWithdrawn():
                self._drop()
                self._reply(False)
            case SpeechStarted(at_ms):
                self._speech_ms = at_ms
                self._prick_up()
                if self._ear is not None and self._bot_hears:
                    self._ear.enough()
            case TurnCommitted():
                self._leaving, self._turn_ms = False, action.start_ms
                self._answered_ms, self._said = self._now_ms, (action.start_ms, action.end_ms)
                self._filler.silent_since(action.end_ms)
                self._reply(True)
            case NoInput() if self._muted:
                return
            case NoInput(last=True) if not getattr(self._engine, "autonomous", False):
                self._no_input()
        self._engine.notify(action)

    def _prick_up(self) -> None:
        """Tell voices from noises from now on, if anything hangs on it."""
        idle = self._bot_hears and not getattr(self._engine, "told_of_speech", True)
        if self._ear is None and self._ears is not None and not (idle or self._over()):
            self._ear = self._ears.open(self._slot.index, self._agent.turns.sensitivity)

    def _turns_by(self, owner: Literal["bridge", "engine"]) -> None:
        self._turns.belong_to(owner)
        self._prick_up()

    @property
    def _bot_hears(self) -> bool:
        """Whether nothing hangs on what the rest of the caller's speech sounds like to us."""
        autonomous = getattr(self._engine, "autonomous", False)
        return autonomous and self._agent.turns.barge_in == "off"

    def _no_input(self) -> None:
        """The caller has said nothing for the last time."""
        if self._tools.transfer.talks_to:  # not he, but whom we rang: the caller is taken back
            self._hang_up()
        elif self._agent.turns.after_no_input == "dialplan":
            self._end(Outcome("no-input", "the caller said nothing"))
        elif self._leaving:  # the engine has nothing to say to that
            self._hang_up()
        self._leaving = True

    def _hang_up(self) -> None:
        if not self._tools.open():
            self._tools.add(engines.ToolCall("no-input", "hang_up"), self._turns.turn)
            self._next_tool()

    # What the engine does -------------------------------------------------------------------------

    def _emit(self, event: engines.EngineEvent) -> None:
        if self._over() or (self._muted and self._mutes(event)):
            return
        if type(event) is engines.Audio:
            self._say(event)
            return
        self._wake()
        match event:
            case engines.Mark(name):
                self._mouth.mark(name)
            case engines.Text(item, text):
                if self._mouth.playout.text(item, text):
                    self._begun(item, text)
            case engines.ItemDone():
                self._mouth.done(event)
            case engines.ReplyDone():
                self._begun_to_speak.set()
                self._transcript.settle()
                self._carry_out(self._turns.reply_done(self._now_ms))
                self._reply(False)
                if self._leaving:
                    self._hang_up()
            case engines.CallerText() | engines.Expect():
                self._learn(event)
            case engines.Interrupt():
                self._turns.interrupted()
                self._interrupted()
            case engines.ToolCall():
                self._tools.add(event, self._turns.turn)
                self._next_tool()
                self.note()
            case _:
                self._aside(event)

    def _mutes(self, event: engines.EngineEvent) -> bool:
        """Whether this is lost while the agent is muted."""
        match event:
            case engines.Mark(name):
                self._marked(name, False)
            case engines.Audio() | engines.Text() | engines.Words() | engines.ItemDone():
                self._begun_to_speak.set()
            case _:
                return False
        return True

    def _aside(self, event: engines.EngineEvent) -> None:
        """What the engine says of itself and its audio."""
        match event:
            case engines.Words(item, marks):
                self._mouth.playout.words(item, marks)
            case engines.Timing():
                self._watch.timed(event)
            case engines.Filler(pcm, ""):
                self._filler.clip = pcm
            case engines.Filler(pcm, tool):
                self._filler.clips[tool] = pcm
            case engines.Failed(reason):
                self._end(Outcome("failed", reason))
            case engines.State(values):
                self._state = values
                self.note()
            case engines.Wants(name):
                self._tools.intent(name)
            case engines.Note(text, restarted):
                self._transcript.say("event", text)
                if restarted and self._replying:
                    self._tools.again()

    def _reply(self, on: bool) -> None:
        """A reply of the engine's begins or is over."""
        self._replying = on
        if not on:
            self._turn_ms = -1
        self._given.clear()
        self.note()

    def _begun(self, item: int, text: str) -> None:
        """More of what an item says: whoever takes the call up must not say it again."""
        self._replying, self._turn_ms = True, -1
        if self._given and self._given[-1][0] == item:
            self._given[-1] = (item, self._given[-1][1] + text)
        else:
            self._given.append((item, text))
        self.note()

    def _next_tool(self) -> None:
        if not self._mouth.playing:
            self._tools.next()

    def _learn(self, event: engines.CallerText | engines.Expect) -> None:
        """What the caller has said, or is asked for."""
        match event:
            case engines.Expect(kind):
                self._expected = kind
            case engines.CallerText(text, final=True):
                self._turn_ms = -1
                self._transcript.caller(text, *self._said_ago())
                self.note()
            case engines.CallerText(text, until_ms=until_ms, understood=understood, hum=hum):
                # What he has said so far decides how long a silence ends his turn.
                settings, language = self._agent.turns, self._agent.language
                silence_ms = end_silence_ms(settings, text, self._expected, understood, language)
                asked = self._expected == "yes-no" and self._mouth.playout.in_last_item
                self._carry_out(
                    self._turns.words(text, until_ms, silence_ms, asked, understood, hum)
                )

    def _said_ago(self) -> tuple[int, int]:
        """How long ago the caller began and ended what he said, ms; 0: not known."""
        begin, end = (self._now_ms - at for at in self._said)
        return (begin, end) if self._said[1] and end < WORDS_MS else (0, 0)

    # The agent's audio ----------------------------------------------------------------------------

    def _say(self, audio: engines.Audio) -> None:
        mouth = self._mouth
        began = not self._speaking
        if not mouth.queue(audio):
            return
        self._transcript.settle()
        self._gave(audio.item, len(audio.pcm))
        if began:
            self._speaking = True
            self._wake()
            self._begun_to_speak.set()
            self._turns.agent_started()
        if mouth.full and mouth.overfed:
            self._end(Outcome("failed", "the engine sends audio without end"))

    def _more(self, item: int, pcm: engines.Pcm) -> bool:
        """The same with what follows it, in fewer steps: see `engines.Context.more`."""
        if self._over() or not self._mouth.more(item, pcm):
            return False
        self._gave(item, len(pcm))
        return True

    def _gave(self, item: int, samples: int) -> None:
        """The engine gave so much audio just now."""
        if self._straight:
            self._learn_time()
        self._given_ms = self._now_ms
        if item != self._item or not self._mouth.flows:
            self._item = item
            self._account_at(0.0)
        elif self._account_ms:
            due_ms = self._account_ms + samples * 1000 / self._slot.rate
            # Not by min(), which takes five times as long.
            self._account_at(due_ms if due_ms < self._look_ms else self._look_ms)  # noqa: FURB136

    def _account_at(self, at_ms: float) -> None:
        """From there on (ms of audio) it matters what has gone out."""
        self._account_ms = at_ms
        if self._straight and not self._mouth.idle:
            self._slot.straight_on(int(at_ms))

    def _account(self) -> None:
        """What went out since the last time."""
        mouth, now_ms = self._mouth, self._now_ms
        mouth.account()
        rest_ms = mouth.rest_ms
        if rest_ms is not None and (mouth.playing or now_ms - self._given_ms < DRY_MS):
            self._look_ms = now_ms + LOOK_MS
            self._account_at(min(now_ms + rest_ms + DRY_MS, self._look_ms))
            return
        self._account_at(0.0)
        if self._speaking and not mouth.playing:
            self._speaking = False
            self._wake()
            self._carry_out(self._turns.agent_finished(now_ms))
            self._next_tool()

    def _interrupted(self) -> None:
        """The caller has cut the agent short."""
        self._transcript.say("event", BARGE_IN)
        self._drop()
        self._tools.over()
        self._reply(False)

    def _drop(self) -> None:
        """What isn't played yet never will be."""
        self._speaking = False
        self._mouth.drop()
        self._tools.cancel()

    def _fill(self) -> None:
        """Bridge a long wait."""
        silent = (self._mouth.idle or self._mouth.silent) and not self._muted
        clip = self._filler.due(self._now_ms, silent and not self._mouth.held and self._owes)
        if clip is not None:
            self._mouth.fill(clip)

    def _count(self, one: TurnLatency) -> None:
        metrics.turn(
            *(self._agent.name, self._agent.engine, self._agent.voice_to_voice_ms),
            *(one.voice_to_voice_ms, one.path(), one.interruption()),
        )

    @property
    def _owes(self) -> bool:
        """Whether the caller waits for something."""
        turns = self._turns
        if turns.state is State.THINKING:
            return True
        # The answer to keys is no turn's, so the floor stays the caller's until he hears it.
        if self._replying and turns.state is State.LISTENING and not turns.caller_speaks:
            return True
        return any(t.begun for t in self._tools.open())

    def _marked(self, name: str, heard: bool) -> None:
        self._engine.notify(engines.Marked(name, heard))

    def _heard(self, items: list[Heard]) -> None:
        for heard in items:
            self._transcript.agent(heard)
            self._engine.notify(heard)
        if items:  # in the same batch as the line, so that nobody takes them for unheard
            self.note()
