"""One call, from the PBX's hand-over to its end.

Wires four parts together by their ports, and owns every task of the call:

    leg      the PBX's side: answer, external media, keys, hold, transfer, hang-up
    slot     the media process' side: caller audio up, agent audio down, what was heard
    dialog   who speaks (pure): `Turns` makes turns of speech decisions, `Playout` knows the items
    engine   the mind

Theory of operation. The media process delivers the caller's audio every 20 ms, silence included:
that is the only clock of the conversation. A delivery goes to the engine, then `Playout` learns
what has gone out since, then the frames go through `Turns`, whose actions are carried out at once
and told to the engine. What the engine emits is carried out at once as well. None of that waits;
what takes time (tools, the PBX) runs in the call's task group.

A call ends exactly once, by whatever sets its `Outcome` first. Unless the caller has gone or was
handed over, the dialplan then goes on after Stasis() with ARI_BRIDGE_RESULT set: when we fail, a
caller gets the operator's dialplan, never silence. At the end nothing of ours is left on the PBX or
in media.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import bridge.engines.base as engines
from bridge.agent import Agent
from bridge.dialog.playout import Heard, Playout
from bridge.dialog.turns import Action, BargeIn, TurnCommitted, Turns, TurnWithdrawn
from bridge.engines.base import Engine
from bridge.errors import BridgeError, ConfigError, PbxGone
from bridge.media.base import FRAME_MS, Media, Slot, Up
from bridge.pbx.base import Dtmf, Hold, HungUp, Leg, MediaLost
from bridge.recall import Memory, restore
from bridge.sessions.base import Store
from bridge.sessions.model import Line, Role
from bridge.sessions.progress import Item, Progress, Tool

log = logging.getLogger(__name__)

ROOM_MS = 5_000
"""An engine that asks for room gets it while less agent audio than this waits to be played."""
MOST_WAITING_MS = 600_000
"""An engine that never asks is given up beyond this."""
TOOL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended; `result` is what the dialplan gets as ARI_BRIDGE_RESULT."""

    result: str
    reason: str = ""
    gone: bool = False
    """The caller is with us no more: he hung up, was hung up on, or was handed over."""


class _CallOver(Exception):
    """Leaves the call's task group."""


