"""A cascade: speech to text, a brain, text to speech, one sentence after the other.

Theory of operation. Whatever is to be answered (a turn, a number that was keyed in, silence, a
tool that failed) becomes a `Reply`, of which there is at most one: a new one cancels the one
before. Its task runs the parts one after the other and gives what they make to `Reply.give`,
which passes it on to the call if the reply is *open*, and else keeps it. A part that is cancelled
gives up at once what it has asked for elsewhere.

    TurnPausing     what was said so far is transcribed, and told as a partial `CallerText`; where
                    that is a whole sentence, a closed reply (`begin = "pause"`)
    TurnEager       a closed reply: transcribed, thought about, first sentence rendered; kept
    TurnCommitted   it is opened: what was kept goes out at once. (No eager one: a new one, open)
    TurnWithdrawn   it is cancelled, and what it had changed (memory, history) is as before
    BargeIn         it is cancelled; what was heard of it comes in as `Heard`

How far a closed reply gets, so that a pause in the caller's sentence costs little, says
`bridge.engines.answering`, which makes the answer; `memory` is what stays of it.

Each sentence is an item of its own, so that what was heard is exact at every sentence's end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bridge.dialog.completeness import Completeness, judge
from bridge.engines.answering import Answering
from bridge.engines.base import (
    TALK_NOTE,
    BargeIn,
    CallerText,
    CallEvent,
    Context,
    Digit,
    Entry,
    Expect,
    Filler,
    Heard,
    NoInput,
    Pcm,
    ReplyDone,
    Resume,
    Speak,
    SpeechStarted,
    State,
    Told,
    ToolResult,
    TurnCommitted,
    TurnEager,
    TurnPausing,
    TurnWithdrawn,
)
from bridge.engines.english import words
from bridge.engines.hearing import Hearing
from bridge.engines.listening import (
    POST_ROLL_MS,
    PRE_ROLL_MS,
    Glimpse,
    Listener,
    Listening,
)
from bridge.engines.lull import BACK_MS, Lull
from bridge.engines.memory import Memory
from bridge.engines.parts import Brain, Model, Personal, Said, Say, StreamingStt, Stt, Tts
from bridge.engines.prompt import used
from bridge.engines.reply import Reply
from bridge.engines.sentences import sentences
from bridge.engines.uses import Uses
from bridge.errors import EngineError
from bridge.garbage import weakly

log = logging.getLogger(__name__)

MAX_TURN_MS = 30_000
"""Of a longer turn only the end is transcribed."""

GUESS_MS = 80
"""Of his last voice that a transcript may lack which is taken for all that he said, until the next
one has confirmed it. With a model it may lack nothing: it is wrong in half of the cases (17 of 34
sentences; 4 of 29 where nothing lacks), and one that thinks in vain takes longer than that won."""

GONE_ON_MS = 350
"""Behind a pause in which an answer was begun, other words show that it was no turn's end."""

MAX_DIGITS = 32


@dataclass(frozen=True)
class CascadeSettings:
    """How a cascade deals with keys and sentences."""

    inter_digit_ms: int = 3000
    """Silence after a key that ends a number."""
    sentence_gap_ms: int = 180
    """Pause between two sentences of one answer."""
    begin: Literal["pause", "eager", "end"] = "eager"
    """When an answer is begun: in a pause behind a whole sentence, perhaps for nothing; when the
    turn is probably over (`eager_silence_ms`); or only when it is over."""


