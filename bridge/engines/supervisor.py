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
import time
from collections.abc import Callable, Sequence
from typing import Literal

from bridge.agent import Agent
from bridge.engines import faults
from bridge.engines.base import (
    CallEvent,
    Context,
    Engine,
    Failed,
    HearMany,
    NoInput,
    Note,
    Pcm,
    ReplyDone,
)
from bridge.engines.ledger import Ledger
from bridge.engines.life import Life, autonomous, told_of_speech
from bridge.engines.life import Mind as Mind
from bridge.errors import BridgeError, EngineError

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0


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
            faults.count[mind.agent.engine, "late"] += 1
        except BridgeError as error:
            fault = error
            faults.count[mind.agent.engine, faults.kind(error)] += 1
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
        self.autonomous, self.told_of_speech = autonomous(engine), told_of_speech(engine)
        self._minds = list(minds)
        self._first: Engine | None = engine
        self._first_wait_s, self._clock = first_wait_s, clock
        self._context: Context
        self._ledger: Ledger | None = None
        self._life: Life | None = None
        self._lives = 0
        self._keeper: asyncio.Task[None] | None = None

    # The port -------------------------------------------------------------------------------------

    @property
    def speaks(self) -> bool:
        """Whether the engine of now says what it is told to."""
        return self._life is not None and self._life.speaks

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
        life = self._life
        if life is None:
            return
        if (straight := life.straight) is not None:
            try:
                straight.hear(at_ms, pcm)
            except Exception as error:  # noqa: BLE001 - an engine's fault is the end of it only
                life.failed(error)
        else:
            life.hear(at_ms, pcm)
        if self._ledger.owes and life.ready and not life.patient:
            limit_ms = life.agent.engine_silent_s * 1000
            if self._ledger.silent_ms > limit_ms:
                life.lose(f"said nothing for {limit_ms / 1000:g} s", "silent")

    @property
    def straight(self) -> tuple[HearMany, Engine] | None:
        """Who takes frames for the engine as well as `hear`, because we have nothing to note of
        them: the caller's audio won't be wanted again, and the engine owes nothing."""
        ledger, life = self._ledger, self._life
        if ledger is None or ledger.keeps_audio or ledger.owes or life is None:
            return None
        many: HearMany | None = getattr(life.straight, "hear_many", None)
        return None if many is None or life.straight is None else (many, life.straight)

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
            self._keeper = None  # its task's error holds us
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

    async def _try(self) -> Life:
        """One attempt at an engine; afterwards its life was `started`, or it is lost."""
        assert self._ledger
        self._lives += 1
        mind = self._minds[0]
        engine, self._first = self._first, None
        life = self._life = Life(self._lives, mind, engine, self._context, self._ledger)
        await life.begin()
        if life.started:
            self.autonomous, self.told_of_speech = life.autonomous, life.told_of_speech
            if self.turns != life.turns:
                self.turns = life.turns
                self._context.turns_by(self.turns)
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
