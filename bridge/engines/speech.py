"""Speech to speech: a call, and one connection to a vendor's spoken model.

    call ⇄ SpeechEngine ⇄ Wire (a vendor's protocol; one connection each)

What all vendors have in common is here: items of agent audio by the vendor's names, who has the
floor, keys gathered into one line, tools and their results, the history. A wire says what its
vendor told (methods of the engine), and is told what to do (`Wire`); before the vendor ends it
there is another one (`renewal`).

Theory of operation. The vendor ends the caller's turns (`turns = "engine"`), or the bridge does
(`"bridge"`, for a vendor who lets it). Who may cut the agent short says the agent's `barge_in`:

    engine      the vendor: whatever it takes for speech interrupts (`began`)
    auto        the bridge: a turn that the vendor ends while the agent speaks is answered if the
                bridge makes an interruption of it (`BargeIn`), and forgotten if the agent goes on
    off         nobody: what is long enough is answered when the agent is done

An answer that is due is told as an empty `Text` of its item: from there on the bridge knows that
something is owed, bridges the wait, and takes a vendor that says nothing for lost.

Everything is read as it comes: a vendor's word that the caller speaks stands behind all audio that
was sent before it, so that waiting for room would make an interruption late by seconds. An answer's
length bounds what waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal

from bridge.agent import Agent
from bridge.engines.base import (
    AgentPaused,
    AgentResumed,
    Audio,
    BargeIn,
    CallerText,
    CallEvent,
    Context,
    Digit,
    Entry,
    Heard,
    Interrupt,
    ItemDone,
    NoInput,
    Pcm,
    ReplyDone,
    Resume,
    Speak,
    SpeechStarted,
    State,
    Text,
    Told,
    ToolCall,
    ToolResult,
    TurnCommitted,
    TurnWithdrawn,
)
from bridge.engines.functions import declared
from bridge.engines.hearing import Hearing
from bridge.engines.items import Items
from bridge.engines.prompt import assembler
from bridge.engines.renewal import Sessions
from bridge.engines.wire import Past, SpeechSettings, Wire

MAX_DIGITS = 32
MAX_HISTORY = 400
KEEP_MS, PRE_ROLL_MS = 30_000, 300
"""Of the caller's audio, where turns are the bridge's: kept, and sent from before he spoke."""

LONG = (
    "Where there is more to say than fits into {most_s} seconds of speech, stop before, and ask "
    "whether you shall go on."
)
"""Nobody but the vendor knows where its sentences end, and what it will say next."""

SAY = 'Say exactly this to the caller, in these words, and nothing else: "{text}"'
SILENT = "[The caller has been silent for a while. Ask him briefly whether he is still there.]"
SILENT_LAST = "[The caller still says nothing. Say goodbye: the call ends after that.]"
GO_ON = (
    "[The line failed for a moment while you were answering. The caller has heard this of your "
    'answer: "{given}". Go on exactly where it breaks off{rest}, without a word about the failure.]'
)
REST = ', with the words "{rest}"'
ANSWER = "[The line failed for a moment. Answer what the caller said last, and don't mention it.]"
KEYS = "[The caller pressed the keys {digits}.]"
TOOL = "[The tool {name} that you called before the line failed, has ended: {value}]"


class SpeechEngine:
    """One call's conversation with a spoken model."""

    def __init__(
        self,
        agent: Agent,
        settings: SpeechSettings,
        make_wire: Callable[[SpeechEngine], Wire],
        rate: int,
        turns: Literal["bridge", "engine"] = "engine",
        *,
        interrupts: bool,
    ) -> None:
        """Nothing happens before `start`.

        Args:
            agent: the agent.
            settings: the common part of its engine's table.
            make_wire: makes a connection, not opened yet; it may ask for `context`.
            rate: see `Engine.rate`.
            turns: who ends the caller's turns.
            interrupts: the vendor interrupts and answers by itself, and can't be told otherwise.
        """
        self.rate, self.turns = rate, turns
        self.uplink_chunk_ms = settings.uplink_chunk_ms
        self.context: Context
        self._settings = settings
        self._sessions = Sessions(
            self, lambda: make_wire(self), self._past, settings.connect_timeout_s
        )
        self._interrupts, self._off = interrupts, agent.turns.barge_in == "off"
        self._long_ms = agent.turns.min_speech_while_speaking_ms
        self._history: deque[Entry] = deque(maxlen=MAX_HISTORY)
        self.lines = 0
        """Of the conversation so far."""
        self._state: dict[str, Any] = {}
        self._fresh = False  # nothing has been asked since that state was given
        self._now_ms = 0
        self._items = Items()
        self._hearing = Hearing(rate, KEEP_MS) if turns == "bridge" else None
        self._turn_open = False  # the caller's turn was begun, where the bridge ends it
        self._foreign: set[str] = set()  # calls that an earlier connection was asked for
        self._uncalled: deque[str] = deque(maxlen=100)
        self._reserved: int | None = None  # for the answer that is due
        self._active = False  # the vendor is making an answer
        self._calls: dict[str, str] = {}  # tool calls without a result: their names
        self._speaks = False  # the caller, to the vendor
        self._paused = False  # the bridge hasn't decided whether he interrupts
        self._unanswered: Literal["", "pending", "later"] = ""
        self._said = ""  # by the caller, and not answered
        self._digits, self._digit_ms = "", 0

    # The port -------------------------------------------------------------------------------------

    @property
    def speaks(self) -> bool:
        """Whether its vendor can be told what to say."""
        return getattr(self._sessions.wire, "speaks", self._sessions.wire is not None)

    async def start(self, context: Context) -> None:
        """Connect and begin: greet, or go on. Raises `EngineError`."""
        self.context = context
        resume = context.resume
        if resume is not None:
            self._state = dict(resume.state)
        for entry in context.history:
            self._note(entry)
        wire = await self._sessions.begin()
        if resume is not None:
            self._go_on(wire, resume)
        elif context.rejoin or (context.greeting and not context.history):
            self._due()
            wire.say(context.rejoin or context.greeting)

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """The caller's audio, which is also the clock."""
        self._now_ms = at_ms
        wire = self._sessions.wire
        if wire is None:
            return
        if self._hearing is not None:
            self._hearing.put(at_ms, pcm)
        if self._hearing is None or self._turn_open:
            wire.hear(pcm)
        if self._digits and at_ms - self._digit_ms >= self._settings.inter_digit_ms:
            self._number()
        self._sessions.pass_time(at_ms)

    def notify(self, event: CallEvent) -> None:
        """What happens on the line."""
        wire = self._sessions.wire
        if wire is None:
            return
        match event:
            case Heard():
                self._was_heard(wire, event)
            case BargeIn(start_ms, at_ms):
                self._cut_short(wire)
                if start_ms < at_ms:  # by speech
                    self._begin(wire, start_ms)
            case TurnWithdrawn():
                self._cut_short(wire)
            case Digit(digit):
                self._digit(digit)
            case ToolResult():
                self._result(wire, event)
            case Told(text):
                self._due()
                wire.tell(f"[{text}]", answer=True)
            case Speak(text):
                self._cut_short(wire)
                self._due()
                wire.say(text)
            case NoInput(last=last):
                self._due()
                wire.tell(SILENT_LAST if last else SILENT, answer=True)
            case _:
                self._floor(wire, event)

    def _floor(self, wire: Wire, event: CallEvent) -> None:
        match event:
            case AgentPaused():
                self._paused = True
            case AgentResumed():
                self._paused = False
                if self._unanswered == "pending":
                    self._unanswered = ""
            case SpeechStarted(at_ms) if not self._items.open:
                self._begin(wire, at_ms)
            case TurnCommitted(start_ms=start_ms):
                self._begin(wire, start_ms)
                self._turn_open = False
                self._due()
                wire.answer()
            case _:
                pass

    async def close(self) -> None:
        """Close the connection; idempotent."""
        await self._sessions.close()
        if self._hearing is not None:
            self._hearing.forget()

    # What the vendor tells ------------------------------------------------------------------------

    def began(self) -> None:
        """The caller speaks."""
        self._speaks = True
        self._unanswered = ""
        if self._items.open:
            if self._interrupts:
                self.interrupted()
        elif self._active or self._reserved is not None:
            # Nothing of the answer can be heard yet: he goes on with his turn.
            self._drop()
            self.context.emit(ReplyDone())
            if self._sessions.wire is not None and not self._interrupts:
                self._sessions.wire.stop()

    def ended(self, speech_ms: int) -> None:
        """His turn is over, after so much of speech. The vendor answers only where it interrupts by
        itself; else it is told to."""
        self._speaks = False
        if self._interrupts or not self._items.open:
            self._answer()
        elif self._paused:
            self._unanswered = "pending"
        elif speech_ms >= self._long_ms:
            self._unanswered = "later"

    def interrupted(self) -> None:
        """The vendor says no more of its answer, because the caller speaks."""
        if self._items.open and not self._off:
            self._drop()
            self.context.emit(Interrupt())

    def replying(self) -> None:
        """The vendor begins an answer."""
        self._active = True

    def audio(self, item: str, pcm: Pcm) -> None:
        """Agent audio, int16 (n,), of an item of the vendor's."""
        own = self._item(item)
        if own is not None and len(pcm):
            self._said = ""
            self._items.samples[own] += len(pcm)
            self.context.emit(Audio(own, pcm))

    def text(self, item: str, text: str) -> None:
        """What the agent says."""
        own = self._item(item)
        if own is not None and text:
            self.context.emit(Text(own, text))

    def item_done(self, item: str) -> None:
        """The item's audio is complete."""
        own = self._items.begun.get(item)
        if own is not None and own not in self._items.done:
            self._items.done.add(own)
            self.context.emit(ItemDone(own))

    def replied(self, *, more: bool = False) -> None:
        """The vendor's answer is complete, but for awaited results of tools, and for `more`."""
        self._active = False
        for item in list(self._items.begun):
            self.item_done(item)
        if not (self._calls or more):
            self._said, self._reserved = "", None
            self.context.emit(ReplyDone())

    def caller_said(self, text: str) -> None:
        """The caller's words, once they are final."""
        if text := text.strip():
            self._fresh = False
            self._note(Entry("caller", text))
            self._said = f"{self._said} {text}".strip()
            self.context.emit(CallerText(self._said, final=True))
            waits = self._speaks or self._turn_open or self._calls or self._reserved is not None
            if not (waits or self._active):
                self.context.emit(ReplyDone())  # it was answered before its words were known

    def called(self, call: str, name: str, arguments: Mapping[str, Any]) -> None:
        """The vendor wants a tool to be run."""
        self._calls[call] = name
        self.context.emit(ToolCall(call, name, arguments))

    def uncalled(self, call: str) -> None:
        """It doesn't want it any more, and no result either."""
        self._calls.pop(call, None)
        self._uncalled.append(call)

    def remember(self, **state: Any) -> None:
        """What a later connection to the vendor needs."""
        self._fresh = True
        self._state = {**state, "lines": self.lines}
        self.context.emit(State(self._state))

    def renew_soon(self) -> None:
        """The vendor is about to end the session."""
        self._sessions.renew_soon()

    # Going on -------------------------------------------------------------------------------------

    async def _past(self) -> Past:
        """What a connection begins with."""
        context = self.context
        assemble = assembler(self._settings.context, f"engine '{context.agent.engine}'")
        told = self._settings.instructions
        if most_s := context.agent.max_reply_s:
            told = f"{told}\n\n{LONG.format(most_s=most_s)}".strip()
        messages = await assemble(context, told, tuple(self._history))
        return Past(messages, declared(context.agent), self._state, self.lines)

    def changed_over(self) -> None:
        """Another connection goes on."""
        self._items = Items()  # a session has names of its own

    @property
    def quiet(self) -> bool:
        """Whether nobody speaks, and nothing is due."""
        due = self._active or self._reserved is not None or self._calls or self._unanswered
        return not (due or self._items.open or self._speaks or self._turn_open or self._digits)

    def _go_on(self, wire: Wire, resume: Resume) -> None:
        """Where another process, or connection, left it."""
        for digit in resume.digits:
            self._digit(digit)
        for call, result in resume.tools:
            if result is None:
                self._calls[call.id] = call.name
                self._foreign.add(call.id)
            else:
                wire.tell(TOOL.format(name=call.name, value=result.value), answer=False)
        given = " ".join(resume.given).strip()
        last = self._history[-1].role if self._history else ""
        if resume.replying and given:
            rest = REST.format(rest=resume.rest) if resume.rest else ""
            self._due()
            wire.tell(GO_ON.format(given=given, rest=rest), answer=True)
        elif resume.replying and not self._history and self.context.greeting:
            self._due()
            wire.say(self.context.greeting)
        elif resume.replying or (resume.owed and last in ("caller", "dtmf")):
            self._due()
            wire.tell(ANSWER, answer=True)

    # Who has the floor ----------------------------------------------------------------------------

    def _due(self) -> None:
        """An answer is to come."""
        self._unanswered, self._fresh = "", False
        if self._reserved is None:
            self._reserved = self.context.new_item()
            self.context.emit(Text(self._reserved, ""))

    def _answer(self) -> None:
        self._due()
        if not self._interrupts and self._sessions.wire is not None:
            self._sessions.wire.answer()

    def _begin(self, wire: Wire, start_ms: int) -> None:
        """The caller's turn begins, where the bridge says when it does."""
        if self._hearing is not None and not self._turn_open:
            self._turn_open = True
            wire.begin(self._hearing.cut(start_ms - PRE_ROLL_MS, self._hearing.end_ms))

    def _cut_short(self, wire: Wire) -> None:
        """The bridge has dropped what isn't played yet."""
        asked, self._unanswered, self._paused = self._unanswered, "", False
        if self._active:
            wire.stop()
        self._drop()
        if asked:
            self._answer()

    def _drop(self) -> None:
        """What was given so far is over; more of it isn't wanted."""
        self._items.drop()
        self._active, self._reserved = False, None

    def _was_heard(self, wire: Wire, heard: Heard) -> None:
        known = self._items.over(heard.item)
        if heard.text:
            self._note(Entry("agent", heard.text))
        if known is not None and heard.cut:
            item, samples = known
            rate = self.rate or self.context.rate
            wire.cut(item, min(heard.heard_ms, samples * 1000 // rate), heard.text)
        if self._fresh and self.quiet and self._state["lines"] != self.lines:
            self.remember(**self._state)  # it knew this answer already
        if self._unanswered == "later" and not self._items.open and not self._speaks:
            self._answer()

    def _item(self, item: str) -> int | None:
        """Ours for the vendor's; None: it was dropped."""
        own = self._items.begun.get(item)
        if own is None and item not in self._items.dropped:
            own, self._reserved = self._reserved or self.context.new_item(), None
            self._items.begin(item, own)
        return own

    # Keys and tools -------------------------------------------------------------------------------

    def _digit(self, digit: str) -> None:
        self._digit_ms = self._now_ms
        if digit == "#" and self._digits:
            self._number()
        elif len(self._digits) < MAX_DIGITS:
            self._digits += digit

    def _number(self) -> None:
        digits, self._digits = self._digits, ""
        self._note(Entry("dtmf", digits))
        if self._sessions.wire is not None:
            if self._active:
                self._sessions.wire.stop()
                for item in list(self._items.begun):
                    self.item_done(item)
            self._due()
            self._sessions.wire.tell(KEYS.format(digits=digits), answer=True)

    def _result(self, wire: Wire, event: ToolResult) -> None:
        name = self._calls.pop(event.id, None)
        if name is None:
            if self.context.resume is None or event.id in self._uncalled:
                return
            name = ""  # the process that asked for it is dead
            self._foreign.add(event.id)
        undone = not event.ok and event.value == "interrupted"
        answer = not (self._calls or undone or self._speaks or self._turn_open)
        if answer:
            self._due()
        if event.id in self._foreign:
            wire.tell(TOOL.format(name=name, value=event.value), answer=answer)
        else:
            wire.result(event.id, name, event.ok, event.value, answer=answer)

    def _note(self, entry: Entry) -> None:
        self._history.append(entry)
        self.lines += 1
