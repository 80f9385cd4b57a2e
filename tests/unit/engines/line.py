"""A telephone line for engines under test: dialog and engine wired as a call wires them, no PBX.

Time is the audio's. `real_time=False` runs as fast as the engine lets it: after each frame every
task that can go on does so. With a real engine, `real_time=True` paces frames by the clock, or
`speed` times as fast.
"""

import asyncio
import time

import numpy as np

from bridge.agent import Agent
from bridge.dialog.completeness import end_silence_ms
from bridge.dialog.playout import Playout
from bridge.dialog.turns import BargeIn, State, TurnCommitted, Turns, TurnWithdrawn
from bridge.engines.base import (
    Audio,
    CallerText,
    Context,
    Digit,
    Expect,
    Failed,
    Filler,
    Interrupt,
    ItemDone,
    Mark,
    Marked,
    Note,
    ReplyDone,
    Text,
    Timing,
    ToolCall,
)
from bridge.engines.base import State as Kept

_HELD_UP_S = 0.02


class Line:
    """One call. What the caller hears is in `played`, what happened in `log`."""

    def __init__(
        self,
        engine,
        agent=None,
        history=(),
        real_time=False,
        line_rate=8000,
        speed=1.0,
        **context,
    ):
        self.engine = engine
        self.speed = speed
        self.context = context
        self.agent = agent or Agent("test")
        self.history = history
        self.real_time = real_time
        self.rate = engine.rate or line_rate
        self.frame = self.rate // 50
        self.turns = Turns(self.agent.turns, engine.turns)
        self.playout = Playout(self.rate)
        self.at_ms = 0
        self.log = []
        self.heard = []
        self.played = []
        self._queue = []
        self._counts = {}
        self._was_playing = False
        self._expected = ""

    async def __aenter__(self):
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        context = Context(
            call_id="call-1",
            agent=self.agent,
            caller_number="100",
            rate=self.rate,
            emit=self._emit,
            new_item=self.playout.new_item,
            room=self._room,
            tasks=self._group,
            history=self.history,
            **self.context,
        )
        await self.engine.start(context)
        self._started = time.perf_counter() - self.at_ms / 1000 / self.speed
        return self

    async def __aexit__(self, *error):
        await self.engine.close()
        await self._group.__aexit__(*error)

    # The caller -------------------------------------------------------------------------------

    async def speak(self, pcm):
        """The caller says this (int16 at the engine's rate)."""
        for start in range(0, len(pcm), self.frame):
            part = pcm[start : start + self.frame]
            part = np.pad(part, (0, self.frame - len(part)))
            await self.step(part, float(np.sqrt(np.mean(part.astype(float) ** 2))) > 200)

    async def tone(self, ms):
        """The caller makes a noise that is speech to the detector."""
        for _ in range(ms // 20):
            await self.step(np.full(self.frame, 1000, np.int16), True)

    async def silence(self, ms):
        """The caller says nothing."""
        for _ in range(ms // 20):
            await self.step(np.zeros(self.frame, np.int16), False)

    async def until(self, happened, at_most_ms=20_000):
        """Silence until something holds."""
        end = self.at_ms + at_most_ms
        while not happened():
            assert self.at_ms < end, f"didn't happen; log: {self.log}"
            await self.silence(20)

    async def press(self, digits):
        """The caller presses keys, 200 ms apart."""
        for digit in digits:
            self._act(self.turns.digit(self.at_ms))
            self._tell(Digit(digit))
            await self.silence(200)

    # One frame --------------------------------------------------------------------------------

    async def step(self, pcm, speech):
        self._play()
        self.engine.hear(self.at_ms, pcm)
        self._act(self.turns.frame(self.at_ms, speech))
        self.at_ms += 20
        if self.real_time:
            due = self._started + self.at_ms / 1000 / self.speed
            late = time.perf_counter() - due
            if late > _HELD_UP_S:  # nobody can keep step with a line that makes up for lost time
                self._started += late
            await asyncio.sleep(max(0, -late))
        else:
            for _ in range(20):  # let every task run on that can
                await asyncio.sleep(0)

    def _play(self):
        frame, need = [], self.frame
        while need and self._queue and self.turns.state is not State.PAUSED:
            item, pcm, done = self._queue[0]
            part = pcm[done : done + need]
            frame.append(part)
            need -= len(part)
            self._queue[0][2] += len(part)
            counted = self._counts.get(item, 0) + len(part)
            self._counts[item] = counted
            if self._queue[0][2] >= len(pcm):
                self._queue.pop(0)
            for heard in self.playout.heard(item, counted):
                self._hear(heard)
        self.played.append(np.pad(np.concatenate(frame) if frame else np.zeros(0), (0, need)))
        self._tell_marks()
        if self._was_playing and not self.playout.playing:
            self._act(self.turns.agent_finished(self.at_ms))
        self._was_playing = self.playout.playing

    def _act(self, actions):
        for action in actions:
            self.log.append((self.at_ms, action))
            if isinstance(action, BargeIn | TurnWithdrawn):
                self._flush()
            self._tell(action)

    def _flush(self):
        self._tell_marks()
        self.playout.drop()
        self._tell_marks()
        self._queue.clear()
        self._was_playing = False
        for heard in self.playout.dropped():
            self._hear(heard)

    def _tell_marks(self):
        for name, heard in self.playout.reached():
            self._tell(Marked(name, heard))

    def _hear(self, heard):
        self.heard.append(heard)
        self._tell(heard)

    def _tell(self, event):
        self.engine.notify(event)

    async def _room(self):
        while sum(len(pcm) - done for _, pcm, done in self._queue) > 2 * self.rate:
            await asyncio.sleep(0.01 if self.real_time else 0)

    # What the engine does -----------------------------------------------------------------------

    def _emit(self, event):  # noqa: C901 (a table)
        match event:
            case Audio():
                before = self.playout.playing
                if self.playout.queued(event.item, len(event.pcm), silence=event.silence):
                    self._queue.append([event.item, event.pcm, 0])
                    if not before:
                        self.turns.agent_started()
                        self._was_playing = True
                        self.log.append((self.at_ms, "agent audio"))
            case Text():
                self.playout.text(event.item, event.text)
                self.log.append((self.at_ms, event))
            case ItemDone():
                for heard in self.playout.done(event.item):
                    self._hear(heard)
            case ReplyDone():
                self._act(self.turns.reply_done(self.at_ms))
                self.log.append((self.at_ms, event))
            case Interrupt():
                self.turns.interrupted()
                self._flush()
            case CallerText(final=False):
                silence_ms = end_silence_ms(
                    self.agent.turns, event.text, self._expected, event.understood
                )
                self.log.append((self.at_ms, event))
                self._act(self.turns.words(event.text, event.until_ms, silence_ms))
            case Expect(kind):
                self._expected = kind
            case Mark(name):
                self.playout.mark(name)
                self._tell_marks()
            case CallerText() | ToolCall() | Failed() | Filler() | Timing() | Note() | Kept():
                self.log.append((self.at_ms, event))

    # What to look at ----------------------------------------------------------------------------

    def of(self, kind):
        """Everything in the log of one kind."""
        return [what for _, what in self.log if isinstance(what, kind)]

    def when(self, kind):
        """Times of everything in the log of one kind, ms."""
        return [at for at, what in self.log if isinstance(what, kind)]

    @property
    def said(self):
        """What the agent was told to say so far (heard or not)."""
        return " ".join(t.text for t in self.of(Text))

    @property
    def lines(self):
        """What was heard of the agent, item by item."""
        return [h.text for h in self.heard if h.text]

    def quiet(self):
        """The agent has said all that it has to say."""
        return not self.playout.playing and not self.turns._reply_open

    def commits(self):
        """Every committed turn."""
        return self.of(TurnCommitted)
