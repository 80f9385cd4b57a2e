"""One engine of a call, from its making until it is lost: nothing it does can harm the call.

It is started in a task of its own, in a task group of its own. What it raises, there or when it is
told something, is its end only. What it gives is noted in the ledger and passed on at the call's
rate; what the call says before it is ready is kept. `lose` is the end of it: from there on whatever
it emits is dropped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from bridge.agent import Agent
from bridge.dialog.flow import Flow
from bridge.engines import faults
from bridge.engines.base import (
    Audio,
    CallEvent,
    Context,
    Engine,
    EngineEvent,
    Failed,
    Filler,
    Heard,
    Interrupt,
    ItemDone,
    Marked,
    Pcm,
    ReplyDone,
    State,
    ToolCall,
    ToolResult,
)
from bridge.engines.ledger import Ledger
from bridge.engines.rates import RateStream
from bridge.errors import BridgeError, EngineError
from bridge.garbage import Unframed

log = logging.getLogger(__name__)

_FAULT = "the engine of agent '%s' failed"
CLOSE_S = 2.0
FRAME_MS = 20
AHEAD_S = 300
"""An engine that has given so much more than was played is taken for one gone wild."""


@dataclass(frozen=True, slots=True)
class Mind:
    """An agent, and how an engine is made for it."""

    agent: Agent
    make: Callable[[], Awaitable[Engine]]
    """Raises `ConfigError`, `EngineError`."""


class Life:
    """One engine, from its making until it is lost."""

    def __init__(
        self, number: int, mind: Mind, engine: Engine | None, context: Context, ledger: Ledger
    ) -> None:
        self.agent = mind.agent
        self.ready = False
        """It was started, and isn't lost."""
        self.vital = False
        """It has given audio or a whole reply."""
        self.reason = ""
        """Why it was lost."""
        self.patient = 0
        """How many of its tasks wait for room: then it is not its fault that nothing comes."""
        self.turns: Literal["bridge", "engine"] = "bridge"
        self.autonomous, self.told_of_speech = False, True
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._number, self._mind, self._engine = number, mind, engine
        self._name = f"{secrets.token_hex(2)}{number}"  # of its tool calls, in any process
        self._context, self._ledger, self._pass = context, ledger, context.emit
        self._begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._meanwhile: list[CallEvent | tuple[int, Pcm]] = []
        self._up: RateStream | None = None
        self._down: RateStream | None = None
        self.straight: Engine | None = None
        """The engine, while it takes the frames as the call has them: whoever gives it them spares
        `hear`, and tells `failed` what it raises."""
        self._chunk_ms, self._chunk_at, self._rate = FRAME_MS, 0, 0
        self._chunk: list[Pcm] = []

    @property
    def speaks(self) -> bool:
        """Whether the engine says what it is told to."""
        return self.ready and bool(getattr(self._engine, "speaks", False))

    async def begin(self) -> None:
        """Make and start it; returns when it is ready or lost."""
        self._task = self._context.tasks.create_task(self._live(), name="engine's life")
        limit_s = self.agent.engine_silent_s
        vital = {self._begun, self.lost}
        await asyncio.wait(vital, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not self._begun.done():
            self.lose(f"did not start within {limit_s:g} s", "late")

    @property
    def started(self) -> bool:
        """Whether it was ever ready."""
        return self._begun.done()

    def lose(self, reason: str, kind: str = "") -> None:
        """It is lost: whatever it does from here on is for nothing. `kind`: of `faults`; "": it is
        nobody's fault."""
        self.ready, self.straight = False, None
        if not self.lost.done():
            self._context.flow.close()
            self.reason = reason
            if kind:
                faults.count[self.agent.engine, kind] += 1
            self.lost.set_result(reason)

    async def close(self) -> None:
        """End it; an engine that doesn't end is left behind."""
        self.lose("closed")
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSE_S)
            self._task = None  # its error holds us

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """Caller audio at the call's rate; kept until it is ready."""
        if self.ready:
            self._tell((at_ms, pcm))
        elif not self.lost.done():
            self._meanwhile.append((at_ms, pcm.copy()))

    def notify(self, event: CallEvent) -> None:
        """Something happened; kept until it is ready."""
        if self.ready:
            self._tell(event)
        elif not self.lost.done():
            self._meanwhile.append(event)

    def failed(self, error: Exception) -> None:
        """It has raised this, which is logged: it is lost."""
        log.error(_FAULT, self.agent.name, exc_info=error)
        self.lose(_line(error), "failed")

    def _tell(self, what: CallEvent | tuple[int, Pcm]) -> None:
        assert self._engine
        try:
            if isinstance(what, tuple):
                self._feed(*what)
                return
            if self._chunk and not isinstance(what, Heard | Marked):
                self._flush()  # it may speak of that
            if isinstance(what, ToolResult):
                name, _, own = what.id.partition(":")
                self._engine.notify(replace(what, id=own) if name == self._name else what)
            else:
                self._engine.notify(what)
        except Exception as error:  # noqa: BLE001 - an engine's fault is the end of it only
            self.failed(error)

    def _feed(self, at_ms: int, pcm: Pcm) -> None:
        """The caller's audio, in pieces as large as the engine likes them."""
        assert self._engine
        if self._up is not None:
            pcm = self._up.take(pcm)
        if self._chunk_ms <= FRAME_MS:
            self._engine.hear(at_ms, pcm)
            return
        if not self._chunk:
            self._chunk_at = at_ms
        self._chunk.append(pcm.copy())
        if sum(map(len, self._chunk)) * 1000 >= self._chunk_ms * self._rate:
            self._flush()

    def _flush(self) -> None:
        assert self._engine
        chunk, self._chunk = np.concatenate(self._chunk), []
        self._engine.hear(self._chunk_at, chunk)

    async def _live(self) -> None:
        try:
            with Unframed():
                await self._try()
        except* BridgeError as group:
            self.lose(_line(group), faults.kind(group))
        except* Exception as group:  # an engine's fault, likewise
            log.exception(_FAULT, self.agent.name)
            self.lose(_line(group), "failed")
        finally:
            self.lose("ended")
            await self._end()

    async def _end(self) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await engine.close()
        except Exception:  # likewise
            log.exception("the engine of agent '%s' did not close", self.agent.name)

    async def _try(self) -> None:
        ledger, agent = self._ledger, self.agent
        if self._engine is None:
            self._engine = await self._mind.make()
        self.turns, self.autonomous = self._engine.turns, autonomous(self._engine)
        self.told_of_speech = told_of_speech(self._engine)
        self._chunk_ms = int(getattr(self._engine, "uplink_chunk_ms", FRAME_MS))
        self._rate = rate = self._engine.rate or ledger.rate
        if rate != ledger.rate:
            self._up, self._down = RateStream(ledger.rate, rate), RateStream(rate, ledger.rate)
        first = self._number == 1
        history = self._context.history if first else ledger.history()
        resume = self._context.resume if first else ledger.resume()
        again = ([], []) if first else ledger.again()
        if resume is not None:
            resume = replace(resume, state=ledger.state.get(agent.name, {}))
        ledger.begin_waiting()
        self._meanwhile.clear()  # what came before is in the ledger
        self._chunk.clear()
        async with asyncio.TaskGroup() as tasks:
            context = replace(
                self._context,
                agent=agent,
                rate=rate,
                emit=self._emit,
                flow=self._context.flow if rate == ledger.rate else Flow(),
                room=self._room,
                tasks=tasks,
                history=history,
                resume=resume,
                rejoin=self._context.rejoin if first else "",
            )
            await self._engine.start(context)
            if self.lost.done():
                raise EngineError(self.reason)
            meanwhile, self._meanwhile = self._meanwhile, []
            for what in (*again[0], *again[1], *meanwhile):
                self._tell(what)
            self.ready = not self.lost.done()
            if self.ready and rate == ledger.rate and self._chunk_ms <= FRAME_MS:
                self.straight = self._engine
            self._begun.set_result("")
            await asyncio.wait({self.lost})  # awaited itself, it would be cancelled with us
            raise EngineError(self.reason)

    # What it gives --------------------------------------------------------------------------------

    def _emit(self, event: EngineEvent) -> None:
        if self.lost.done():
            return
        if type(event) is Audio:  # thousands a second, as in `Supervisor.hear`
            if not event.silence:
                self.vital = True
            if self._down is not None:
                event = Audio(event.item, self._down.take(event.pcm), event.silence)
            if len(event.pcm):
                if self._ledger.said(event) <= AHEAD_S * 1000:
                    self._pass(event)
                else:
                    self._wild()
        else:
            self._event(event)

    def _event(self, event: EngineEvent) -> None:
        match event:
            case Failed(reason, kind):
                self.lose(reason, kind)
                return
            case Filler(pcm):  # no sign of life
                if self._down:
                    event = replace(event, pcm=self._down.whole(pcm))
                self._pass(event)
                return
            case ToolCall(id=own):
                event = replace(event, id=f"{self._name}:{own}")
            case State(values):
                if fault := _no_json(values):
                    self.lose(f"what it wants to be kept is no JSON: {fault}", "failed")
                    return
                event = State({self.agent.name: dict(values)})
            case ItemDone(item) if self._down is not None:
                if len(rest := self._down.flush()):
                    last = Audio(item, rest)
                    self._ledger.said(last)
                    self._pass(last)
            case ReplyDone():
                self.vital = True
            case _:
                pass
        self._pass_on(event)

    def _pass_on(self, event: EngineEvent) -> None:
        self._ledger.gave(event)
        if isinstance(event, State):
            event = State(self._ledger.state)
        self._pass(event)

    def _wild(self) -> None:
        self.lose(f"gave {AHEAD_S} s of audio ahead of time", "wild")
        self._pass_on(Interrupt())  # none of that is worth hearing

    async def _room(self) -> None:
        self.patient += 1
        try:
            await self._context.room()
        finally:
            self.patient -= 1


def autonomous(engine: Engine) -> bool:
    """Whether it speaks when it likes; see `Engine`."""
    return bool(getattr(engine, "autonomous", False))


def told_of_speech(engine: Engine) -> bool:
    """Whether it has a use for `SpeechStarted`; see `Engine`."""
    return bool(getattr(engine, "told_of_speech", True))


def _no_json(values: Mapping[str, Any]) -> str:
    """Why it can't be kept; "" if it can."""
    try:
        json.dumps(dict(values), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return _line(error)
    return ""


def _line(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error) or type(error).__name__).splitlines()[0]
