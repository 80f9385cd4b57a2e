"""What a bot says, where its protocol knows no utterances: a stream of audio, marks and clears.

We know items. One begins with the first audio and is over at a mark, at a clear, and when nothing
more came for `GAP_MS` (of the caller's audio, which is the clock): until then less than a frame of
it may wait for more.
"""

from __future__ import annotations

from math import inf

from bridge.engines.base import (
    Audio,
    Context,
    EngineEvent,
    Failed,
    Interrupt,
    ItemDone,
    Mark,
    Pcm,
    ReplyDone,
    Text,
    ToolCall,
)

GAP_MS = 100


class Stream:
    """One call's agent audio, made into items."""

    def __init__(self, context: Context) -> None:
        """Emit into `context`, until `stop`."""
        self._context: Context | None = context
        self._item: int | None = None
        self.now_ms = 0
        """As `tick` told last."""
        self.over_ms: float = inf
        """When the item is over, unless more comes."""

    def play(self, pcm: Pcm) -> None:
        """More audio, of any length."""
        if self._context is None or not len(pcm):
            return
        if self._item is None:
            self._item = self._context.new_item()
        self.over_ms = self.now_ms + GAP_MS
        if not self._context.more(self._item, pcm):
            self._context.emit(Audio(self._item, pcm))

    def tick(self, at_ms: int) -> None:
        """It is so late in the caller's audio."""
        self.now_ms = at_ms
        if at_ms >= self.over_ms:
            self.done()

    def text(self, text: str) -> None:
        """What the audio that comes next says, or what came last of the utterance."""
        if self._context is not None:
            if self._item is None:
                self._item = self._context.new_item()
            self.over_ms = self.now_ms + GAP_MS
            self._context.emit(Text(self._item, text))

    def mark(self, name: str) -> None:
        """`Marked` tells when all that was played before was heard."""
        self.done()
        self._emit(Mark(name))

    def clear(self) -> None:
        """What isn't heard yet never will be."""
        self._forget()
        self._emit(Interrupt())

    def cut(self) -> None:
        """The call itself has dropped what isn't heard; what comes from here on is new."""
        self._forget()

    def done(self) -> None:
        """The utterance is complete."""
        if self._item is not None:
            self._emit(ItemDone(self._item))
            self._emit(ReplyDone())
            self._forget()

    def ended(self, fault: str) -> None:
        """The connection is over: in good order, or by a fault (`Socket.on_end`)."""
        self.done()
        self._emit(Failed(fault, "lost") if fault else ToolCall("leave", "leave"))
        self.stop()

    def stop(self) -> None:
        """Emit nothing any more."""
        self._context = None

    def _forget(self) -> None:
        self._item, self.over_ms = None, inf

    def _emit(self, event: EngineEvent) -> None:
        if self._context is not None:
            self._context.emit(event)