class Call:
    """One call. `run` it once."""

    def __init__(
        self,
        leg: Leg,
        media: Media,
        store: Store,
        mind: Callable[[str], Awaitable[tuple[Agent, Engine]]],
        worker: str,
        memory: Memory | None = None,
    ) -> None:
        """Take a call; nothing happens before `run`.

        Args:
            leg: the PBX's side of it.
            media: where its slot comes from.
            store: where it is remembered.
            mind: gives the agent of a name and an engine for it; raises `ConfigError`,
                `EngineError`.
            worker: our name, for the record.
            memory: what is known of a conversation that another process began: it goes on.
        """
        self.id = leg.incoming.call_id
        self._leg, self._media, self._store, self._mind = leg, media, store, mind
        self._over: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._now_ms = 0
        self._agent: Agent
        self._engine: Engine
        self._slot: Slot
        self._turns: Turns
        self._playout: Playout
        self._tasks: asyncio.TaskGroup
        self._backlog: deque[engines.Audio | engines.ItemDone] = deque()
        self._tools: deque[engines.ToolCall] = deque()
        self._tool: asyncio.Task[None] | None = None
        self._running: engines.ToolCall | None = None
        self._caller_line: Line | None = None
        self._clearing = False
        self._held = False
        self._leaving: Outcome | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._memory = memory
        self._replying = False
        self._given: list[tuple[int, str]] = []
        self._noted = Progress()
        if memory is None:
            store.begin(self.id)
            store.put(
                self.id,
                worker=worker,
                state="setup",
                started=time.time(),
                caller=leg.incoming.caller_number,
                dialed=leg.incoming.dialed,
                codec=leg.incoming.codec,
                agent=leg.incoming.args[0] if leg.incoming.args else "",
            )

    def end(self, outcome: Outcome) -> None:
        """End the call, unless it has an outcome already."""
        if not self._over.done():
            self._over.set_result(outcome)

    async def run(self) -> Outcome:
        """From hand-over to end; whatever happens, the call is over and cleaned up after."""
        log.info("call from %s to %s", self._leg.incoming.caller_number, self._leg.incoming.dialed)
        async with AsyncExitStack() as cleanup:
            cleanup.push_async_callback(self._leg.release)
            await self._live(cleanup)
            outcome = self._over.result()
            self._finish(outcome)  # before what may wait for a PBX that is away
            if not outcome.gone:
                await self._give_back(outcome)
        return outcome

    # Beginning and end ----------------------------------------------------------------------------

    async def _live(self, cleanup: AsyncExitStack) -> None:
        """The call's tasks, until there is an outcome."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._events(), name="events")
                tasks.create_task(self._converse(cleanup), name="conversation")
                await asyncio.shield(self._over)
                raise _CallOver
        except* _CallOver:
            pass
        except* PbxGone:
            self.end(Outcome("hung-up", "the caller hung up during set-up", gone=True))
        except* ConfigError as group:
            self._fail(group, "unknown-agent")
        except* BridgeError as group:
            self._fail(group, "failed")
        except* Exception as group:  # the call's one boundary
            log.exception("a fault of ours ended the call")
            self._fail(group, "failed")

    async def _converse(self, cleanup: AsyncExitStack) -> None:
        incoming = self._leg.incoming
        agent, self._engine = await self._mind(incoming.args[0] if incoming.args else "")
        self._agent = agent
        cleanup.push_async_callback(self._engine.close)
        self._turns = Turns(agent.turns, self._engine.turns)
        context = await (self._take_up(agent) if self._memory else self._set_up(agent))
        cleanup.push_async_callback(self._slot.close)
        await self._engine.start(context)
        self._slot.on_frames = self._delivery
        await asyncio.sleep(agent.max_call_s)
        self.end(Outcome("done", f"the call reached the agent's max_call_s ({agent.max_call_s})"))

    async def _set_up(self, agent: Agent) -> engines.Context:
        """A new call: external media, slot, answer."""
        incoming = self._leg.incoming
        self._store.put(self.id, agent=agent.name, engine=agent.engine)
        source = await self._leg.open_media(self._media.address, incoming.codec)
        self._slot = await self._media.open(
            *(self.id, source, incoming.codec, self._engine.rate), late=agent.late_packets
        )
        self._playout = Playout(self._slot.rate)
        await self._leg.answer()
        await self._leg.join()
        self._store.put(
            self.id,
            state="talking",
            answered=time.time(),
            rate=self._slot.rate,
            **self._leg.handles,
        )
        self._replying = bool(agent.greeting)
        self.note()
        return self._context(agent)

    async def _take_up(self, agent: Agent) -> engines.Context:
        """A conversation that another process began: slot, items, tools, history."""
        assert self._memory
        memory, progress = self._memory, self._memory.progress
        self._slot = await self._media.attach(self.id, self._engine.rate)
        self._playout = Playout(self._slot.rate)
        resume = restore(memory, self._slot, self._playout)
        self._turns.turn = progress.turn
        self._replying = progress.replying
        self._given = [(0, text) for text in resume.given] if progress.replying else []
        if progress.caller:
            self._caller_line = Line(time.time(), "caller", progress.caller)
        if not progress.replying:  # else the engine asks for them again
            # Each takes the caller away from us; since he is here, none has had its effect.
            self._tools += [engines.ToolCall(t.id, t.name, t.arguments) for t in progress.tools]
        if self._playout.playing or self._replying:
            self._turns.agent_started()
        if not self._replying:
            self._turns.reply_done(0)
        self._say("event", "taken over")
        log.info("taken up with %d ms still to be heard", self._playout.waiting_ms)
        return self._context(agent, memory.history(), resume)

    def _context(
        self,
        agent: Agent,
        history: Sequence[engines.Entry] = (),
        resume: engines.Resume | None = None,
    ) -> engines.Context:
        return engines.Context(
            call_id=self.id,
            agent=agent,
            caller_number=self._leg.incoming.caller_number,
            rate=self._slot.rate,
            emit=self._emit,
            new_item=self._playout.new_item,
            room=self._wait_for_room,
            tasks=self._tasks,
            history=history,
            resume=resume,
        )

    def note(self) -> None:
        """Write down how far the conversation has got, if that has changed."""
        if not self._talking:
            return
        tools = [Tool(t.id, t.name, t.arguments) for t in self._tools]
        if self._running is not None:
            begun = self._running
            tools.insert(0, Tool(begun.id, begun.name, begun.arguments, begun=True))
        progress = Progress(
            items=tuple(Item(*item) for item in self._playout.open_items()),
            last_item=self._playout.last_item,
            tools=tuple(tools),
            replying=self._replying,
            given=tuple(self._given),
            caller=self._caller_line.text if self._caller_line else "",
            turn=self._turns.turn,
        )
        if progress != self._noted:
            self._noted = progress
            self._store.put(self.id, progress=progress.to_text())

    def let_go(self) -> None:
        """Another worker owns the call: end here without touching it."""
        self._store.forget(self.id)
        self._leg.forget()

    async def _give_back(self, outcome: Outcome) -> None:
        """The dialplan goes on with the caller."""
        variables = {"ARI_BRIDGE_RESULT": outcome.result, "ARI_BRIDGE_REASON": outcome.reason}
        try:
            await self._leg.leave(variables)
        except PbxGone:
            log.info("the caller hung up meanwhile")
        except BridgeError as error:
            log.error("could not give the caller back to the dialplan: %s", error)

    def _fail(self, group: BaseExceptionGroup[BaseException], result: str) -> None:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        log.error("%s", error)
        self.end(Outcome(result, str(error)))

    def _finish(self, outcome: Outcome) -> None:
        self._write_caller_line()
        if hasattr(self, "_playout"):  # what was heard of the sentence that the end cut off
            self._playout.drop()
            self._heard(self._playout.dropped(self._slot.heard_items()))
            self._store.put(self.id, audio=json.dumps(self._slot.stats()))
        log.info("call ended: %s %s", outcome.result, outcome.reason)
        self._store.put(
            self.id,
            state="ended",
            ended=time.time(),
            result=outcome.result,
            reason=outcome.reason,
        )

    # The PBX's events -----------------------------------------------------------------------------

    async def _events(self) -> None:
        while True:
            match await self._leg.events.get():
                case HungUp(cause):
                    # What we asked for may be told before the answer to our request comes.
                    self.end(self._leaving or Outcome("hung-up", cause, gone=True))
                case MediaLost():
                    self.end(Outcome("failed", "the PBX closed the external media"))
                case Hold(on) if self._talking:
                    self._say("event", "hold" if on else "resume")
                    self._hold(on)
                case Dtmf(digit) if self._talking:
                    self._say("dtmf", digit)
                    for action in self._turns.digit(self._now_ms):
                        self._act(action)
                    self._engine.notify(engines.Digit(digit))

    @property
    def _talking(self) -> bool:
        """Whether the conversation has begun and isn't over."""
        return hasattr(self, "_slot") and not self._over.done()

    def _hold(self, on: bool) -> None:
        self._held = on
        (self._slot.pause if on else self._slot.resume)()
        for action in self._turns.hold(on):
            self._act(action)

    # The caller's audio ---------------------------------------------------------------------------

    def _delivery(self, up: Up) -> None:
        if self._over.done():
            return
        try:
            self._deliver(up)
        except Exception as error:  # the call's boundary, where media's reader calls us
            log.exception("a fault of ours ended the call")
            self.end(Outcome("failed", str(error) or type(error).__name__))

    def _deliver(self, up: Up) -> None:
        self._now_ms = up.at_ms
        if not self._held:  # what a phone on hold sends is not for the engine
            self._engine.hear(up.at_ms, up.pcm.reshape(-1))
        self._account()
        for speech in up.speech:
            for action in self._turns.frame(self._now_ms, bool(speech)):
                self._act(action)
            self._now_ms += FRAME_MS

    def _act(self, action: Action) -> None:
        if isinstance(action, BargeIn):
            self._say("event", "barge-in")
        if isinstance(action, BargeIn | TurnWithdrawn):
            self._drop()
            self._reply(False)
        if isinstance(action, TurnCommitted):
            self._reply(True)
        self._engine.notify(action)

    def _reply(self, on: bool) -> None:
        """A reply of the engine's begins or is over."""
        self._replying = on
        self._given.clear()
        self.note()

    # The agent's audio ----------------------------------------------------------------------------

    def _emit(self, event: engines.EngineEvent) -> None:
        if self._over.done():
            return
        match event:
            case engines.Audio(item, pcm):
                self._queue(event, item, len(pcm))
            case engines.Text(item, text):
                if self._playout.text(item, text):
                    self._begun(item, text)
            case engines.ItemDone(item):
                self._backlog.append(event)
                self._feed()
            case engines.ReplyDone():
                self._write_caller_line()
                self._turns.reply_done(self._now_ms)
                self._reply(False)
            case engines.CallerText(text, final):
                if final:
                    self._caller_line = Line(time.time(), "caller", text) if text else None
                    self.note()
            case engines.Interrupt():
                self._say("event", "barge-in")
                self._turns.interrupted()
                self._drop()
            case engines.ToolCall():
                self._tools.append(event)
                self._next_tool()
                self.note()
            case engines.Failed(reason):
                self.end(Outcome("failed", reason))

    def _begun(self, item: int, text: str) -> None:
        """More of what an item says: whoever takes the call up must not say it again."""
        self._replying = True
        if self._given and self._given[-1][0] == item:
            self._given[-1] = (item, self._given[-1][1] + text)
        else:
            self._given.append((item, text))
        self.note()

    def _queue(self, audio: engines.Audio, item: int, samples: int) -> None:
        began = not self._playout.playing
        if not self._playout.queued(item, samples):
            return
        if self._playout.waiting_ms > MOST_WAITING_MS:
            self.end(Outcome("failed", "the engine sends audio without end"))
            return
        self._write_caller_line()
        self._backlog.append(audio)
        if began:
            self._turns.agent_started()
        self._feed()

    def _feed(self) -> None:
        """As much of the backlog into the slot as it takes."""
        while self._backlog and not self._clearing:
            match self._backlog[0]:
                case engines.ItemDone(item):
                    self._slot.done(item)
                    self._heard(self._playout.done(item))
                case engines.Audio(item, pcm):
                    taken = self._slot.play(item, pcm)
                    if taken < len(pcm):
                        self._backlog[0] = engines.Audio(item, pcm[taken:])
                        break
            self._backlog.popleft()
        if self._playout.waiting_ms >= ROOM_MS:
            self._room.clear()
        else:
            self._room.set()

    async def _wait_for_room(self) -> None:
        await self._room.wait()

    def _account(self) -> None:
        """What went out since the last delivery."""
        if self._clearing:
            if not self._slot.cleared:
                return
            self._clearing = False
            self._heard(self._playout.dropped(self._slot.heard_items()))
        was_playing = self._playout.playing
        for item, samples in self._slot.heard_items().items():
            self._heard(self._playout.heard(item, samples))
        self._feed()
        if was_playing and not self._playout.playing:
            self._turns.agent_finished(self._now_ms)
            self._next_tool()

    def _drop(self) -> None:
        """What isn't played yet never will be."""
        self._playout.drop()
        self._backlog.clear()
        self._slot.clear()
        self._clearing = True
        for tool in self._tools:
            self._engine.notify(engines.ToolResult(tool.id, ok=False, value="interrupted"))
        self._tools.clear()

    def _heard(self, items: list[Heard]) -> None:
        for heard in items:
            if heard.text:
                line = Line(time.time(), "agent", heard.text, heard.heard_ms, heard.cut)
                self._store.say(self.id, line)
            self._engine.notify(heard)
        if items:  # in the same batch as the line, so that nobody takes them for unheard
            self.note()

    # Tools ----------------------------------------------------------------------------------------

    def _next_tool(self) -> None:
        """Run the next tool, if all audio before it was heard and none runs."""
        running = self._tool is not None and not self._tool.done()
        if self._tools and not running and not self._playout.playing:
            self._write_caller_line()
            self._tool = self._tasks.create_task(self._run_tool(self._tools.popleft()))

    async def _run_tool(self, tool: engines.ToolCall) -> None:
        self._running = tool
        self.note()
        self._say("event", f"{tool.name} {' '.join(map(str, tool.arguments.values()))}".strip())
        try:
            async with asyncio.timeout(TOOL_TIMEOUT_S):
                await self._do(tool)
        except PbxGone:
            self.end(Outcome("hung-up", f"the caller hung up during {tool.name}", gone=True))
        except (BridgeError, TimeoutError) as error:
            log.warning("tool %s failed: %s", tool.name, error or "it took too long")
            self._running = None
            self._engine.notify(engines.ToolResult(tool.id, ok=False, value=str(error)))

    async def _do(self, tool: engines.ToolCall) -> None:
        match tool.name:
            case "transfer":
                allowed = self._agent.transfer
                extension = str(tool.arguments.get("extension", ""))
                if extension not in allowed.extensions:
                    raise ConfigError(f"'{extension}' is not in the agent's transfer.extensions")
                done = Outcome("transferred", extension, gone=True)
                await self._go(done, self._leg.transfer(extension, allowed.context))
            case "hang_up":
                done = Outcome("done", "the agent hung up", gone=True)
                await self._go(done, self._leg.hang_up())
            case _:
                raise ConfigError(f"there is no tool '{tool.name}'")

    async def _go(self, outcome: Outcome, leave: Awaitable[None]) -> None:
        """End the call by what takes the caller from us."""
        self._leaving = outcome
        try:
            await leave
        finally:
            self._leaving = None
        self.end(outcome)

    # The transcript -------------------------------------------------------------------------------

    def _say(self, role: Role, text: str) -> None:
        self._write_caller_line()
        self._store.say(self.id, Line(time.time(), role, text))

    def _write_caller_line(self) -> None:
        """A turn's text is final once it can't be withdrawn any more."""
        if self._caller_line is not None:
            self._store.say(self.id, self._caller_line)
            self._caller_line = None
