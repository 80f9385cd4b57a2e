"""How a cascade's answer comes about: the steps of a brain or a model, spoken one by one.

Everything is given to a `Reply`, which keeps it while its turn may be taken back. A closed reply
waits before its second sentence; a model's that answers a mere pause waits before its first one is
rendered: a voice that renders in vain keeps the caller's next words, and the next answer, waiting.
No tool is called before the reply is open, because a call is given like everything else. A model
goes on when its tools are done: what they gave is a line of the conversation.

An answer that has become longer than the agent's `max_reply_s` stops behind the sentence, and the
caller is asked whether to go on: what a brain had still to say or do waits for his yes, and is kept
with the session meanwhile. A model knows what it has said, and is asked by him to go on.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from functools import partial

import numpy as np

from bridge.engines.base import (
    Audio,
    Context,
    Expect,
    ItemDone,
    Resume,
    State,
    Text,
    ToolResult,
    Wants,
    Words,
)
from bridge.engines.english import yes_or_no
from bridge.engines.memory import Memory
from bridge.engines.parts import (
    Began,
    Brain,
    Do,
    Model,
    Remember,
    Said,
    Say,
    Step,
    Tts,
)
from bridge.engines.prompt import used
from bridge.engines.reply import Reply
from bridge.engines.sentences import sentences
from bridge.engines.talk import as_given, lines
from bridge.engines.uses import Uses

log = logging.getLogger(__name__)

AHEAD_MS = 1000
"""Audio that a closed reply may hold; the rest comes when there is room for it."""

SAY_AGAIN = "Say that again."
"""What a caller asks the brain who wants to go on where they were."""

MAX_ROUNDS = 5
"""How often a model may call tools in one reply."""


class Answering:
    """One call's way from what was said to what is spoken."""

    def __init__(
        self,
        brain: Brain | Model,
        tts: Tts,
        memory: Memory,
        uses: Uses,
        gap_ms: int,
        clock: Callable[[], float],
    ) -> None:
        """`gap_ms` is the pause between two sentences."""
        self._brain, self._tts, self._memory, self._uses = brain, tts, memory, uses
        self._gap = tts.rate * gap_ms // 1000
        self._clock = clock

    async def speak(
        self, context: Context, reply: Reply, what: Said | Say, resume: Resume | None
    ) -> None:
        """Say it, or the answer to it; of a reply that another process began, what is missing of
        it. Raises `EngineError`."""
        reply.bounded = isinstance(what, Said)
        if resume is not None and resume.rest:
            await self._say(context, reply, resume.rest, 0)
        if isinstance(what, Said) and isinstance(self._brain, Model):
            await self._converse(context, reply, self._brain, what, resume)
        else:
            given = resume.given if resume is not None else ()
            await self._perform(context, reply, self._steps(context, reply, what, resume), given)
            reply.give(partial(self._settle, reply))

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
                        rest = await self._sentences(context, reply, step.text, left)
                        if rest is None:
                            return
                        if rest:
                            await self._ask_to_go_on(context, reply, rest, steps)
                            return
                    case Do():
                        self._do(reply, step)
                    case Remember():
                        reply.give(partial(self._memory.keep, step.memory))
                    case Expect() | Wants():
                        reply.give(step)

    async def _sentences(
        self, context: Context, reply: Reply, text: str, left: list[str]
    ) -> list[str] | None:
        """Speak those that aren't `left` from another process.

        Returns:
            Those that are too many for one reply; None: that reply was about something else, and
            has been said.
        """
        most = context.agent.max_reply_s * self._tts.rate
        every = sentences(text)
        for n, sentence in enumerate(every):
            if left:
                if left.pop(0) != sentence:
                    return None
            elif most and reply.bounded and reply.samples >= most:
                return every[n:]
            else:
                if isinstance(self._brain, Model):
                    await reply.likely.wait()
                if reply.spoken:
                    await reply.opened.wait()
                await self._say(context, reply, sentence, reply.spoken)
            reply.spoken += 1
        return []

    async def _ask_to_go_on(
        self, context: Context, reply: Reply, rest: list[str], steps: AsyncIterator[Step]
    ) -> None:
        if not isinstance(self._brain, Model):
            later: list[Step] = [Say(" ".join(rest))]
            async for step in steps:
                match step:
                    case Remember():
                        reply.give(partial(self._memory.keep, step.memory))
                    case Wants():
                        reply.give(step)
                    case Say() | Do():
                        later.append(step)
            reply.give(partial(self._put_off, reply, later))
        reply.give(Expect("yes-no"))
        for sentence in sentences(context.agent.go_on):
            await self._say(context, reply, sentence, reply.spoken)

    def _put_off(self, reply: Reply, steps: list[Step]) -> None:
        reply.give(State(self._memory.put_off(steps)))

    def _settle(self, reply: Reply) -> None:
        """What was put off is no successor's concern any more, once its answer is over."""
        if self._memory.state and not self._memory.later:
            self._put_off(reply, [])

    async def _steps(
        self, context: Context, reply: Reply, what: Said | Say, resume: Resume | None
    ) -> AsyncIterator[Step]:
        """A brain's answer."""
        if isinstance(what, Say):
            yield what
            return
        assert not isinstance(self._brain, Model)
        memory = self._memory
        history = tuple(memory.history)
        if resume is None:
            self._note(reply, what)
        if memory.rejoining and what.kind == "words":
            reply.give(memory.rejoined)
            match yes_or_no(what.text):
                case True:
                    what = Said("words", SAY_AGAIN)
                case False:
                    reply.give(memory.forget)
                    yield Say(context.greeting)
                    return
        if memory.later and what.kind in ("words", "digits"):
            later = memory.later
            reply.give(memory.asked)
            match yes_or_no(what.text):
                case True:
                    for step in later:
                        yield step
                    return
                case False:
                    what = Said("declined")
        async for step in self._brain.think(what, memory.brains, history):
            yield step

    async def _converse(
        self, context: Context, reply: Reply, model: Model, said: Said, resume: Resume | None
    ) -> None:
        """A model's answer, tools and all."""
        memory = self._memory
        if resume is None:
            history = [*memory.history, *lines(said)]
            self._note(reply, said)
        else:
            for call, result in resume.tools:
                if result is None:  # it isn't run twice, and we are told its result
                    self._do(reply, Do(call.name, call.arguments))
            await self._uses.over(reply.calls)
            reply.calls.clear()
            history = as_given(memory.history, resume)
        for _ in range(MAX_ROUNDS):
            await self._perform(context, reply, model.answer(context, history))
            if not reply.calls:
                return
            await reply.opened.wait()
            await self._uses.over(reply.calls)
            reply.calls.clear()
            history = list(memory.history)
        log.warning("the model has called tools %d times without an end", MAX_ROUNDS)

    async def _say(self, context: Context, reply: Reply, sentence: str, spoken: int) -> None:
        item = context.new_item()
        reply.give(Text(item, sentence))
        if spoken:
            reply.give(Audio(item, np.zeros(self._gap, np.int16), silence=True))
        ahead = 0
        async for pcm in self._tts.say(sentence, first=not spoken):
            if ahead * 1000 >= AHEAD_MS * self._tts.rate:
                await reply.opened.wait()
            if reply.opened.is_set():
                await context.room()
            reply.stamp(first_audio=self._clock())
            if not ahead and (marks := self._tts.words(sentence)):
                reply.give(Words(item, marks))
            reply.give(Audio(item, pcm))
            ahead += len(pcm)
            reply.samples += len(pcm)
        reply.give(ItemDone(item))

    def _do(self, reply: Reply, step: Do) -> None:
        call = self._uses.call(step)
        reply.calls.append(call.id)
        if step.fault:
            self._uses.told(ToolResult(call.id, False, step.fault))
            reply.give(partial(self._memory.remember, used(call, False, step.fault)))
        else:
            reply.give(call)

    def _note(self, reply: Reply, said: Said) -> None:
        """What the caller said becomes a line of the conversation, if it stands."""
        for entry in lines(said):
            if entry.role != "event":
                reply.give(partial(self._memory.remember, entry))
