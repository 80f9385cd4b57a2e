"""Tool calls: what an engine may do in the world, one at a time, when the caller has heard why.

A tool waits until all audio that was emitted before it has been heard; an interruption before that
cancels it. `transfer` (with `connect` and `take_back`: `bridge.transfer`), `hang_up` and `leave`
(the dialplan goes on) are ours, and end the call by an `Outcome`; the others come from
`bridge.toolbox`.

    add ─▶ waiting ─▶ begun (noted, and durable before the tool runs) ─▶ done (result noted)
              └─ cancelled

Every call has a key made of the call, the caller's turn, its name and arguments, and how often that
came in this turn. So the same call is known again, whichever process or engine asks for it: one
that is done is answered from its result, and one that had begun when its process died isn't run
twice (`bridge.toolbox` tells the exception). Only the last turn's are kept.

A reply that is given again counts its calls again from where it began to. One that was interrupted
is never given again: what the next one asks for is new, also where a key, which is no turn of the
caller's, has come between.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge import toolbox
from bridge.agent import Agent
from bridge.engines.base import ToolCall, ToolResult
from bridge.errors import BridgeError, PbxGone, PbxRefused, ToolError
from bridge.pbx.base import Leg
from bridge.sessions.base import Store
from bridge.sessions.progress import Done, Progress, Tool
from bridge.toolbox.base import INTENT, SUMMARY
from bridge.transcript import Transcript
from bridge.transfer import Transfer
from bridge.transfertable import Destination

log = logging.getLogger(__name__)

LEAVE_TIMEOUT_S = 10.0
DURABLE_S = 1.0
"""A tool waits so long for Redis to know that it has begun."""
MOST_RESULT = 4000
"""Characters of a result, or of why there is none, that are kept."""
MOST_SHOWN = 400
"""Characters of a line in the transcript that says what was asked for, or why it failed."""
MOST_DONE = 20
"""Results that are kept of replies that are over."""
LEAVING = ("transfer", "connect", "take_back", "hang_up", "leave")
"""They take the caller away: while he is here, none has had its effect."""
UNKNOWN = "it was interrupted; it is not known whether it was done"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended; `result` is what the dialplan gets as ARI_BRIDGE_RESULT."""

    result: str
    reason: str = ""
    gone: bool = False
    """The caller is with us no more: he hung up, was hung up on, or was handed over."""
    elsewhere: bool = False
    """It goes on with another worker, or program: its record is theirs."""


def variables(outcome: Outcome, notes: Mapping[str, str]) -> dict[str, str]:
    """What the dialplan is told of it, by channel variables."""
    return {
        "ARI_BRIDGE_RESULT": outcome.result,
        "ARI_BRIDGE_REASON": outcome.reason,
        "ARI_BRIDGE_INTENT": notes.get(INTENT, ""),
        "ARI_BRIDGE_SUMMARY": notes.get(SUMMARY, ""),
    }


