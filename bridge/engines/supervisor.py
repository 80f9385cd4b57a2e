"""The engine that a call sees: the agent's own, and what stands in for it when it is lost.

Theory of operation. An engine is *lost* when it raises, emits `Failed`, hangs (it owes something,
has given nothing for `engine_silent_s`, and nothing of it is left to be heard), gives audio without
end, or takes too long to start. Its task is cancelled, whatever it still emits is dropped, and a
new one is made and started with the history and with what the lost one still owed
(`bridge.engines.ledger`). What the lost one gave goes on playing meanwhile.

    lost ─▶ try again, with growing, jittered waits  ─▶ the conversation goes on
               └─ no life for `engine_give_up_s` ─▶ the agent's `fallback`, in the same way
                                                       └─ there is none ─▶ `Failed`: the dialplan

An outage lasts until an engine has given audio or a whole reply, or has lived long with nothing to
do, so that one which starts and dies again and again is given up too, however slowly it dies. When
a call begins nobody waits: an engine that can't be made or started is replaced by the fallback at
once.

Fillers are the call's own: it knows that the agent is silent, whatever the reason.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bridge.agent import Agent
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
    NoInput,
    Note,
    Pcm,
    ReplyDone,
    State,
    ToolCall,
    ToolResult,
)
from bridge.engines.ledger import Ledger
from bridge.engines.rates import RateStream
from bridge.errors import BridgeError, EngineError

log = logging.getLogger(__name__)

FRAME_MS = 20
AHEAD_S = 300
"""An engine that has given so much more than was played is taken for one gone wild."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0
CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Mind:
    """An agent, and how an engine is made for it."""

    agent: Agent
    make: Callable[[], Awaitable[Engine]]
    """Raises `ConfigError`, `EngineError`."""


async def begin(minds: Sequence[Mind]) -> tuple[Agent, Supervisor]:
    """The first agent of these for which an engine can be made, and that engine, supervised.

    Raises:
        ConfigError, EngineError: what was wrong with the first.
    """
    first: BridgeError | None = None
    for n, mind in enumerate(minds):
        try:
            async with asyncio.timeout(mind.agent.engine_give_up_s):
                return mind.agent, Supervisor(minds[n:], await mind.make())
        except TimeoutError:
            fault: BridgeError = EngineError(
                f"agent '{mind.agent.name}': its engine was not made within "
                f"{mind.agent.engine_give_up_s:g} s"
            )
        except BridgeError as error:
            fault = error
        first = first or fault
        log.error("%s", fault)
    assert first, "there is an agent at least"
    raise first


