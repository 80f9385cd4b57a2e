"""One call, from the PBX's hand-over to its end.

Sets the parts of a call up, wires them by their ports, and owns every task of it:

    leg           the PBX's side: answer, external media, keys, hold, transfer, hang-up
    slot          the media process' side: audio both ways
    conversation  what flows between the slot, the dialog layer and the engine
    tools         what the engine wants done in the world
    quality       how good the audio is, on both legs
    recording     whether the recorder takes it down

A call ends exactly once, by whatever sets its `Outcome` first. Unless the caller has gone or was
handed over, the dialplan then goes on after Stasis() with ARI_BRIDGE_RESULT set: when we fail, a
caller gets the operator's dialplan, never silence. At the end nothing of ours is left on the PBX or
in media.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial

from bridge.agent import Agent
from bridge.callrecord import CallRecord
from bridge.ears import Ears
from bridge.engines.base import Context, Engine, Told
from bridge.errors import (
    BridgeError,
    ConfigError,
    MediaError,
    PbxGone,
    PbxNotAnswered,
    PbxRefused,
    StoreUnreachable,
)
from bridge.garbage import Unframed
from bridge.media.base import Media, Slot
from bridge.pbx.base import (
    CalleeLeft,
    Dtmf,
    Hold,
    HungUp,
    Leg,
    MediaLost,
    MediaReplaced,
)
from bridge.quality import LineQuality
from bridge.recall import Memory, numbers_now
from bridge.recorded import KEYS_S, Recording
from bridge.rejoin import rejoined
from bridge.sessions.base import Store
from bridge.sessions.model import Record
from bridge.sessions.progress import Progress
from bridge.talk.conversation import Conversation
from bridge.talk.presence import Presence
from bridge.tools import Outcome as Outcome
from bridge.tools import Tools, variables
from bridge.transcript import Transcript

log = logging.getLogger(__name__)


NOTED_S = 1.0
"""A call of ours waits so long for Redis to know of it."""
GREETING_S = 1.0
"""How long a call isn't answered at most because the engine has no greeting yet."""


_NUMBERS_S = 5.0
"""Between two notes of where the packets stand; in between it can be told by the time."""


_NUMBERS = itertools.count()

_RINGS_S = 2.0
"""Who orders a transfer waits so long for its outcome; longer, it rings."""

_ELSEWHERE = ("moved", "taken")
"""Of `HungUp.cause`: the call hasn't ended, it isn't ours any more."""

_KEYS_S = (0.0, 0.3)
"""When keys are looked for that the former owner passed on: his last may come a little later."""


class _CallOver(Exception):
    """Leaves the call's task group."""


class NotYet(ConfigError):
    """The call is coming over from another worker: it may be asked again in a moment."""


