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

A closed reply stops before its second sentence, so that a pause in the caller's sentence costs one
transcription and one sentence at most. No tool is called before a reply is open, because a call is
given like everything else. A language model's reply goes on when its tools are done: what they gave
is a line of the conversation, which it is asked to go on with.

Each sentence is an item of its own, so that what was heard is exact at every sentence's end.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from bridge.dialog.completeness import Completeness, judge
from bridge.engines.base import (
    Audio,
    BargeIn,
    CallerText,
    CallEvent,
    Context,
    Digit,
    Entry,
    Expect,
    Filler,
    Heard,
    ItemDone,
    NoInput,
    Pcm,
    ReplyDone,
    Resume,
    SpeechStarted,
    Text,
    ToolResult,
    TurnCommitted,
    TurnEager,
    TurnPausing,
    TurnWithdrawn,
    Words,
)
from bridge.engines.english import words, yes_or_no
from bridge.engines.hearing import Hearing
from bridge.engines.listening import (
    POST_ROLL_MS,
    PRE_ROLL_MS,
    TAIL_MS,
    Glimpse,
    Listener,
    Listening,
)
from bridge.engines.parts import (
    Began,
    Brain,
    Do,
    Model,
    Remember,
    Said,
    Say,
    Step,
    StreamingStt,
    Stt,
    Tts,
)
from bridge.engines.prompt import Used, used
from bridge.engines.reply import Reply
from bridge.engines.sentences import sentences
from bridge.engines.talk import as_given, lines
from bridge.engines.uses import Uses
from bridge.errors import EngineError

log = logging.getLogger(__name__)

MAX_TURN_MS = 30_000
"""Of a longer turn only the end is transcribed."""

AHEAD_MS = 1000
"""Audio that a closed reply may hold; the rest comes when there is room for it."""

SAY_AGAIN = "Say that again."
"""What a caller asks the brain who wants to go on where they were."""

GUESS_MS = 80
"""Of his last voice that a transcript may lack which is taken for all that he said, until the next
one has confirmed it."""

GONE_ON_MS = 350
"""Behind a pause in which an answer was begun, other words show that it was no turn's end."""