class Supervisor:
    """One call's engines, one after the other; see the theory above."""

    def __init__(
        self,
        minds: Sequence[Mind],
        engine: Engine,
        first_wait_s: float = FIRST_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`engine` was made by the first of `minds`; the others stand in for it in turn.

        `first_wait_s` is the first wait between two tries, `clock` tells how long an outage lasts.
        """
        self.rate = engine.rate
        self.turns: Literal["bridge", "engine"] = engine.turns
        self.autonomous = _autonomous(engine)
        self._minds = list(minds)
        self._first: Engine | None = engine
        self._first_wait_s, self._clock = first_wait_s, clock
        self._context: Context
        self._ledger: Ledger | None = None
        self._life: _Life | None = None
        self._lives = 0
        self._keeper: asyncio.Task[None] | None = None

    # The port -------------------------------------------------------------------------------------

    async def start(self, context: Context) -> None:
        """Start the engine; of a new call, the first one that can be started.

        Raises:
            EngineError: of a new call, none can.
        """
        self._context = context
        self._ledger = Ledger(context)
        if context.resume is None:
            await self._start_any()
        self._keeper = context.tasks.create_task(self._keep(), name="engine")

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """The caller's audio, which is also the clock that a silent engine is judged by."""
        if self._ledger is None:
            return
        self._ledger.hear(at_ms, pcm)
        if self._life is not None:
            self._life.hear(at_ms, pcm)
            limit_ms = self._minds[0].agent.engine_silent_s * 1000
            if self._life.ready and not self._life.patient and self._ledger.silent_ms > limit_ms:
                self._life.lose(f"said nothing for {limit_ms / 1000:g} s")

    def notify(self, event: CallEvent) -> None:
        """What happens on the line."""
        if self._ledger is None or (self.autonomous and isinstance(event, NoInput)):
            return
        self._ledger.told(event)
        if self._life is not None:
            self._life.notify(event)

    async def close(self) -> None:
        """Let go of the engine, whichever it is."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._life is not None:
            await self._life.close()
        if self._first is not None:
            await self._first.close()

    # Lives ----------------------------------------------------------------------------------------

    async def _start_any(self) -> None:
        while True:
            life = await self._try()
            if life.started:
                return
            if len(self._minds) == 1:
                raise EngineError(life.reason)
            log.error("engine of agent '%s' can't be started: %s", life.agent.name, life.reason)
            self._next_mind()

    async def _keep(self) -> None:
        """One engine after the other, as long as the call lasts."""
        since: float | None = None
        wait_s = 0.0
        while True:
            if self._life is None:
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
                await self._try()
            life = self._life
            assert life is not None
            assert self._ledger
            born, owed = self._clock(), self._ledger.owes
            await asyncio.wait({life.lost})
            limit_s = life.agent.engine_give_up_s
            idle = not owed and self._clock() - born > limit_s
            if since is None or life.vital or idle:
                since, wait_s = self._clock(), 0.0  # this outage begins now
            if life.started:
                log.warning("lost the engine of agent '%s': %s", life.agent.name, life.reason)
                self._context.emit(Note(f"engine lost: {life.reason}", restarted=True))
            else:
                log.warning("no engine of agent '%s' yet: %s", life.agent.name, life.reason)
            await life.close()
            self._life = None
            wait_s = min(LONGEST_WAIT_S, wait_s * 2 or self._first_wait_s)
            if self._clock() - since > limit_s:
                if len(self._minds) == 1:
                    self._context.emit(Failed(f"the engine is lost: {life.reason}"))
                    return
                self._next_mind()
                since, wait_s = None, 0.0

    async def _try(self) -> _Life:
        """One attempt at an engine; afterwards its life was `started`, or it is lost."""
        assert self._ledger
        self._lives += 1
        mind = self._minds[0]
        engine, self._first = self._first, None
        life = self._life = _Life(self._lives, mind, engine, self._context, self._ledger)
        await life.begin()
        if life.started:
            if self.turns != life.turns:
                self.turns = life.turns
                self._context.turns_by(self.turns)
            self.autonomous = life.autonomous
            if self.autonomous:
                self._ledger.owes_nothing()
                self._context.emit(ReplyDone())  # no sign of life: it may not even have to greet
        return life

    def _next_mind(self) -> None:
        del self._minds[0]
        self._life = None
        name = self._minds[0].agent.name
        log.warning("agent '%s' stands in", name)
        self._context.emit(Note(f"agent {name} stands in"))


class _Life:
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
        self.autonomous = False
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._number, self._mind, self._engine = number, mind, engine
        self._name = f"{secrets.token_hex(2)}{number}"  # of its tool calls, in any process
        self._context, self._ledger = context, ledger
        self._begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._meanwhile: list[CallEvent | tuple[int, Pcm]] = []
        self._up: RateStream | None = None
        self._down: RateStream | None = None
        self._chunk_ms, self._chunk_at, self._rate = FRAME_MS, 0, 0
        self._chunk: list[Pcm] = []

    async def begin(self) -> None:
        """Make and start it; returns when it is ready or lost."""
        self._task = self._context.tasks.create_task(self._live(), name="engine's life")
        limit_s = self.agent.engine_silent_s
        vital = {self._begun, self.lost}
        await asyncio.wait(vital, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not self._begun.done():
            self.lose(f"did not start within {limit_s:g} s")

    @property
    def started(self) -> bool:
        """Whether it was ever ready."""
        return self._begun.done()

    def lose(self, reason: str) -> None:
        """It is lost: whatever it does from here on is for nothing."""
        self.ready = False
        if not self.lost.done():
            self.reason = reason
            self.lost.set_result(reason)

    async def close(self) -> None:
        """End it; an engine that doesn't end is left behind."""
        self.lose("closed")
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSE_S)

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """Caller audio at the call's rate; kept until it is ready."""
        if not self.ready:
            if not self.lost.done():
                self._meanwhile.append((at_ms, pcm.copy()))
            return
        self._tell((at_ms, pcm))

    def notify(self, event: CallEvent) -> None:
        """Something happened; kept until it is ready."""
        if self.ready:
            self._tell(event)
        elif not self.lost.done():
            self._meanwhile.append(event)

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
        except Exception as error:  # an engine's fault is the end of this engine only
            log.exception("the engine of agent '%s' failed", self.agent.name)
            self.lose(_line(error))

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
            await self._try()
        except* BridgeError as group:
            self.lose(_line(group))
        except* Exception as group:  # an engine's fault, likewise
            log.exception("the engine of agent '%s' failed", self.agent.name)
            self.lose(_line(group))
        finally:
            self.lose("ended")
            await self._end()

    async def _end(self) -> None:
        if self._engine is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._engine.close()
        except Exception:  # likewise
            log.exception("the engine of agent '%s' did not close", self.agent.name)

    async def _try(self) -> None:
        ledger, agent = self._ledger, self.agent
        if self._engine is None:
            self._engine = await self._mind.make()
        self.turns, self.autonomous = self._engine.turns, _autonomous(self._engine)
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
            self._begun.set_result("")
            await asyncio.wait({self.lost})  # awaited itself, it would be cancelled with us
            raise EngineError(self.reason)

    # What it gives --------------------------------------------------------------------------------

    def _emit(self, event: EngineEvent) -> None:
        if self.lost.done():
            return
        match event:
            case Failed(reason):
                self.lose(reason)
                return
            case Filler(pcm):  # no sign of life
                self._context.emit(Filler(self._down.whole(pcm)) if self._down else event)
                return
            case ToolCall(id=own):
                event = replace(event, id=f"{self._name}:{own}")
            case State(values):
                event = State({self.agent.name: dict(values)})
            case Audio(item, pcm, silence):
                self.vital = self.vital or not silence
                if self._down is not None:
                    event = Audio(item, self._down.take(pcm), silence)
            case ItemDone(item) if self._down is not None:
                self._pass_on(Audio(item, self._down.flush()))
            case ReplyDone():
                self.vital = True
            case _:
                pass
        self._pass_on(event)

    def _pass_on(self, event: EngineEvent) -> None:
        if isinstance(event, Audio) and not len(event.pcm):
            return
        self._ledger.gave(event)
        if self._ledger.ahead_ms > AHEAD_S * 1000:
            self.lose(f"gave {AHEAD_S} s of audio ahead of time")
            event = Interrupt()  # none of that is worth hearing
            self._ledger.gave(event)
        if isinstance(event, State):
            event = State(self._ledger.state)
        self._context.emit(event)

    async def _room(self) -> None:
        self.patient += 1
        try:
            await self._context.room()
        finally:
            self.patient -= 1


def _autonomous(engine: Engine) -> bool:
    return bool(getattr(engine, "autonomous", False))


def _line(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error) or type(error).__name__).splitlines()[0]
