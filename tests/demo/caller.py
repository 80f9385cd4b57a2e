"""The scripted caller: says each turn of a script when a person would.

It knows the agent only by ear: it hears, live from the packet capture, whether the agent is
speaking, waits until the agent has answered and fallen silent, and then takes its turn; or, where
the script says so, it speaks in the middle of the agent's sentence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.demo.judge import Mark
from tests.demo.script import Script, Turn
from tests.demo.voice import Clip
from tests.lab.baresip import Baresip
from tests.lab.capture import RATE
from tests.lab.speech import Ear

POLL_S = 0.01
LONGEST_ANSWER_S = 40.0  # an agent that talks for longer is spoken to all the same
LAST_WORDS_S = 3.0  # what the human who takes the call says and tones


@dataclass
class Caller:
    """Holds one conversation.

    `say` is told what it does, for people who watch; `kill` kills the worker that serves the call
    and tells when (epoch seconds).
    """

    phone: Baresip
    ear: Ear
    script: Script
    clips: dict[str, Clip]
    reached: Callable[[str], bool] = lambda extension: False
    kill: Callable[[], float] = time.time
    say: Callable[[str, str], None] = print
    marks: list[Mark] = field(default_factory=list)
    reached_at: float | None = None
    killed_at: float | None = None
    _striking: asyncio.Task[None] | None = None

    async def talk(self) -> None:
        """From the answered call to the last answer; the call stays up."""
        try:
            await self._talk()
        finally:
            if self._striking is not None:
                await self._striking

    async def _talk(self) -> None:
        since = time.time()
        within = self.script.turns[0].answer_within_s
        for turn in self.script.turns:
            if turn.interrupt_after_ms:
                await self._in_mid_sentence(since, within, turn.interrupt_after_ms / 1000)
            else:
                await self._answered(since, within, turn.pause_ms)
            if self.phone.closed.is_set():
                self.say("hears", "the call has ended before the script")
                return
            self.marks.append(Mark(turn, time.time()))
            since = await self._take(turn)
            within = turn.answer_within_s
            if turn.kill_worker_after_ms:
                after = turn.kill_worker_after_ms / 1000
                self._striking = asyncio.create_task(self._strike(since, within, after))
            if turn.expect_extension:
                await self._transferred(turn)
                if self.reached_at is not None:  # from here on somebody else talks
                    await self._pause(LAST_WORDS_S)
                    return
        await self._answered(since, within)

    async def _take(self, turn: Turn) -> float:
        """Do the turn; returns when it was done (epoch seconds)."""
        how = "interrupts" if turn.interrupt_after_ms and not turn.goes_on else "says"
        self.say("presses" if turn.dtmf else how, turn.dtmf or turn.say)
        if turn.dtmf:
            await self.phone.dtmf(turn.dtmf)
        else:
            clip = self.clips[turn.say]
            await self._pause(await self.phone.speak(clip.pcm, RATE))
        return time.time()

    async def _strike(self, since: float, within: float, after: float) -> None:
        """Kill the worker in the middle of what the agent says."""
        await self._in_mid_sentence(since, within, after)
        if not self.phone.closed.is_set():
            self.killed_at = await asyncio.to_thread(self.kill)
            self.say("kill -9", "the worker that serves the call, in the middle of this sentence")

    async def _answered(self, since: float, within: float, pause_ms: int = 0) -> None:
        """Until the agent has spoken since then and is silent; without an answer, `within`."""
        pause = (pause_ms or self.script.pause_ms) / 1000
        while not self.phone.closed.is_set():
            now = time.time()
            if self._striking is not None and not self._striking.done():
                pass  # not before that: else he would speak or press keys while nobody is there
            elif self.ear.spoke_since(since):
                if self.ear.silent_for(now) >= pause or now > since + LONGEST_ANSWER_S:
                    return
            elif now > since + within:
                return
            await asyncio.sleep(POLL_S)

    async def _in_mid_sentence(self, since: float, within: float, after: float) -> None:
        """Until the agent has been speaking for so long since then."""
        begun: float | None = None
        while not self.phone.closed.is_set():
            now = time.time()
            if begun is None and self.ear.spoke_since(since):
                begun = max(self.ear.onset or since, since)
            if begun is not None and now >= begun + after:
                return
            if begun is None and now > since + within:
                return
            await asyncio.sleep(POLL_S)

    async def _transferred(self, turn: Turn) -> None:
        """Until the PBX has the caller at the extension, or the time for an answer is over."""
        since, asked = time.time(), 0.0
        while not self.phone.closed.is_set():
            now = time.time()
            if now - asked >= 0.25:
                asked = now
                if await asyncio.to_thread(self.reached, turn.expect_extension):
                    self.reached_at = time.time()
                    return
            quiet = self.ear.silent_for(now) > turn.answer_within_s
            if now > since + turn.answer_within_s and quiet:
                return
            await asyncio.sleep(POLL_S)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than the call."""
        wait = asyncio.create_task(self.phone.closed.wait())
        await asyncio.wait({wait}, timeout=seconds)
        wait.cancel()