def _end(over: asyncio.Future[Outcome], outcome: Outcome) -> None:
    """What the parts of a call are given to end it, so that they don't hold it."""
    if not over.done():
        over.set_result(outcome)


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
        ears: Ears | None = None,
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
            ears: the worker's, which tell voices from noises.
        """
        self.id = leg.incoming.call_id
        self.number = next(_NUMBERS)
        """Among this process' calls."""
        self._leg, self._media, self._store, self._mind = leg, media, store, mind
        self._ears = ears
        self._over: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._memory = memory
        self._tasks: asyncio.TaskGroup
        self._tools: Tools | None = None
        self._conversation: Conversation | None = None
        self._listens = False  # the engine is ready, so that it can be told something
        self._quality: LineQuality | None = None
        self._recording: Recording | None = None
        self._keys: asyncio.TimerHandle | None = None
        self._slot: Slot | None = None
        self._numbers_at = 0.0
        self._record = CallRecord(
            leg.incoming, worker, store, memory.record if memory is not None else None
        )
        self._ringing = False
        self._leaving: Outcome | None = None

    def end(self, outcome: Outcome) -> None:
        """End the call, unless it has an outcome already."""
        _end(self._over, outcome)

    @property
    def talk(self) -> Presence:
        """Who talks in it. Raises `ConfigError` while there is none, or it can't be told anything
        yet."""
        if self._memory is not None and not self._listens and not self._over.done():
            raise NotYet("the call is coming over from another worker: ask again in a moment")
        if self._conversation is None or not self._listens or self._over.done():
            raise ConfigError("nobody talks in this call now: it is being set up, or has ended")
        return self._conversation.presence

    async def cancel(self, reason: str) -> None:
        """End the call, and leave the caller to nobody. Raises `PbxError`."""
        outcome = Outcome("cancelled", reason, gone=True)
        if self._leg.incoming.outgoing is None:
            await self._go(outcome, self._leg.hang_up())
        else:  # it may not have been made yet
            self.end(Outcome("cancelled", reason))

    async def spy(self, to: tuple[str, int]) -> tuple[int, tuple[str, int]]:
        """See `Leg.spy`. Raises `ConfigError` while nobody talks."""
        assert self.talk
        return await self._leg.spy(to)

    def renew_spy(self, number: int) -> None:
        """See `Leg.renew_spy`."""
        self._leg.renew_spy(number)

    async def unspy(self, number: int) -> None:
        """See `Leg.unspy`."""
        await self._leg.unspy(number)

    async def transfer(self, to: str) -> None:
        """Transfer the caller as the agent may; returns when that is done or it rings.

        What comes of the ringing, the agent is told.

        Raises:
            ConfigError: the agent may not.
            PbxError: he can't be had, as was found out at once; or the caller has gone.
        """
        assert self.talk
        assert self._tools
        self._tools.may_transfer(to)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._transfer(self._tools, to, answer), name="transfer")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RINGS_S):
                await answer

    async def _transfer(self, tools: Tools, to: str, answer: asyncio.Future[None]) -> None:
        try:
            if told := await tools.hand_over(to):
                tools.transfer.tell(told)
        except (BridgeError, TimeoutError) as failed:
            error = failed if str(failed) else PbxRefused(f"{to}: the PBX did not answer")
            if answer.done():
                tools.transfer.tell(f"Nothing came of a transfer: {error}. The caller hears you.")
            else:
                answer.set_exception(error)
        if not answer.done():
            answer.set_result(None)

    async def _go(self, outcome: Outcome, leave: Awaitable[None]) -> None:
        """End the call by what takes the caller from us."""
        self._leaving = outcome
        try:
            await leave
        finally:
            self._leaving = None
        self.end(outcome)

    async def run(self) -> Outcome:
        """From hand-over to end; whatever happens, the call is over and cleaned up after."""
        incoming = self._leg.incoming
        if incoming.outgoing is not None:
            log.info("calling %s", incoming.dialed)
        else:
            log.info("call from %s to %s", incoming.caller_number, incoming.dialed)
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
            with Unframed():
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
        except* PbxNotAnswered as group:
            error = group.exceptions[0]
            assert isinstance(error, PbxNotAnswered)
            self.end(Outcome(error.result, str(error)))
        except* ConfigError as group:
            self._fail(group, "unknown-agent")
        except* BridgeError as group:
            self._fail(group, "failed")
        except* Exception as group:  # the call's one boundary
            log.exception("a fault of ours ended the call")
            self._fail(group, "failed")

    async def _converse(self, cleanup: AsyncExitStack) -> None:
        incoming = self._leg.incoming
        agent, engine = await self._mind(incoming.args[0] if incoming.args else "")
        cleanup.push_async_callback(engine.close)
        self._record.stages.mark("agent")
        self._record.engine = agent.engine
        begin = self._take_up if self._memory else self._set_up
        conversation, context = await begin(agent, engine, cleanup)
        if self._memory:
            await engine.start(context)
        conversation.listen()
        self._listens = True
        if self._memory:
            self._tasks.create_task(self._passed_keys(conversation.presence), name="passed keys")
            assert self._tools
            replying = context.resume is not None and context.resume.replying
            await self._tools.transfer.resume(again=self._tools.transfers_again, replying=replying)
            self._tools.next()
        await asyncio.sleep(agent.max_call_s)
        self.end(Outcome("done", f"the call reached the agent's max_call_s ({agent.max_call_s})"))

    async def _passed_keys(self, presence: Presence) -> None:
        """What the caller pressed while the call came over to us."""
        for wait_s in _KEYS_S:
            await asyncio.sleep(wait_s)
            try:
                keys = await self._store.passed_keys(self.id)
            except StoreUnreachable as error:
                log.warning("keys that were pressed meanwhile are not known: %s", error)
                return
            for key in keys if not self._over.done() else "":
                presence.digit(key)

    async def _set_up(
        self, agent: Agent, engine: Engine, cleanup: AsyncExitStack
    ) -> tuple[Conversation, Context]:
        """A new call: external media, slot, answer."""
        self._record.agent = agent.name
        self._store.put(self.id, agent=agent.name, engine=agent.engine)
        self._media.check_room(self.id)
        if self._leg.incoming.outgoing is not None:
            await self._ring()
        incoming = self._leg.incoming
        source = await self._leg.open_media(self._media.address, incoming.codec)
        self._record.stages.mark("external media")
        self._store.put(self.id, **self._leg.handles)
        slot = await self._media.open(
            *(self.id, source, incoming.codec, engine.rate), late=agent.late_packets
        )
        self._record.stages.mark("slot")
        cleanup.push_async_callback(slot.close)
        conversation = self._wire(agent, engine, slot)
        assert self._recording
        # The greeting is there before the caller is: it waits in the slot until he can hear it.
        slot.pause()
        conversation.begin(bool(agent.greeting))
        context = conversation.context(agent, incoming, self._tasks)
        if incoming.outgoing is None:  # whom we call has not called back
            context = await rejoined(self._store, context)
        await engine.start(context)
        if agent.greeting and not context.history:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GREETING_S):
                    await conversation.spoken()
        self._record.stages.mark("engine")
        await self._leg.answer()
        self._record.stages.mark("answer")
        await self._leg.join()
        self._record.stages.mark("joined")
        self._record.talks(slot.rate)
        self._place()
        self._recording.begin()
        on_record = asyncio.Event()
        self._store.when_written(self.id, on_record.set)
        await on_record.wait()  # whoever takes it over must not greet him again
        self._record.stages.mark("on record")
        slot.resume()
        return conversation, context

    async def _ring(self) -> None:
        """A call of ours: nothing is made for it before he has answered."""
        self._store.put(self.id, state="ringing")
        # If we die from here on, it is known that somebody's phone rings.
        if not await self._store.written(self.id, NOTED_S) or not self._store.owns(self.id):
            raise StoreUnreachable("nobody was called: the session store is away")
        self._ringing = True
        await self._leg.dial()
        self._ringing = False
        incoming = self._leg.incoming
        variables = json.dumps(incoming.args[1:])
        self._store.put(self.id, state="setup", codec=incoming.codec, variables=variables)

    async def _take_up(
        self, agent: Agent, engine: Engine, cleanup: AsyncExitStack
    ) -> tuple[Conversation, Context]:
        """A conversation that another process began."""
        assert self._memory
        slot, fresh = await self._inherit(agent, engine, self._memory.record)
        cleanup.push_async_callback(slot.close)
        conversation = self._wire(agent, engine, slot)
        assert self._recording
        self._recording.take_up(self._memory.record.recording)
        self._place()
        resume, history = conversation.take_up(self._memory, fresh=fresh)
        context = conversation.context(agent, self._leg.incoming, self._tasks, history, resume)
        return conversation, context

    async def _inherit(self, agent: Agent, engine: Engine, record: Record) -> tuple[Slot, bool]:
        """The audio of a conversation that another process began, and whether it begins anew."""
        progress = self._memory.progress if self._memory else Progress()
        if record.place in ("", self._media.place):  # the last version notes none
            try:
                since = progress.since_ms, progress.answered_ms
                return await self._media.attach(self.id, engine.rate, *since), False
            except MediaError as error:
                log.warning("%s; opening another", error)
        # Its media process was another host's, or has forgotten it: the PBX gets a new address, and
        # our packets go on ahead of those that were sent there.
        codec = self._leg.incoming.codec
        source = await self._leg.open_media(self._media.address, codec)
        slot = await self._media.open(
            *(self.id, source, codec, engine.rate),
            late=agent.late_packets,
            after=numbers_now(record, time.time()),
        )
        await self._leg.join()
        return slot, True

    def _place(self) -> None:
        """Write down where the audio flows."""
        host, port = self._media.address
        self._store.put(
            self.id,
            place=self._media.place,
            media_address=f"{host}:{port}",
            **self._leg.handles,
        )

    def _wire(self, agent: Agent, engine: Engine, slot: Slot) -> Conversation:
        transcript = Transcript(self._store, self.id)
        self._slot = slot
        end = partial(_end, self._over)
        self._tools = Tools(
            *(self._leg, agent, transcript, self._store, self._tasks),
            end=end,
            tell=engine.notify,
        )
        self._tools.transfer.tell = lambda text: engine.notify(Told(text))
        self._recording = self._tools.recording = Recording(
            *(agent, self._leg.incoming, slot, self._media, self._store, transcript)
        )
        self._quality = LineQuality(self.id, self._leg, slot, self._store)
        self._tasks.create_task(self._quality.watch(), name="quality")
        self._tasks.create_task(self._quality.watch_losses(), name="losses")
        self._conversation = Conversation(
            *(self.id, agent, engine, slot, self._tools, transcript, self._store),
            over=self._over.done,
            end=end,
            ears=self._ears,
        )
        return self._conversation

    def note(self) -> None:
        """Write down how far the conversation has got, if that has changed."""
        if self._conversation is None or self._slot is None or self._over.done():
            return
        self._conversation.guarded(self._conversation.look)
        now = time.time()
        if now - self._numbers_at >= _NUMBERS_S:
            self._numbers_at = now
            self._store.put(self.id, numbers=" ".join(map(str, self._slot.numbers)), numbers_at=now)

    def audio(self) -> Mapping[str, float | Mapping[str, float]]:
        """How good the call's audio is now: see `LineQuality.now`; empty before it has a slot."""
        return self._quality.now() if self._quality is not None else {}

    def let_go(self) -> None:
        """Another worker owns the call: end here without touching it."""
        self._store.forget(self.id)
        self._leg.forget()

    async def _give_back(self, outcome: Outcome) -> None:
        """The dialplan goes on with the caller."""
        notes = self._tools.notes if self._tools is not None else {}
        try:
            await self._leg.leave(variables(outcome, notes))
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
        talk = self._conversation
        if self._keys is not None:
            self._keys.cancel()
        if talk is not None:
            talk.finish()
        if self._quality is not None:
            self._quality.note()
        self._record.over(self._leg.incoming, outcome, talk.timed if talk is not None else ())

    # The PBX's events -----------------------------------------------------------------------------

    async def _events(self) -> None:
        while True:
            event = await self._leg.events.get()
            talk = self._conversation
            match event:
                case HungUp() if self._ringing:
                    pass  # `Leg.dial` says what came of it
                case HungUp(cause):
                    # What we asked for may be told before the answer to our request comes.
                    leaving = self._tools.leaving if self._tools is not None else None
                    left = Outcome("hung-up", cause, gone=True, elsewhere=cause in _ELSEWHERE)
                    self.end(self._leaving or leaving or left)
                case CalleeLeft() if self._tools is not None:
                    self._tasks.create_task(self._tools.transfer.callee_left(), name="transfer")
                case MediaLost():
                    self.end(Outcome("failed", "the PBX closed the external media"))
                case MediaReplaced() if not self._over.done():
                    self._place()
                case Hold(on) if talk is not None and not self._over.done():
                    talk.presence.hold(on)
                case Dtmf(digit) if talk is not None and not self._over.done():
                    self._digit(talk, digit)

    def _digit(self, talk: Conversation, digit: str) -> None:
        """The caller pressed a key, which may be the recording's."""
        assert self._recording
        if self._keys is not None:
            self._keys.cancel()
        passed, waits = self._recording.keys(digit)
        for key in passed:
            talk.presence.digit(key)
        if waits:
            self._keys = asyncio.get_running_loop().call_later(KEYS_S, self._key_after_all, talk)

    def _key_after_all(self, talk: Conversation) -> None:
        assert self._recording
        self._keys = None
        for key in self._recording.held_back():
            talk.guarded(talk.presence.digit, key)

    def record(self, on: bool) -> bool:
        """Pause the recording, or go on with it; False: the call isn't recorded."""
        if self._recording is None:
            return False
        return self._recording.resume() if on else self._recording.pause()