MAX_DIGITS = 32
MAX_HISTORY = 200
MAX_ROUNDS = 5
"""How often a model may call tools in one reply."""


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
        self._context: Context | None = None
        self._reply: Reply | None = None
        self._before: tuple[Any, list[Entry]] | None = None  # to go back to on withdrawal
        self._pause: TurnPausing | None = None  # whose words aren't known yet
        self._memory: Any = None
        self._history: list[Entry] = []
        self._digits = ""
        self._digit_ms = 0
        self._rejoining = False  # the caller hasn't said yet whether to go on
        self._uses = Uses()

    # The port -------------------------------------------------------------------------------------

    async def start(self, context: Context) -> None:
        """Greet, unless the conversation goes on where another process left it."""
        self._context = context
        parts = self._hearing, context.tasks, self._glimpsed, self._clock
        if isinstance(self._stt, StreamingStt):
            self._listening = await self._stt.listen(*parts)
        else:
            self._listening = Listening(self._stt, *parts)
        self._history = list(context.history)
        if context.agent.fillers:
            context.tasks.create_task(self._give_fillers(context), name="fillers")
        if context.rejoin:
            await self._recall()
            self._rejoining = not isinstance(self._brain, Model)
            self._begin(Say(context.rejoin))
        elif context.history or context.resume is not None:
            await self._recall()
            if context.resume is not None:
                self._go_on(context.resume)
        elif context.agent.greeting:
            self._begin(Say(context.agent.greeting))

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
            case Digit():
                self._digit(event.digit)
            case Heard(text=text) if text:
                self._remember_line(Entry("agent", text))
            case NoInput():
                self._begin(Said("silence", count=event.count, last=event.last))
            case ToolResult():
                self._tool_result(event)
            case _:
                pass

    async def close(self) -> None:
        """Stop whatever is in the making."""
        self._cancel()
        if self._listening is not None:
            await self._listening.close()
        self._context = None

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
        if found.start_ms != pause.start_ms or found.until_ms < pause.end_ms - GUESS_MS:
            return
        sure = found.until_ms >= pause.end_ms + TAIL_MS
        if sure:
            self._pause = None
        event = TurnEager(pause.turn, pause.start_ms, pause.end_ms)
        if reply is not None and reply.event == event and not reply.opened.is_set():
            if sure and reply.words is not None and words(found.text) == words(reply.words.text):
                reply.guess = False
            return
        whole = judge(found.text, "", None, context.agent.language) is Completeness.COMPLETE
        if whole and not (reply is not None and reply.speaking):
            self._begin(event, guess=None if sure else found)
            assert self._reply is not None
            self._reply.hasty = pause.end_ms

    def _understood(self, text: str) -> float | None:
        if not text or isinstance(self._brain, Model):
            return None
        return self._brain.understands(text, self._memory)

    def _read_better(self, found: Glimpse, understood: float | None) -> None:
        """What an answer is being prepared to reads better now: that is answered."""
        reply = self._reply
        if reply is None or reply.event is None or reply.words is None or reply.opened.is_set():
            return
        old = reply.words
        same = found.start_ms == old.start_ms and found.until_ms > old.until_ms
        if same and found.text not in ("", old.text):
            before = self._understood(old.text)
            if before is None or understood is None or understood > before:
                self._begin(reply.event)
                assert self._reply is not None
                self._reply.hasty = reply.hasty

    # Replies --------------------------------------------------------------------------------------

    def _begin(
        self,
        what: Said | Say | TurnEager | TurnCommitted,
        resume: Resume | None = None,
        guess: Glimpse | None = None,
    ) -> None:
        self._cancel()
        if self._context is None:
            return
        turn = what if isinstance(what, TurnEager | TurnCommitted) else None
        eager = TurnEager(turn.turn, turn.start_ms, turn.end_ms) if turn else None
        reply = self._reply = Reply(self._context.emit, eager)
        reply.guess, reply.words = guess is not None, guess
        self._before = (self._memory, list(self._history)) if eager else None
        if not isinstance(what, TurnEager):
            reply.opened.set()
        said = what if isinstance(what, Said | Say) else None
        reply.task = self._context.tasks.create_task(
            self._answer(self._context, reply, said, resume)
        )

    def _eager(self, event: TurnEager) -> None:
        reply = self._reply
        if reply is not None and reply.event == event and not reply.opened.is_set():
            reply.hasty = 0
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
        if self._before:
            self._memory, before = self._before
            # What was heard, and done, has been, whoever takes back what.
            known = {id(entry) for entry in before}
            since = [
                entry
                for entry in self._history
                if id(entry) not in known and (entry.role == "agent" or isinstance(entry, Used))
            ]
            self._history = (before + since)[-MAX_HISTORY:]
            self._before = None

    def _cancel(self) -> None:
        if self._reply and self._reply.task:
            self._reply.task.cancel()
        self._reply = None

    async def _answer(
        self, context: Context, reply: Reply, what: Said | Say | None, resume: Resume | None
    ) -> None:
        try:
            if what is None:
                assert reply.event
                what = await self._listen(reply, reply.event)
            if what is not None:
                await self._speak(context, reply, what, resume)
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
        return Said("words", text) if text else None

    async def _speak(
        self, context: Context, reply: Reply, what: Said | Say, resume: Resume | None
    ) -> None:
        """Say it; of a reply that another process began, what is missing of it."""
        if resume is not None and resume.rest:
            await self._say(context, reply, resume.rest, 0)
        if isinstance(what, Said) and isinstance(self._brain, Model):
            await self._converse(context, reply, self._brain, what, resume)
        else:
            given = resume.given if resume is not None else ()
            await self._perform(context, reply, self._steps(reply, what, resume), given)

    async def _perform(
        self,
        context: Context,
        reply: Reply,
        steps: AsyncIterator[Step],
        given: Sequence[str] = (),
    ) -> None:
        """Take the steps of an answer, whose first sentences have been `given` already."""
        left = list(given)
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(steps, AsyncGenerator):
                await stack.enter_async_context(contextlib.aclosing(steps))
            async for step in steps:
                match step:
                    case Began():
                        reply.stamp(first_token=self._clock())
                    case Say():
                        reply.stamp(first_token=self._clock())
                        for sentence in sentences(step.text):
                            if left:
                                if left.pop(0) != sentence:
                                    return  # that reply was about something else: it has been said
                            else:
                                if reply.spoken:
                                    await reply.opened.wait()
                                await self._say(context, reply, sentence, reply.spoken)
                            reply.spoken += 1
                    case Do():
                        self._do(reply, step)
                    case Remember():
                        reply.give(partial(self._keep_memory, step.memory))
                    case Expect():
                        reply.give(step)

    async def _steps(
        self, reply: Reply, what: Said | Say, resume: Resume | None
    ) -> AsyncIterator[Step]:
        """A brain's answer."""
        if isinstance(what, Say):
            yield what
            return
        assert not isinstance(self._brain, Model)
        history = tuple(self._history)
        if resume is None:
            self._note(reply, what)
        if self._rejoining and what.kind == "words":
            reply.give(self._rejoined)
            match yes_or_no(what.text):
                case True:
                    what = Said("words", SAY_AGAIN)
                case False:
                    reply.give(self._forget)
                    yield Say(self._context.agent.greeting if self._context else "")
                    return
        async for step in self._brain.think(what, self._memory, history):
            yield step

    async def _converse(
        self, context: Context, reply: Reply, model: Model, said: Said, resume: Resume | None
    ) -> None:
        """A model's answer, tools and all."""
        if resume is None:
            history = [*self._history, *lines(said)]
            self._note(reply, said)
        else:
            for call, result in resume.tools:
                if result is None:  # it isn't run twice, and we are told its result
                    self._do(reply, Do(call.name, call.arguments))
            await self._uses.over(reply.calls)
            reply.calls.clear()
            history = as_given(self._history, resume)
        for _ in range(MAX_ROUNDS):
            await self._perform(context, reply, model.answer(context, history))
            if not reply.calls:
                return
            await reply.opened.wait()
            await self._uses.over(reply.calls)
            reply.calls.clear()
            history = list(self._history)
        log.warning("the model has called tools %d times without an end", MAX_ROUNDS)

    async def _say(self, context: Context, reply: Reply, sentence: str, spoken: int) -> None:
        item = context.new_item()
        reply.give(Text(item, sentence))
        if spoken:
            gap = self.rate * self._settings.sentence_gap_ms // 1000
            reply.give(Audio(item, np.zeros(gap, np.int16), silence=True))
        ahead = 0
        async for pcm in self._tts.say(sentence, first=not spoken):
            if ahead * 1000 >= AHEAD_MS * self.rate:
                await reply.opened.wait()
            if reply.opened.is_set():
                await context.room()
            reply.stamp(first_audio=self._clock())
            if not ahead and (marks := self._tts.words(sentence)):
                reply.give(Words(item, marks))
            reply.give(Audio(item, pcm))
            ahead += len(pcm)
        reply.give(ItemDone(item))

    def _do(self, reply: Reply, step: Do) -> None:
        call = self._uses.call(step)
        reply.calls.append(call.id)
        if step.fault:
            self._uses.told(ToolResult(call.id, False, step.fault))
            reply.give(partial(self._remember_line, used(call, False, step.fault)))
        else:
            reply.give(call)

    # What stays -----------------------------------------------------------------------------------

    def _rejoined(self) -> None:
        self._rejoining = False

    def _forget(self) -> None:
        """The caller wants to begin anew."""
        self._memory, self._history = None, []

    def _keep_memory(self, memory: Any) -> None:
        self._memory = memory

    def _note(self, reply: Reply, said: Said) -> None:
        """What the caller said becomes a line of the conversation, if it stands."""
        for entry in lines(said):
            if entry.role != "event":
                reply.give(partial(self._remember_line, entry))

    def _remember_line(self, entry: Entry) -> None:
        self._history.append(entry)
        del self._history[:-MAX_HISTORY]

    async def _recall(self) -> None:
        """Think the caller's lines through again, for the memory that comes of it."""
        if isinstance(self._brain, Model):
            return
        for n, entry in enumerate(self._history):
            if entry.role in ("caller", "dtmf"):
                said = Said("words" if entry.role == "caller" else "digits", entry.text)
                async for step in self._brain.think(said, self._memory, self._history[:n]):
                    if isinstance(step, Remember):
                        self._memory = step.memory

    def _go_on(self, resume: Resume) -> None:
        """Say what is missing of the reply under way."""
        assert self._context
        for digit in resume.digits:
            self._digit(digit)
        last = self._history[-1].role if self._history else ""
        silent = not resume.replying and not (resume.owed and last == "caller")
        model = isinstance(self._brain, Model)
        for call, result in resume.tools:
            if result is None and (silent or not model):
                self._uses.known(call)
            elif result is not None and model:
                self._remember_line(used(call, result.ok, result.value))
        if silent:
            return
        spoken = [e for e in self._history if e.role in ("caller", "dtmf")]
        if spoken:
            said = Said("words" if spoken[-1].role == "caller" else "digits", spoken[-1].text)
            self._begin(said, resume)
        else:
            self._begin(Say(self._context.agent.greeting), resume)

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
            self._remember_line(used(call, event.ok, event.value))
            if not event.ok and not (self._reply and self._reply.speaking):
                self._begin(Said("failed", call.name))
        elif not event.ok:
            self._begin(Said("failed", call.name))
