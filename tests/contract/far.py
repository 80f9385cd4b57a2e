"""The stand-in far end of an engine: what the suite makes it do, and what it has come to know.

To add an engine, write `far_NAME.py` with a subclass of `Far` that starts a server on loopback, and

    tells what came of the call     begun(), heard(), key(), cut(), result(), turn_over()
    does what its script says       say(), call_tool(), garbage(), drop(), freeze()

in its protocol's own words, checked as strictly as the real far end would (`fault`). When a turn of
the caller is over (`turn_over`; `ends_turns` finds that out for far ends that do so themselves),
the next of `answers` is performed.
"""

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass

import numpy as np

from bridge.audio.g711 import decode_ulaw, encode_ulaw
from bridge.engines.registry import Engines


def voice(ms, rate, seed=1):
    """Something like speech, int16 (n,), loud from its first sample to its last; PCMU keeps it."""
    t = np.arange(ms * rate // 1000) / rate
    rng = np.random.default_rng(seed)
    drift = np.cumsum(rng.normal(0, 8, len(t) // (rate // 50) + 1))
    pitches = 110 + 15 * seed % 60 + 60 * np.sin(drift / 60)
    phase = np.cumsum(np.interp(t * 50, np.arange(len(pitches)), pitches)) / rate
    wave = sum(np.sin(2 * np.pi * phase * n + n) / n for n in range(1, 8))
    pcm = (wave * 3500 + np.sign(wave) * 300).astype(np.int16)
    return decode_ulaw(encode_ulaw(pcm))


@dataclass(frozen=True)
class Say:
    """The far end's agent says this: `ms` of `voice`, in pieces of `sizes` bytes in turn."""

    text: str
    ms: int = 400
    sizes: tuple[int, ...] = ()
    """() is as the real far end would send it."""
    every_ms: int = 0
    """Time on the line between two pieces; 0: all at once."""
    seed: int = 1

    def cut(self, data):
        """The encoded audio in pieces."""
        if not self.sizes:
            return [data]
        sizes, pieces, at = itertools.cycle(self.sizes), [], 0
        while at < len(data):
            size = next(sizes)
            pieces.append(data[at : at + size])
            at += size
        return pieces


@dataclass(frozen=True)
class CallTool:
    """It wants a tool to be run; with its result the next of `answers` is performed."""

    name: str
    arguments: dict


@dataclass(frozen=True)
class Garbage:
    """It sends everything that its protocol doesn't know."""


DEEP = "[" * 60_000
"""JSON that Python's parser gives up for its depth."""


@dataclass(frozen=True)
class Drop:
    """The connection breaks."""


@dataclass(frozen=True)
class Freeze:
    """It neither reads, nor says anything, nor answers pings, until the connection is over."""


class Far:
    """One far end, for all connections of a test."""

    engine = ""
    """The engine's name in the registry."""
    rate = 8000
    """Of its audio."""
    does: frozenset[str] = frozenset()
    """What the protocol has, of:
    text        it tells what agent and caller say
    tools       it calls tools and takes results
    keys        it learns which keys were pressed
    history     it is given the conversation on resume
    truncation  it learns how much was heard of what was cut
    key         it wants a key, whose environment variable is `key_env`
    owes        the bridge knows when it owes an answer, so that silence is found out
    autonomous  it speaks when it likes, and isn't told of silence
    """
    lasts = True
    """A call has one connection, as long as it lasts; else one for each request."""
    key_env = ""
    alike = 0.9
    """How well what comes out must correlate with what went in (a lossy codec does worse)."""
    words = "What are your hours?"
    """What it makes out of the caller's voice."""

    def __init__(self):
        self.greeting = ()
        self.answers = deque()
        self.caller = []
        """The caller's audio as it came, int16 (n,) each."""
        self.keys = ""
        self.cuts = []
        """Ms heard of the answer cut short, each; None where the protocol doesn't say."""
        self.results = []
        self.history = None
        """The lines (role, text) that the last connection began with; () if it is told of a resume
        without them, None if that was a new conversation."""
        self.connections = self.open = 0
        self.faults = []
        """What a real far end would have refused."""
        self.line = None
        self._engines = Engines()
        self._performing = None
        self._vad = _Vad(self.rate)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        self.stop()
        await self._engines.close()

    def dressed(self, agent):
        """The agent, with what it must say itself because the far end can't."""
        return agent

    async def create(self, agent):
        """An engine for one call of that agent, as a worker makes it."""
        return await self._engines.create(agent)

    # For the adapter to write ---------------------------------------------------------------------

    def options(self):
        """The table of the agent file."""
        raise NotImplementedError

    def environment(self):
        """Environment variables that the engine reads."""
        return {}

    def hurry(self, monkeypatch):
        """Make the engine's own waits as short as the line's time is."""

    def ping(self, monkeypatch):
        """Make the time short in which a frozen far end is found out. (Only where there is one:
        on a busy machine one that lives may be as late.)"""

    async def refuse(self):
        """From here on nobody listens there."""
        raise NotImplementedError

    async def say(self, step):
        """Send `voice(step.ms, self.rate, step.seed)` and `step.text`."""
        raise NotImplementedError

    async def call_tool(self, step):
        """Ask for the tool."""
        raise NotImplementedError

    async def garbage(self):
        """Send everything that isn't understood there."""
        raise NotImplementedError

    async def drop(self):
        """Break the connection."""
        raise NotImplementedError

    async def freeze(self):
        """Do nothing more on this connection."""
        raise NotImplementedError

    # For the adapter to tell ----------------------------------------------------------------------

    def begun(self, history=None):
        """A conversation begins, or goes on with `history`, if only ()."""
        self.stop()
        self.history = history
        if history is None and self.greeting:
            self.perform(self.greeting)

    def heard(self, pcm):
        """More of the caller's audio."""
        self.caller.append(np.array(pcm, np.int16))

    def ends_turns(self, pcm):
        """For a far end that ends turns itself: whether in this audio the caller "began" or
        "ended" to speak; None: neither."""
        return self._vad.feed(pcm)

    def key(self, digit):
        """The caller pressed a key."""
        self.keys += digit

    def cut(self, heard_ms=None):
        """What it says was cut short."""
        self.stop()
        self.cuts.append(heard_ms)

    def result(self, name, ok, value):
        """A tool was run."""
        self.results.append((name, ok, value))
        self.turn_over()

    def turn_over(self):
        """The caller has spoken: answer."""
        if self.answers:
            self.perform(self.answers.popleft())

    def fault(self, what):
        """A real far end would refuse this."""
        self.faults.append(what)

    # How ------------------------------------------------------------------------------------------

    def perform(self, steps):
        """Do these steps, one after the other."""
        self.stop()
        self._performing = asyncio.create_task(self._perform(steps))

    def stop(self):
        """Do nothing more of the present steps."""
        if self._performing is not None and self._performing is not asyncio.current_task():
            self._performing.cancel()
        self._performing = None

    async def wait(self, ms):
        """Until so much time has passed on the line."""
        until = self.line.at_ms + ms
        while self.line.at_ms < until:
            await asyncio.sleep(0.001)

    async def _perform(self, steps):
        for step in steps:
            match step:
                case Say():
                    await self.say(step)
                case CallTool():
                    await self.call_tool(step)
                case Garbage():
                    await self.garbage()
                case Drop():
                    await self.drop()
                case Freeze():
                    await self.freeze()


class _Vad:
    """Speech is loud: 100 ms of it begin a turn, 300 ms of silence end it."""

    def __init__(self, rate):
        self._rate, self._left = rate, np.zeros(0, np.int16)
        self._loud = self._still = 0
        self._speaks = False

    def feed(self, pcm):
        found = None
        self._left = np.concatenate((self._left, pcm))
        frame = self._rate // 50
        while len(self._left) >= frame:
            part, self._left = self._left[:frame], self._left[frame:]
            if np.abs(part.astype(int)).mean() > 200:
                self._loud, self._still = self._loud + 20, 0
            else:
                self._still += 20
            if not self._speaks and self._loud >= 100:
                self._speaks, found = True, "began"
            elif self._still >= 300:
                if self._speaks:
                    self._speaks, found = False, "ended"
                self._loud = 0
        return found
