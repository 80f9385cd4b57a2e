"""What passed between a call and its engine, so that another engine can go on in its place.

Pure bookkeeping, of both directions: what the caller said, pressed and heard (the history), what
the engine still owes (a reply that isn't complete, a turn that it hasn't understood yet), and the
caller's audio that may have to be heard again. Time is the caller's audio, ms.

What the agent *owes* decides how one that takes its place begins:

    owes nothing                       history; it waits for the caller
    a turn whose words are not known   history; then hears the turn again and is told of its end
    anything that said nothing yet     history; then is told of it again (silence, failed tool)
    a reply that was begun             history and the texts given: it says what is missing
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bridge.dialog.playout import split_text
from bridge.engines.base import (
    Audio,
    BargeIn,
    CallerText,
    CallEvent,
    Context,
    Digit,
    EngineEvent,
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
    ToolCall,
    ToolResult,
    TurnCommitted,
    TurnWithdrawn,
)

MAX_HISTORY = 400
REPLAY_MS = 15_000
"""Of a long turn only the end is heard again."""
PRE_ROLL_MS = 500
"""Kept while nobody speaks: the detector is late at soft beginnings."""


class Ledger:
    """One call's; `hear`, `told` and `gave` see everything that passes."""

    def __init__(self, context: Context) -> None:
        """Begin as the call does: with nothing, or where another process left it."""
        resume = context.resume
        self.rate = context.rate
        self.now_ms = 0
        self._passed_on_ms = context.now_ms
        self._flow, self._flowed = context.flow, context.flow.total  # so much of it is added up
        self._last = 0  # item of which audio came last
        self.state: Mapping[str, Any] = resume.state if resume else {}
        """What engines want kept, by their agents' names."""
        self._history: deque[Entry] = deque(context.history, maxlen=MAX_HISTORY)
        self._caller = ""  # the words of a turn that may still be withdrawn
        self._given: list[tuple[int, str]] = [(0, text) for text in resume.given] if resume else []
        self._rest = resume.rest if resume else ""
        self._done: set[int] = set()
        self._samples: dict[int, int] = {}
        self._digits = resume.digits if resume else ""
        self._tools = (
            {call.id: call for call, result in resume.tools if not result} if resume else {}
        )
        self._stimulus: CallEvent | None = None
        self._failed: ToolCall | None = None  # if that is the stimulus
        self._speech: SpeechStarted | None = None
        self._audio: deque[tuple[int, Pcm]] = deque()
        last = context.history[-1].role if context.history else ""
        greets = bool(context.rejoin or (not context.history and context.agent.greeting))
        self.owes = resume.replying or (resume.owed and last == "caller") if resume else greets
        """The engine hasn't said all that it has to say."""
        self.keeps_audio = True
        """Whether an engine that takes this one's place may have to hear the caller again."""
        self._progress_ms = 0
        self._audible_ms = 0.0
        self._ends_ms = 0.0  # when all audio will have been played, that of replies done as well

    # What passes ----------------------------------------------------------------------------------

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """The caller's audio, as `Engine.hear` gets it; nobody writes into it any more."""
        self.now_ms = at_ms + len(pcm) * 1000 // self.rate
        if not self.keeps_audio:
            return
        self._audio.append((at_ms, pcm))
        least = self.now_ms - REPLAY_MS
        if self._speech is None:
            least = self.now_ms - PRE_ROLL_MS
        while self._audio and self._audio[0][0] < least:
            self._audio.popleft()

    def told(self, event: CallEvent) -> None:
        """The engine is told this."""
        self._catch_up()
        self._flow.close()
        match event:
            case SpeechStarted():
                self._speech = self._speech or event
            case TurnCommitted():
                self._owe(event)
            case TurnWithdrawn():
                self._caller = ""
                self._owe_nothing()
                self._ends_ms = self.now_ms
            case BargeIn():
                self._settle()
                self._owe_nothing()
                self._ends_ms = self.now_ms
                self._speech = SpeechStarted(event.start_ms)
            case Speak():
                self._settle()
                self._owe(event)
                self._ends_ms = self.now_ms
            case NoInput():
                self._speech = None  # what it was came to nothing
                self._owe(event)
            case Digit(digit):
                self._settle()
                self._digits += digit
                self._note(Entry("dtmf", digit.replace("#", "")))
            case Heard(text=text) if text:
                self._note(Entry("agent", text))
            case ToolResult(ok=ok, value=value):
                call = self._tools.pop(event.id, None)
                if call and not ok and value != "interrupted":
                    self._owe(event)
                    self._failed = call
            case _:
                pass

    def gave(self, event: EngineEvent) -> None:
        """The engine gave this."""
        self._catch_up()
        self._flow.close()
        self._progress_ms = self.now_ms
        match event:
            case Text(item, text):
                self._give(item, text)
            case ItemDone(item):
                self._done.add(item)
            case CallerText(text, True):
                self._caller = text
                self._stimulus, self._digits = None, ""
            case ReplyDone():
                self._settle()
                self._digits = ""
                self._owe_nothing()
            case Interrupt():
                self._owe_nothing()
                self._ends_ms = self.now_ms
            case ToolCall(name=name, arguments=arguments):
                same = [
                    i for i, c in self._tools.items() if (c.name, c.arguments) == (name, arguments)
                ]
                for call_id in same:  # it was asked for again: the first is told nothing
                    del self._tools[call_id]
                self._tools[event.id] = event
            case State(values):
                self.state = {**self.state, **values}
            case _:
                pass

    def said(self, audio: Audio) -> float:
        """The engine gave audio. Returns how much of all that it gave is yet to be played, ms."""
        self._add_up()
        if self._caller or self._speech is not None:
            self._settle()
        return self._said(audio.item, len(audio.pcm), audio.silence)

    def _add_up(self) -> None:
        """All that has flowed counts now."""
        if samples := self._flow.total - self._flowed:
            self._flowed += samples
            self._said(self._last, samples, False)

    def _said(self, item: int, samples: int, silence: bool) -> float:
        now = self._progress_ms = self.now_ms
        self._last = item
        if not silence:
            self._samples[item] = self._samples.get(item, 0) + samples
        ms = samples * 1000 / self.rate
        # Not by max(), which takes five times as long.
        self._audible_ms = (now if now > self._audible_ms else self._audible_ms) + ms  # noqa: FURB136
        self._ends_ms = (now if now > self._ends_ms else self._ends_ms) + ms  # noqa: FURB136
        return self._ends_ms - now

    # What comes of it -----------------------------------------------------------------------------

    @property
    def silent_ms(self) -> int:
        """For how long it has owed something, given nothing, and left the caller in silence."""
        if not self.owes or self._tools:  # a tool's result comes from elsewhere
            return 0
        self._add_up()
        return int(self.now_ms - max(self._progress_ms, self._audible_ms))

    def owes_nothing(self) -> None:
        """Whoever is the engine now speaks when it likes: it isn't asked again."""
        self._owe_nothing()
        self._audio.clear()
        self.keeps_audio = False

    def begin_waiting(self) -> None:
        """A new engine begins: what the last one did is no sign of life."""
        self._catch_up()
        self._flow.close()
        self._progress_ms = self.now_ms
        self.keeps_audio = True

    def history(self) -> tuple[Entry, ...]:
        """The conversation as heard; keys pressed in a row are one line."""
        entries: list[Entry] = []
        for entry in self._history:
            if entry.role == "dtmf" and entries and entries[-1].role == "dtmf":
                entry = Entry("dtmf", entries.pop().text + entry.text)
            entries.append(entry)
        if self._caller:
            entries.append(Entry("caller", self._caller))
        return tuple(entries)

    def resume(self) -> Resume:
        """Where an engine that takes this one's place begins."""
        calls = [*self._tools.values()]
        if isinstance(self._stimulus, ToolResult) and self._failed:
            calls.append(self._failed)
        tools = tuple((call, None) for call in calls)
        resume = Resume(digits=self._digits, owed=False, tools=tools, state=self.state)
        if not self.owes or self._stimulus is not None:
            return resume
        rest = self._rest
        last = self._given[-1][0] if self._given else 0
        if last and not rest and last not in self._done and not self._samples.get(last):
            self._given.pop()  # nothing of it can be heard: it is said anew
        given = [text for _, text in self._given]
        item = self._given[-1][0] if self._given else 0
        if item in self._done:
            rest = ""
        elif queued := self._samples.get(item, 0):
            rest = split_text(self._rest or given[-1], queued * 1000 / self.rate)[1]
        return replace(resume, given=tuple(given), replying=True, rest=rest, digits="")

    def again(self) -> tuple[list[tuple[int, Pcm]], list[CallEvent]]:
        """Audio that such an engine is to hear, and events that it is to be told, after that."""
        events: list[CallEvent] = [self._stimulus] if self._stimulus else []
        turn = self._stimulus if isinstance(self._stimulus, TurnCommitted) else None
        if self._caller or (self._speech is None and turn is None):
            return [], events  # nobody speaks, or the words are known
        starts = [event.at_ms for event in (self._speech,) if event is not None]
        starts += [event.start_ms for event in (turn,) if event is not None]
        audio = [(at, pcm) for at, pcm in self._audio if at >= min(starts) - PRE_ROLL_MS]
        return audio, [*([self._speech] if self._speech else []), *events]

    # How ------------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Frames and audio of which we weren't told have passed."""
        self._add_up()
        if (now_ms := self._passed_on_ms()) > self.now_ms:
            self.now_ms = now_ms

    def _owe(self, event: CallEvent) -> None:
        self._owe_nothing()
        self.owes, self._stimulus = True, event
        self._progress_ms = self.now_ms

    def _owe_nothing(self) -> None:
        self.owes, self._stimulus, self._rest = False, None, ""
        self._given.clear()
        self._done.clear()
        self._samples.clear()
        self._audible_ms = self.now_ms

    def _give(self, item: int, text: str) -> None:
        if self._stimulus is not None or self._digits:  # it is being answered
            self._stimulus, self._digits = None, ""
        self.owes = True
        if self._rest and text == self._rest:  # the end of a text that is in `_given` already
            self._given[-1:] = [(item, self._given[-1][1] if self._given else text)]
        elif self._given and self._given[-1][0] == item:
            self._given[-1] = (item, self._given[-1][1] + text)
        else:
            self._rest = ""
            self._given.append((item, text))

    def _note(self, entry: Entry) -> None:
        if entry.text:
            self._history.append(entry)

    def _settle(self) -> None:
        """The caller's turn is answered: it can't be withdrawn any more."""
        self._note(Entry("caller", self._caller))
        self._caller, self._speech = "", None
