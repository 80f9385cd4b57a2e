"""A connection to a vendor of spoken models: what it is told, and what all of them have in common.

`Wire` is one connection; `bridge.engines.speech` says when it does what. `Outbox` keeps what waits
to be sent, for libraries whose `send` waits. `refused`, `unreachable` and `lost` turn what
goes wrong with a vendor into one line that names the cure.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from bridge.engines import vendor as vendors
from bridge.engines.base import Pcm
from bridge.engines.functions import Function
from bridge.engines.prompt import Message
from bridge.errors import EngineLost, EngineRefused

MOST_WAITING = 200
"""Messages that wait to be sent, beyond which no audio is taken: four seconds of it."""
STALL_S, CLOSE_S = 5.0, 1.0
PING_S, PONG_S = 10.0, 5.0
"""How often a vendor is asked whether he lives, and how long he has to answer."""
MAX_MESSAGE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class SpeechSettings:
    """What the tables of these engines have in common."""

    instructions: str = ""
    """The system prompt: who the agent is, what it knows, how it speaks."""
    context: str = ""
    """Who makes the prompt of instructions and history (entry point `ari_bridge.context`)."""
    inter_digit_ms: int = 2000
    """Silence after a key that ends a number; # ends it at once."""
    connect_timeout_s: float = 8.0
    uplink_chunk_ms: int = 20
    """So much of the caller's audio goes into one message."""

    def __post_init__(self) -> None:
        if not 0 < self.connect_timeout_s <= 30:
            raise ValueError(f"'connect_timeout_s' is {self.connect_timeout_s}; it takes up to 30")
        if self.uplink_chunk_ms not in range(20, 201, 20):
            raise ValueError(f"'uplink_chunk_ms' is {self.uplink_chunk_ms}; it takes 20, 40 … 200")


@dataclass(frozen=True, slots=True)
class Past:
    """What a connection begins with."""

    messages: Sequence[Message]
    """The system prompt, then the conversation so far."""
    functions: Sequence[Function]
    state: Mapping[str, Any] = field(default_factory=dict)
    """What the wire gave last as state; for the same vendor and agent."""
    lines: int = 0
    """How many lines of conversation there have been, for a state that knows some of them."""


class Wire(Protocol):
    """One connection to a vendor. Everything but `open`, `run` and `close` only queues."""

    lasts_s: float
    """How long the vendor lets a session live."""

    async def open(self, past: Past) -> None:
        """Connect, and tell what was. Raises `EngineError` with the cure."""

    async def run(self) -> None:
        """Send and receive; returns when the vendor closed in good order. Raises `EngineError`."""

    def hear(self, pcm: Pcm) -> None:
        """Caller audio at the engine's rate."""

    def begin(self, pcm: Pcm) -> None:
        """The caller's turn begins, with this audio. (Where the bridge ends turns.)"""

    def answer(self) -> None:
        """Answer what he has said; his turn is over."""

    def tell(self, text: str, *, answer: bool) -> None:
        """Something that the caller did, or that happened, in words; answer it."""

    def say(self, text: str) -> None:
        """Say this."""

    def stop(self) -> None:
        """Whatever is being said: say no more of it."""

    def cut(self, item: str, heard_ms: int, text: str) -> None:
        """Of the vendor's item so much was heard, about this text, and it is over."""

    def result(self, call: str, name: str, ok: bool, value: Any, *, answer: bool) -> None:
        """What became of a tool call; answer it."""

    async def close(self) -> None:
        """Let go; idempotent."""


T = TypeVar("T")


class Outbox(Generic[T]):
    """What waits to be sent by a library whose `send` waits; a call's events never do."""

    def __init__(self, vendor: str, send: Callable[[T], Awaitable[object]]) -> None:
        self.refused = 0
        """Audio messages that the vendor was too slow for."""
        self._vendor, self._send = vendor, send
        self._waiting: deque[T] = deque()
        self._more = asyncio.Event()

    def put(self, message: T) -> None:
        """Send it."""
        self._waiting.append(message)
        self._more.set()

    def put_audio(self, message: T) -> None:
        """Send it, if not too much waits already."""
        if len(self._waiting) < MOST_WAITING:
            self.put(message)
        else:
            self.refused += 1

    async def flush(self) -> None:
        """Send what waits now. Raises what `send` raises."""
        while self._waiting:
            await self._send(self._waiting.popleft())

    async def run(self) -> None:
        """Send what comes. Raises `EngineLost`, and what `send` raises."""
        while True:
            await self._more.wait()
            while self._waiting:
                try:
                    async with asyncio.timeout(STALL_S):
                        await self._send(self._waiting.popleft())
                except TimeoutError as error:
                    raise EngineLost(f"{self._vendor} didn't read for {STALL_S:g} s") from error
            self._more.clear()


async def run_both(send: Coroutine[Any, Any, None], receive: Coroutine[Any, Any, None]) -> None:
    """Both, until one of them ends or fails; raises what it raised."""
    tasks = [asyncio.ensure_future(receive), asyncio.ensure_future(send)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def ping_s() -> tuple[float, float]:
    """`PING_S` and `PONG_S`, as they are now."""
    return PING_S, PONG_S


def refused(vendor: str, status: int, variable: str, what: str = "") -> EngineRefused:
    """The error for an HTTP status at the connection's beginning."""
    match status:
        case 401 | 403:
            text = f"{vendor} refuses the key in {variable} (HTTP {status}): check it"
        case 404:
            text = (
                f"{vendor} doesn't know that address or model (HTTP 404): check 'url' and 'model'"
            )
        case 402 | 429:
            text = f"{vendor} takes no more for now (HTTP {status}): check limits and billing there"
        case _:
            text = f"{vendor} refuses the connection (HTTP {status})"
    what = " ".join(what.split())[:200]
    return EngineRefused(f"{text}: {what}" if what else text)


def unreachable(vendor: str, error: BaseException) -> EngineLost:
    """The error for a connection that didn't come about."""
    return EngineLost(f"can't connect to {vendor}: {vendors.line(error)}")


def lost(vendor: str, error: BaseException) -> EngineLost:
    """The error for a connection's end in mid-call."""
    return EngineLost(f"the connection to {vendor} is lost: {vendors.line(error)}")
