"""A call's conversation: its parts wired together, and what the turns and the engine have them do.

                   turns ──decide──▶ ┌──────────────┐ ◀──emits── engine
                     ▲               │ conversation │               ▲
    caller's frames  │               └──────┬───────┘               │ caller's frames
    ──────────▶  attention ─────────────────┼───────────────────────╯
                          words ◀─── answer ◀┴─▶ presence
                                       │
                                     mouth ──▶ agent's audio

Theory of operation. The turns decide something, the engine emits something, or somebody does
something (`presence`). It is carried out at once, and whoever else has to know of it is told. None
of that waits; what takes time (tools) runs in the call's task group. Whatever isn't audio wakes
`attention` first, so that everybody knows of all audio before it. `bookmark` writes down how far
all that has got.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import bridge.engines.base as engines
from bridge import metrics
from bridge.agent import Agent
from bridge.dialog.latency import TurnLatency
from bridge.dialog.playout import Heard
from bridge.dialog.turns import (
    Action,
    AgentPaused,
    AgentResumed,
    BargeIn,
    NoInput,
    SpeechStarted,
    TurnCommitted,
    Turns,
    TurnWithdrawn,
)
from bridge.ears import Ears
from bridge.engines.base import Engine
from bridge.filler import Filler
from bridge.garbage import weakly
from bridge.media.base import Slot
from bridge.mouth import Mouth
from bridge.pbx.base import Incoming
from bridge.recall import Memory, take_up
from bridge.sessions.base import Store
from bridge.stopwatch import Stopwatch
from bridge.talk.answer import Answer
from bridge.talk.attention import Attention
from bridge.talk.bookmark import Bookmark
from bridge.talk.presence import Presence
from bridge.talk.words import CallerWords
from bridge.tools import Outcome, Tools
from bridge.transcript import Transcript

log = logging.getLogger(__name__)


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
        self._over, self._end = over, end
        self._turns = Turns(agent.turns, engine.turns, agent.language)
        self._watch = Stopwatch(
            lambda text: store.put(call_id, latency=text), count=weakly(Conversation._count, self)
        )
        told = (
            weakly(Conversation._heard, self),
            weakly(Conversation._marked, self),
            weakly(Conversation._recorded, self),
        )
        self._mouth = mouth = Mouth(slot, self._watch.sent, *told)
        self._filler = Filler(agent.turns.filler_after_ms, slot.rate, lambda: tools.running)
        playout = mouth.playout
        self._words = CallerWords(agent, self._turns, transcript, playout)
        note, carry_out = weakly(Conversation.note, self), weakly(Conversation._carry_out, self)
        self._answer = Answer(
            *(mouth, self._turns, self._words, tools, transcript, self._filler, note)
        )
        self._attention = Attention(
            *(agent.turns, engine, slot, mouth, self._turns, self._watch, ears, over),
            *(
                weakly(Conversation._fault, self),
                carry_out,
                self._answer.bridge,
                self._answer.next_tool,
            ),
        )
        self.presence = Presence(
            *(agent.turns, engine, mouth, self._turns, self._attention, self._answer),
            *(tools, transcript, carry_out, note, end),
        )
        """What the caller's phone does, and who looks after the call."""
        self._bookmark = Bookmark(
            *(playout, self._turns, self._words, self._answer, self.presence, tools, transcript),
            lambda text: store.put(call_id, progress=text),
        )
        self._unheard = False  # the caller's last turn was lost before it came to words
        # In one batch with the line, so that nobody takes the caller's words for unsettled.
        tools.on_change = transcript.on_settled = note
        tools.quiet = lambda: not mouth.playing
        tools.transfer.aside = weakly(Presence.set_apart, self.presence)

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
        slot = self._slot
        return engines.Context(
            call_id=self._id,
            agent=agent,
            caller_number=incoming.caller_number,
            variables=incoming.variables,
            notes=self._tools.notes,
            rate=slot.rate,
            emit=weakly(Conversation._emit, self),
            new_item=self._mouth.playout.new_item,
            flow=slot.flow,
            now_ms=lambda: slot.straight_ms,
            room=self._mouth.wait_for_room,
            tasks=tasks,
            turns_by=weakly(Conversation._turns_by, self),
            history=history,
            resume=resume,
        )

    def begin(self, greeting: bool) -> None:
        """A new conversation; the agent may greet."""
        self._answer.replying = greeting
        self.note()

    def take_up(
        self, memory: Memory, *, fresh: bool = False
    ) -> tuple[engines.Resume, tuple[engines.Entry, ...]]:
        """One that another process began: items, turn, tools.

        `fresh`: the slot is a new one, what waited in the old one is lost. Returns what the engine
        is to know of it, the history last.
        """
        progress, resume, cut = take_up(memory, self._slot, self._mouth.playout, fresh=fresh)
        if fresh:
            self._mouth.owe_past()
        self._unheard = fresh and progress.unanswered
        self._bookmark.take_up(progress)
        self._answer.take_up(resume, muted=progress.muted)
        if not fresh:  # a new slot's audio time begins anew
            self._words.answered_ms = progress.answered_ms
        self._turns.turn, self._turns.guard_until_ms = progress.turn, 0
        self._transcript.caller(progress.caller)
        self._watch.take_up(memory.record.latency)
        self._tools.take_up(progress, asks_again=resume.replying)
        self._mouth.speaking = self._mouth.playing
        if self._mouth.speaking or resume.replying:
            self._turns.agent_started()
        if not resume.replying:
            self._turns.reply_done(0)
        self.presence.take_up(on_hold=progress.held)
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
        await self._answer.begun.wait()

    def listen(self) -> None:
        """The engine is ready: audio flows."""
        self._attention.listen(self.guarded)
        if self._unheard:  # he waits for an answer: he is asked to say it again
            self._unheard = False
            self._engine.notify(NoInput(1))

    def look(self) -> None:
        """Write down how far the conversation has got by now, if that has changed."""
        if self._attention.rests and not self._bookmark.grows:
            return  # nothing but audio has come, of which nothing is noted
        self._attention.look()
        if self._attention.news or self._bookmark.stale:
            self._write_down()  # else nothing has changed: nothing else does so by itself

    def note(self) -> None:
        """The same, as far as is known."""
        if not self._over():
            self._attention.wake()
            self._write_down()

    def _write_down(self) -> None:
        if not self._over():
            self._attention.news = False
            self._bookmark.write()

    def _recorded(self, then: Callable[[], None]) -> None:
        """Call it when all that the engine gives right now is on record."""
        self._store.when_written(self._id, partial(self.guarded, then))

    def finish(self) -> None:
        """The call is over: tell what was heard of the sentence that its end cut off."""
        self._watch.close()
        self._attention.close()
        self._transcript.settle()
        self._mouth.close()

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

    @property
    def timed(self) -> list[dict[str, object]]:
        """How long each turn took so far: see `Stopwatch`."""
        return self._watch.rows

    # What the turns decide ------------------------------------------------------------------------

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        self._attention.news = True
        self._watch.acted(action, self._turns.turn)
        match action:
            case AgentPaused():
                self._mouth.pause()
            case AgentResumed():
                self._mouth.resume()
            case BargeIn():
                self._answer.interrupted()
            case TurnWithdrawn():
                self._answer.withdrawn()
            case SpeechStarted(at_ms):
                self._words.onset(at_ms)
                self._attention.onset()
            case TurnCommitted(_, start_ms, end_ms):
                self.presence.spoke()
                self._words.turn(start_ms, end_ms, self._attention.now_ms)
                self._answer.due(end_ms)
                self._answer.reply(True)
            case NoInput() if self._answer.muted:
                return
            case NoInput(last=True) if not getattr(self._engine, "autonomous", False):
                self.presence.no_input()
        self._engine.notify(action)

    # What the engine does -------------------------------------------------------------------------

    def _emit(self, event: engines.EngineEvent) -> None:
        if self._over() or (self._answer.muted and self._mutes(event)):
            return
        if type(event) is engines.Audio:
            self._say(event)
            return
        self._attention.wake()
        match event:
            case engines.Mark(name):
                self._mouth.mark(name)
            case engines.Text(item, text):
                self._answer.text(item, text)
            case engines.ItemDone():
                self._mouth.done(event)
            case engines.ReplyDone():
                self._answer.begun.set()
                self._transcript.settle()
                self._carry_out(self._turns.reply_done(self._attention.now_ms))
                self._answer.reply(False)
                self.presence.replied()
            case engines.CallerText(text, final=True):
                self._words.final(text, self._attention.now_ms)
                self.note()
            case engines.CallerText():
                self._carry_out(self._words.so_far(event))
            case engines.Expect(kind):
                self._words.expected = kind
            case engines.Interrupt():
                self._turns.interrupted()
                self._answer.interrupted()
            case engines.ToolCall():
                self._tools.add(event, self._turns.turn)
                self._answer.next_tool()
                self.note()
            case _:
                self._aside(event)

    def _mutes(self, event: engines.EngineEvent) -> bool:
        """Whether this is lost while the agent is muted."""
        match event:
            case engines.Mark(name):
                self._marked(name, False)
            case engines.Audio() | engines.Text() | engines.Words() | engines.ItemDone():
                self._answer.begun.set()
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
                self._bookmark.extra = values
                self.note()
            case engines.Wants(name):
                self._tools.intent(name)
            case engines.Note(text, restarted):
                self._transcript.say("event", text)
                if restarted and self._answer.replying:
                    self._tools.again()

    def _turns_by(self, owner: Literal["bridge", "engine"]) -> None:
        self._turns.belong_to(owner)
        self._attention.prick_up()

    def _say(self, audio: engines.Audio) -> None:
        mouth = self._mouth
        silent = not mouth.speaking
        if not mouth.queue(audio):
            return
        self._transcript.settle()
        self._attention.gave(audio.item, len(audio.pcm))
        if silent:
            self._answer.begun.set()
            self._attention.begins()
        if mouth.full and mouth.overfed:
            self._end(Outcome("failed", "the engine sends audio without end"))

    def _count(self, one: TurnLatency) -> None:
        metrics.turn(
            *(self._agent.name, self._agent.engine, self._agent.voice_to_voice_ms),
            *(one.voice_to_voice_ms, one.path(), one.interruption()),
        )

    def _marked(self, name: str, heard: bool) -> None:
        self._engine.notify(engines.Marked(name, heard))

    def _heard(self, items: list[Heard]) -> None:
        for heard in items:
            self._transcript.agent(heard)
            self._engine.notify(heard)
        if items:  # in the same batch as the line, so that nobody takes them for unheard
            self.note()