class Tools:
    """One call's tools."""

    def __init__(
        self,
        leg: Leg,
        agent: Agent,
        transcript: Transcript,
        store: Store,
        tasks: asyncio.TaskGroup,
        end: Callable[[Outcome], None],
        tell: Callable[[ToolResult], None],
    ) -> None:
        """Run tools in `tasks`.

        Args:
            leg: what they act on.
            agent: says which are allowed, and where a caller may be transferred to.
            transcript: where each is written down.
            store: has to know that a tool has begun, before it runs.
            tasks: the call's.
            end: ends the call.
            tell: tells the engine what became of one.
        """
        self.notes: dict[str, str] = {}
        """What the agent wants to remember of the call, by name."""
        self.recording: toolbox.Recorded | None = None
        """What they may do with the call's recording."""
        self.leaving: Outcome | None = None
        """What was asked of the PBX and takes the caller from us, while it hasn't answered."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when `open` or `done` has something else to tell."""
        self.quiet: Callable[[], bool] = lambda: True
        """Whether all audio has been heard."""
        self.transfer = Transfer(leg, agent.transfer, transcript, store, self.notes)
        self.transfer.give_up = lambda reason: end(Outcome("failed", reason))
        self._leg, self._agent, self._transcript, self._store = leg, agent, transcript, store
        self._tasks, self._end, self._tell = tasks, end, tell
        self._context = contextvars.copy_context()  # the call's: audio comes in from elsewhere
        self._waiting: deque[Tool] = deque()
        self._task: asyncio.Task[None] | None = None
        self._running: Tool | None = None
        self._turn = 0
        self._count: Counter[str] = Counter()  # calls of this turn, by what they are
        self._used: Counter[str] = Counter()  # the highest that any of them counted
        self._base: Counter[str] = Counter()  # what they had counted when the reply began
        self._done: dict[str, Done] = {}
        self._to = ""  # whom a caller is being transferred to

    def add(self, call: ToolCall, turn: int) -> None:
        """To be run, in its order, by `next`; asked for in answer to the caller's so-manieth turn.

        A call that is waiting or running already is the same one, asked for by another engine.
        """
        self._set_turn(turn)
        key = self._key(call, turn)
        for at, tool in enumerate(self._waiting):
            if tool.key == key:
                self._waiting[at] = replace(tool, id=call.id)
                return
        if self._running is not None and self._running.key == key:
            self._running = replace(self._running, id=call.id)
            return
        self._waiting.append(Tool(call.id, call.name, call.arguments, key=key))

    def take_up(self, progress: Progress, *, asks_again: bool) -> None:
        """Those of a conversation that another process began.

        `asks_again`: the engine goes on with a reply, and asks for its tools once more.
        """
        self._set_turn(progress.turn)
        self._done = {done.key: done for done in progress.done}
        self.notes.update(progress.notes)
        for tool in progress.tools:
            if tool.begun and not self._harmless(tool.name):
                self._done[tool.key] = Done(tool.key, tool.name, False, UNKNOWN)
                self._transcript.say("event", f"{tool.name}: {UNKNOWN}")
            if not asks_again:
                self._waiting.append(replace(tool, begun=False))
        self._used, self._base = Counter(progress.asked), Counter(progress.asked)
        for key in (*self._done, *(tool.key for tool in progress.tools)):
            if key:
                what, number = key.split(":")[-2:]
                self._used[what] = max(self._used[what], int(number))
        self._count = Counter(self._base if asks_again else self._used)

    @property
    def transfers_again(self) -> bool:
        """Whether a transfer waits to be run."""
        return any(tool.name == "transfer" for tool in self._waiting)

    def intent(self, name: str) -> None:
        """What the caller wants."""
        self.notes[INTENT] = name
        self.on_change()

    def open(self) -> tuple[Tool, ...]:
        """What isn't done, as a session remembers it."""
        running = () if self._running is None else (self._running,)
        return (*running, *self._waiting)

    @property
    def running(self) -> str:
        """The name of the one that runs; "": none does."""
        return self._running.name if self._running is not None else ""

    @property
    def done(self) -> tuple[Done, ...]:
        """What was done since the caller's last turn."""
        return tuple(self._done.values())

    def may_transfer(self, name: str) -> None:
        """Raise `ConfigError` if the agent may not transfer there."""
        self._agent.transfer.find(name)

    async def hand_over(self, name: str) -> str | None:
        """Transfer the caller; returns what the engine is to know, if it talks to another now.

        Raises:
            ConfigError: the agent may not transfer there.
            PbxError: he can't be had; the caller is with the agent.
            ToolError: another transfer is under way, or the agent talks to another already.
        """
        there = self._agent.transfer.find(name)
        if self._to:  # by the engine or over the API, whoever was first
            raise ToolError(f"the caller is being put through to {self._to}: wait for that")
        if talks_to := self.transfer.talks_to:
            raise ToolError(f"the agent talks to {talks_to} now: connect or take_back ends that")
        self._to = name
        try:
            return await self._reach(name, there)
        finally:
            self._to = ""

    async def _reach(self, name: str, there: Destination) -> str | None:
        if there.kind == "dialplan":
            extension, _, context = there.to.partition("@")
            place = extension, context or self._agent.transfer.context
            await self._go(self._transferred(name), lambda: self._leg.transfer(*place))
            return None
        told = await self.transfer.reach(name, there)
        if told is None:
            await self._connect(name)
        return told

    async def _connect(self, name: str) -> None:
        """Put the caller through. Whatever fails, he has the agent again, however long that takes:
        he waits in ringing or music, and whoever has answered in silence."""
        try:
            await self._go(self._transferred(name), self.transfer.connect)
        except PbxGone:
            raise
        except Exception as error:
            await self.transfer.back()
            if isinstance(error, BridgeError | TimeoutError):
                raise PbxRefused(f"{name}: {str(error) or 'the PBX did not answer'}") from error
            raise

    def next(self) -> None:
        """All audio before the next tool was heard: run it, if none is running."""
        if self._waiting and self._task is None:
            self._task = self._tasks.create_task(self._run_all(), context=self._context)

    @property
    def asked(self) -> dict[str, int]:
        """How often what was asked for in this turn, before the present reply began."""
        return dict(self._base)

    def again(self) -> None:
        """What was asked for in this reply will be asked for again."""
        self._count = Counter(self._base)

    def over(self) -> None:
        """The reply is over, and isn't given again: what the next one asks for is new."""
        self._base, self._count = Counter(self._used), Counter(self._used)
        for key in [*self._done][:-MOST_DONE]:  # a caller who only presses keys has one turn
            del self._done[key]

    def cancel(self) -> None:
        """The caller interrupted, or went on: what waits isn't run."""
        self.again()
        for tool in self._waiting:
            self._tell(ToolResult(tool.id, ok=False, value="interrupted"))
        self._waiting.clear()

    # How ------------------------------------------------------------------------------------------

    def _set_turn(self, turn: int) -> None:
        if turn != self._turn:
            self._turn = turn
            for counted in (self._count, self._used, self._base):
                counted.clear()
            self._done.clear()

    def _key(self, call: ToolCall, turn: int) -> str:
        arguments = json.dumps(dict(call.arguments), sort_keys=True, default=str)
        what = hashlib.sha256(f"{call.name} {arguments}".encode()).hexdigest()[:16]
        self._count[what] += 1
        self._used[what] = max(self._used[what], self._count[what])
        return f"{self._leg.incoming.call_id}:{turn}:{what}:{self._count[what]}"

    def _harmless(self, name: str) -> bool:
        return name in LEAVING or toolbox.may_run_again(name, self._agent)

    async def _run_all(self) -> None:
        try:
            while self._waiting and self.quiet():
                self._transcript.settle()
                await self._run(self._waiting.popleft())
        finally:
            self._task = None  # cancelled, it would hold us

    async def _run(self, tool: Tool) -> None:
        if tool.key in self._done:
            self._finish(tool, self._done[tool.key])
            return
        self._running = tool = replace(tool, begun=True)
        self.on_change()
        arguments = " ".join(map(str, tool.arguments.values()))
        self._transcript.say("event", f"{tool.name} {arguments}".strip()[:MOST_SHOWN])
        try:
            value = await self._do(tool)
            done = Done(tool.key, tool.name, True, value)
        except PbxGone:
            self._end(Outcome("hung-up", f"the caller hung up during {tool.name}", gone=True))
            return
        except (BridgeError, TimeoutError) as error:
            done = self._failed(tool, str(error) or "it took too long")
        except Exception as error:  # somebody else's code: its fault must not end the call
            log.exception("tool %s failed", tool.name)
            done = self._failed(tool, str(error) or type(error).__name__)
        asked, self._running = self._running, None
        self._done[tool.key] = done
        self._finish(asked, done)

    def _failed(self, tool: Tool, reason: str) -> Done:
        reason = reason.strip().partition("\n")[0][:MOST_RESULT]
        log.warning("tool %s failed: %s", tool.name, reason[:MOST_SHOWN])
        self._transcript.say("event", f"{tool.name} failed: {reason}"[:MOST_SHOWN])
        return Done(tool.key, tool.name, False, reason)

    def _finish(self, tool: Tool, done: Done) -> None:
        self.on_change()
        self._tell(ToolResult(tool.id, ok=done.ok, value=done.value))

    async def _do(self, tool: Tool) -> Any:
        match tool.name:
            case "transfer":
                arguments = tool.arguments
                to = str(arguments.get("to", "") or arguments.get("extension", ""))
                return await self.hand_over(to)
            case "connect":
                if not (name := self.transfer.talks_to):
                    raise ToolError("nobody is there to connect the caller to: call transfer first")
                await self._connect(name)
            case "take_back":
                return await self.transfer.take_back()
            case "hang_up" if self.transfer.talks_to:  # not on the caller, who waits
                raise ToolError(await self.transfer.take_back())
            case "hang_up":
                done = Outcome("done", "the agent hung up", gone=True)
                await self._go(done, self._leg.hang_up)
            case "leave":
                self._end(Outcome("done", "the engine is done with the call"))
            case _:
                return await self._do_theirs(tool)
        return None

    def _transferred(self, name: str) -> Outcome:
        return Outcome("transferred", name, gone=True)

    async def _do_theirs(self, tool: Tool) -> Any:
        function = toolbox.named(tool.name, self._agent)
        incoming = self._leg.incoming
        await self._store.written(incoming.call_id, DURABLE_S)
        if not self._store.owns(incoming.call_id):  # we were held up, and it goes on elsewhere
            raise PbxGone("another worker owns the call")
        context = toolbox.ToolContext(
            *(incoming.call_id, tool.key, incoming.caller_number, self._agent.name),
            line=self._leg,
            notes=self.notes,
            recording=self.recording,
        )
        async with asyncio.timeout(toolbox.timeout_s(function)):
            value = await function(context, **tool.arguments)
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError):
            value, text = str(value), str(value)
        return value if len(text) <= MOST_RESULT else text[:MOST_RESULT]

    async def _go(self, outcome: Outcome, leave: Callable[[], Awaitable[None]]) -> None:
        """End the call by what takes the caller from us."""
        self.leaving = outcome
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await self._tell_dialplan(outcome)
                await leave()
        finally:
            self.leaving = None
        self._end(outcome)

    async def _tell_dialplan(self, outcome: Outcome) -> None:
        """What came of the call; nothing waits for that, or fails because of it."""
        try:
            await self._leg.outcome(variables(outcome, self.notes))
        except PbxGone:
            raise
        except BridgeError as error:
            log.warning("the dialplan isn't told what came of the call: %s", error)
