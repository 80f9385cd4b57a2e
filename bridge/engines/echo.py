"""Diagnostics: says the caller's own audio back, `delay_ms` later.

It tells an operator that audio flows both ways, and how long the way is. It does its own
endpointing (none at all), so the agent file should say `barge_in = "off"`: else the caller
interrupts his echo.

One item lasts until the call drops it (a key that was pressed) and at most `ITEM_MS`, so that no
item grows without bound and what was heard is told every now and then.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from bridge.agent import Agent
from bridge.engines.base import (
    Audio,
    BargeIn,
    CallEvent,
    Context,
    Digit,
    ItemDone,
    Pcm,
    PerCall,
    ReplyDone,
    Shared,
    Text,
)
from bridge.settings import build

ITEM_MS = 10_000


@dataclass(frozen=True)
class EchoSettings:
    """The table `[echo]` of an agent file."""

    delay_ms: int = 200
    """How much later the caller hears himself."""

    def __post_init__(self) -> None:
        if not 0 <= self.delay_ms <= 5000:
            raise ValueError(f"'delay_ms' is {self.delay_ms}; it takes 0 to 5000")


class EchoEngine:
    """One call's echo."""

    rate: int = 0  # the line's own: the echo is as wide as the call, and nothing is resampled
    turns: Literal["bridge", "engine"] = "engine"

    def __init__(self, settings: EchoSettings) -> None:
        self._delay_ms = settings.delay_ms
        self._context: Context | None = None
        self._waiting: deque[tuple[int, Pcm]] = deque()
        self._item: int | None = None
        self._item_samples = 0
        self._rate = 0

    async def start(self, context: Context) -> None:
        """Begin to echo; there is no greeting."""
        self._context, self._rate = context, context.rate

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """Keep the frames, and say those again whose time has come."""
        self._waiting.append((at_ms, pcm))
        now_ms = at_ms + len(pcm) * 1000 // self._rate
        while self._waiting and self._waiting[0][0] + self._delay_ms < now_ms:
            self._say(self._waiting.popleft()[1])

    def notify(self, event: CallEvent) -> None:
        """A key ends the item, which shows in the transcript which one it was."""
        if isinstance(event, BargeIn):
            self._item = None
        elif isinstance(event, Digit) and self._context and self._item is not None:
            self._context.emit(Text(self._item, f"[{event.digit}] "))

    async def close(self) -> None:
        """Echo no more."""
        self._context = None
        self._waiting.clear()

    def _say(self, pcm: Pcm) -> None:
        if self._context is None:
            return
        if self._item is None:
            self._item, self._item_samples = self._context.new_item(), 0
            self._context.emit(Text(self._item, "(echo) "))
        self._context.emit(Audio(self._item, pcm))
        self._item_samples += len(pcm)
        if self._item_samples >= ITEM_MS * self._rate // 1000:
            self._context.emit(ItemDone(self._item))
            self._context.emit(ReplyDone())
            self._item = None


def provider(agent: Agent, shared: Shared) -> PerCall:
    """The registry's entrance."""
    settings = build(EchoSettings, agent.options, f"{agent.file}: [echo]")
    return PerCall(lambda: EchoEngine(settings))