class Cascade:
    """One call's cascade; see the theory above."""

    turns: Literal["bridge", "engine"] = "bridge"
    speaks = True

    def __init__(
        self,
        stt: Stt | StreamingStt,
        brain: Brain | Model,
        tts: Tts,
        settings: CascadeSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` stamps what `Timing` tells."""
        if stt.rate != tts.rate:
            raise EngineError(f"STT at {stt.rate} Hz and TTS at {tts.rate} Hz don't go together")
        self.rate = stt.rate
        self._stt, self._brain, self._tts = stt, brain, tts
        self._settings, self._clock = settings, clock
        self._hearing = Hearing(self.rate, MAX_TURN_MS + PRE_ROLL_MS + POST_ROLL_MS)
        self._listening: Listener | None = None
        self._lull: Lull | None = None
        self._context: Context | None = None
        self._reply: Reply | None = None
        self._pause: TurnPausing | None = None  # whose words aren't known yet
        self._memory, self._uses = Memory(), Uses()
        self._answering: Answering
        self._digits = ""
        self._digit_ms = 0

    # The port -------------------------------------------------------------------------------------

    async def start(self, context: Context) -> None:
        """Greet, unless the conversation goes on where another process left it."""
        if isinstance(self._brain, Personal):
            variables = {**self._brain.facts, **context.variables}
            self._brain, context = self._brain.of(variables), replace(context, variables=variables)
        self._context = context
        self._answering = Answering(
            *(self._brain, self._tts, self._memory, self._uses),
            gap_ms=self._settings.sentence_gap_ms,
            clock=self._clock,
        )
        parts = self._hearing, context.tasks, weakly(Cascade._glimpsed, self), self._clock
        if isinstance(self._stt, StreamingStt):
            self._listening = await self._stt.listen(*parts)
        else:
            self._lull = Lull() if isinstance(self._brain, Model) else None
            self._listening = Listening(self._stt, *parts, self._lull)
        self._memory.history = list(context.history)
        if context.agent.fillers:
            context.tasks.create_task(self._give_fillers(context), name="fillers")
        if context.rejoin:
            await self._recall()
            self._memory.rejoining = not isinstance(self._brain, Model)
            self._begin(Say(context.rejoin))
        elif context.history or context.resume is not None:
            await self._recall()
            if context.resume is not None:
                self._memory.take_up(context.resume.state)
                self._go_on(context.resume)
        elif context.greeting:
            self._begin(Say(context.greeting))

    async def _give_fillers(self, context: Context) -> None:
        for tool, text in context.agent.fillers.items():
            parts: list[Pcm] = []
            try:
                for sentence in sentences(text):
                    parts += [pcm async for pcm in self._tts.say(sentence, first=False)]
            except EngineError as error:  # whoever needs the voice meets it again, and says so
                log.warning("the agent's filler can't be said: %s", error)
            if parts and self._context is not None:
                context.emit(Filler(np.concatenate(parts), tool))

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """Keep the caller's audio; it is the clock of the digits as well."""
        self._hearing.put(at_ms, pcm)
        if self._listening is not None:
            self._listening.grew()
        reply, lull = self._reply, self._lull
        if reply is not None and lull is not None and 0 < reply.hasty <= lull.back_ms - BACK_MS:
            self._cancel()  # he speaks on: what was begun in his pause only keeps the next waiting
        waited = self._hearing.end_ms - self._digit_ms
        if self._digits and waited >= self._settings.inter_digit_ms:
            self._number()

    def notify(self, event: CallEvent) -> None:
        """React to what happened on the line."""
        self._listen_to(event)
        match event:
            case TurnEager():
                self._eager(event)
            case TurnCommitted():
                self._commit(event)
            case TurnWithdrawn():
                self._withdraw()
            case BargeIn():
                self._cancel()
                if self._memory.state and not self._memory.later:  # he has cut that short
                    self._forget_later()
            case Digit():
                self._digit(event.digit)
            case Heard(text=text) if text:
                self._memory.remember(Entry("agent", text))
            case NoInput():
                self._begin(Said("silence", count=event.count, last=event.last))
            case ToolResult():
                self._tool_result(event)
            case Told(text):
                self._memory.remember(Entry("event", text))
                talks = self._context is not None and TALK_NOTE in self._context.notes
                self._begin(Said("answered", text) if talks else Said("failed", "transfer"))
            case Speak(text):
                self._begin(Say(text))
            case _:
                pass

    async def close(self) -> None:
        """Stop whatever is in the making."""
        self._cancel()
        if self._listening is not None:
            await self._listening.close()
        self._context = None
        self._hearing.forget()

    # The caller's words ---------------------------------------------------------------------------

    def _listen_to(self, event: CallEvent) -> None:
        if self._listening is None:
            return
        match event:
            case SpeechStarted(at_ms):
                self._listening.started(at_ms)
            case TurnPausing(turn, start_ms, end_ms):
                self._pause = event if self._settings.begin == "pause" else None
                self._listening.pausing(turn, start_ms, end_ms)
                if self._listening.last is not None:
                    self._guess(self._listening.last)
            case TurnCommitted():
                self._pause = None
                self._listening.ended()

    def _glimpsed(self, found: Glimpse) -> None:
        """Words of somebody who may not be done."""
        if self._context is None:
            return
        understood = self._understood(found.text)
        self._gone_on(found)
        self._read_better(found, understood)
        self._context.emit(
            CallerText(
                found.text, False, found.turn, found.until_ms, understood=understood, hum=found.hum
            )
        )
        self._guess(found)

    def _gone_on(self, found: Glimpse) -> None:
        """Give up the answer that was begun in a pause, if there are more words by now."""
        reply = self._reply
        if reply is None or not reply.hasty or reply.words is None:
            return
        more = words(found.text) != words(reply.words.text)
        if more and found.until_ms > reply.hasty + GONE_ON_MS:
            self._cancel()

    def _guess(self, found: Glimpse) -> None:
        """Words up to about a pause: a whole sentence may be all that the caller has to say."""
        pause, context, reply = self._pause, self._context, self._reply
        if pause is None or context is None or not pause.turn:
            return
        lacks_ms = 0 if isinstance(self._brain, Model) else GUESS_MS
        if found.start_ms != pause.start_ms or found.until_ms < pause.end_ms - lacks_ms:
            return
        sure = found.holds(pause.start_ms, pause.end_ms)
        if sure:
            self._pause = None
        event = TurnEager(pause.turn, pause.start_ms, pause.end_ms)
        if reply is not None and reply.event == event and not reply.opened.is_set():
            if sure and reply.words is not None and words(found.text) == words(reply.words.text):
                reply.guess = False
            return
        if self._whole(found.text) and not (reply is not None and reply.speaking):
            self._begin(event, guess=None if sure else found, hasty=pause.end_ms)

    def _understood(self, text: str) -> float | None:
        if not text or isinstance(self._brain, Model):
            return None
        return self._brain.understands(text, self._memory.brains)

    def _read_better(self, found: Glimpse, understood: float | None) -> None:
        """What an answer is being prepared to reads better now: that is answered."""
        reply = self._reply
        if reply is None or reply.event is None or reply.words is None or reply.opened.is_set():
            return
        old = reply.words
        same = found.start_ms == old.start_ms and found.until_ms > old.until_ms
        if not same or found.text in ("", old.text):
            return
        if isinstance(self._brain, Model):
            better = self._surpasses(found, old, reply.event)
        else:
            before = self._understood(old.text)
            better = before is None or understood is None or understood > before
        if better:
            self._begin(reply.event, hasty=reply.hasty)

    def _surpasses(self, found: Glimpse, old: Glimpse, turn: TurnEager) -> bool:
        """Whether a model had better begin anew, which costs what it has thought: where the old
        words lack some of his voice, or aren't a whole sentence and the new ones are. Of two
        readings of the same voice neither is right more often."""
        if words(found.text) and words(found.text) == words(old.text):
            return False
        if not old.text or not old.holds(turn.start_ms, turn.end_ms):
            return True
        return self._whole(found.text) and not self._whole(old.text)

    def _whole(self, text: str) -> bool:
        language = self._context.agent.language if self._context is not None else ""
        return judge(text, "", None, language) is Completeness.COMPLETE

    # Replies --------------------------------------------------------------------------------------

    def _begin(
        self,
        what: Said | Say | TurnEager | TurnCommitted,
        resume: Resume | None = None,
        guess: Glimpse | None = None,
        hasty: int = 0,
    ) -> None:
        self._cancel()
        if self._context is None:
            return
        turn = what if isinstance(what, TurnEager | TurnCommitted) else None
        eager = TurnEager(turn.turn, turn.start_ms, turn.end_ms) if turn else None
        reply = self._reply = Reply(self._context.emit, eager)
        reply.guess, reply.words, reply.hasty = guess is not None, guess, hasty
        if eager is not None:
            self._memory.mark()
        else:
            self._memory.stand()
        if not isinstance(what, TurnEager):
            reply.opened.set()
        if not hasty:
            reply.likely.set()
        said = what if isinstance(what, Said | Say) else None
        reply.task = self._context.tasks.create_task(
            self._answer(self._context, reply, said, resume)
        )

    def _eager(self, event: TurnEager) -> None:
        reply = self._reply
        if reply is not None and reply.event == event and not reply.opened.is_set():
            reply.hasty = 0
            reply.likely.set()
        elif self._settings.begin != "end":
            self._begin(event)

    def _commit(self, event: TurnCommitted) -> None:
        reply = self._reply
        eager = TurnEager(event.turn, event.start_ms, event.end_ms)
        waits = reply is not None and reply.event == eager and not reply.opened.is_set()
        if waits and reply is not None and not reply.guess:
            reply.hasty = 0
            reply.open()
        else:
            self._begin(event)

    def _withdraw(self) -> None:
        self._cancel()
        self._memory.take_back()

    def _cancel(self) -> None:
        if self._reply is not None:
            self._reply.cancel()
            self._reply = None

    async def _answer(
        self, context: Context, reply: Reply, what: Said | Say | None, resume: Resume | None
    ) -> None:
        try:
            if what is None:
                assert reply.event
                what = await self._listen(reply, reply.event)
            if what is not None:
                await self._answering.speak(context, reply, what, resume)
            reply.give(ReplyDone())
        except EngineError as error:
            if self._reply is not reply:  # it was given up, and failed over that
                log.debug("a part that nobody waits for failed: %s", error)
                return
            await reply.opened.wait()  # what fails before may come to nothing
            raise

    async def _listen(self, reply: Reply, turn: TurnEager) -> Said | None:
        assert self._listening
        if reply.guess and reply.words is not None:
            found = reply.words
        else:
            found = reply.words = await self._listening.words(turn.turn, turn.start_ms, turn.end_ms)
        text = found.text
        reply.stamp(heard=found.heard, transcript=found.known)
        reply.give(CallerText(text, True, turn.turn))
        if not text:
            return None
        note = self._context.notes.get(TALK_NOTE) if self._context else None
        if note and not isinstance(self._brain, Model):
            return Said("answered", note, said=text)
        return Said("words", text)

    # A call that is taken up, keys, tools --------------------------------------------------------

    async def _recall(self) -> None:
        if not isinstance(self._brain, Model):
            asked = sentences(self._context.agent.go_on)[-1:] if self._context else []
            await self._memory.recall(self._brain, self._memory.history, *(asked or [""]))

    def _go_on(self, resume: Resume) -> None:
        """Say what is missing of the reply under way."""
        assert self._context
        for digit in resume.digits:
            self._digit(digit)
        last = self._memory.history[-1].role if self._memory.history else ""
        silent = not resume.replying and not (resume.owed and last == "caller")
        model = isinstance(self._brain, Model)
        for call, result in resume.tools:
            if result is None and (silent or not model):
                self._uses.known(call)
            elif result is not None and model:
                self._memory.remember(used(call, result.ok, result.value))
        left = self._question_left(resume) if self._memory.later else None
        if self._memory.later and (silent or left is not None):
            self._context.emit(Expect("yes-no"))
        if silent:
            return
        if left is not None:
            self._begin(Say(left))
            return
        spoken = [e for e in self._memory.history if e.role in ("caller", "dtmf")]
        if spoken:
            said = Said("words" if spoken[-1].role == "caller" else "digits", spoken[-1].text)
            self._begin(said, resume)
        else:
            self._begin(Say(self._context.greeting), resume)

    def _question_left(self, resume: Resume) -> str | None:
        """What is missing of the question whether to go on; None: it wasn't begun."""
        assert self._context
        question = sentences(self._context.agent.go_on)
        for n in range(len(question), 0, -1):
            if resume.given[-n:] == tuple(question[:n]):
                return " ".join([resume.rest, *question[n:]]).strip()
        return None

    def _forget_later(self) -> None:
        if self._context is not None:
            self._context.emit(State(self._memory.put_off([])))

    def _digit(self, digit: str) -> None:
        self._digit_ms = self._hearing.end_ms
        if digit == "#":
            if self._digits:
                self._number()
        elif len(self._digits) < MAX_DIGITS:
            self._digits += digit

    def _number(self) -> None:
        digits, self._digits = self._digits, ""
        self._begin(Said("digits", digits))

    def _tool_result(self, event: ToolResult) -> None:
        call = self._uses.told(event)
        if call is None or (not event.ok and event.value == "interrupted"):
            return
        if isinstance(self._brain, Model):
            self._memory.remember(used(call, event.ok, event.value))
            if not event.ok and not (self._reply and self._reply.speaking):
                self._begin(Said("failed", call.name))
        elif not event.ok:
            self._begin(Said("failed", call.name))
        elif call.name == "transfer" and event.value:  # whom it rang hears it now
            self._begin(Said("answered", str(event.value)))
        elif call.name == "take_back":
            self._begin(Said("failed", "transfer"))
        elif self._waits_for(call.name):
            self._begin(Said("done", call.name, value=event.value))

    def _waits_for(self, tool: str) -> bool:
        brain = self._brain
        return isinstance(brain, Personal) and brain.waits_for(tool, self._memory.brains)
