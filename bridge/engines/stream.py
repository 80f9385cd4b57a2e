"""What a bot says, where its protocol knows no utterances: a stream of audio, marks and clears.

We know items. One begins with the first audio and is over at a mark, at a clear, and when nothing
more came for `GAP_MS` (of the caller's audio, which is the clock): until then less than a frame of
it may wait for more.

Audio of an item that flows (`bridge.dialog.flow`) waits for the end of the round of the event loop:
what came of all bots by then is decoded and played in one go. Whatever else a bot sends, or is
told, comes after what it sent before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from bridge.audio.g711 import decode_ulaw
from bridge.dialog.flow import Flow, Pour
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
_L16 = np.dtype("<i2")

Decode = Callable[[bytes], Pcm]
"""Makes samples of bytes, of any number of messages one after the other."""


def pcmu(data: bytes) -> Pcm:
    """PCMU."""
    return decode_ulaw(np.frombuffer(data, np.uint8))


def l16(data: bytes) -> Pcm:
    """L16, little-endian, whole samples."""
    return np.frombuffer(data, _L16).astype(np.int16, copy=False)


class Stream:
    """One call's agent audio, made into items."""

    def __init__(self, context: Context) -> None:
        """Emit into `context`, until `stop`."""
        self._context: Context | None = context
        self._item: int | None = None
        self._flow = context.flow
        self._waits = False  # whether audio is gathered that isn't played yet
        self.now_ms = 0
        """As `tick` told last."""
        self.over_ms: float = inf
        """When the item is over, unless more comes."""

    def play(self, data: bytes, decode: Decode) -> None:
        """More audio, of any length. Raises what `decode` does."""
        if not data:
            return
        if self._item is not None and self._item == self._flow.item:
            self.over_ms = self.now_ms + GAP_MS
            self._waits = True
            _gathered.add(self, data, decode)
            return
        if self._waits:
            self._settle()
        self.play_alone(decode(data))

    def play_alone(self, pcm: Pcm) -> None:
        """More audio, the long way."""
        if self._context is None or not len(pcm):
            return
        if self._item is None:
            self._item = self._context.new_item()
        self.over_ms = self.now_ms + GAP_MS
        self._context.emit(Audio(self._item, pcm))

    def tick(self, at_ms: int) -> None:
        """It is so late in the caller's audio."""
        self.now_ms = at_ms
        if at_ms >= self.over_ms:
            self.done()

    def text(self, text: str) -> None:
        """What the audio that comes next says, or what came last of the utterance."""
        self._settle()
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
        self._settle()
        self._forget()
        self._emit(Interrupt())

    def cut(self) -> None:
        """The call itself has dropped what isn't heard; what comes from here on is new."""
        self._settle()
        self._forget()

    def done(self) -> None:
        """The utterance is complete."""
        self._settle()
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
        self._context, self._flow = None, Flow()

    def pours(self, samples: int) -> Flow | None:
        """The flow that takes so much more of what was gathered; None: it goes the long way."""
        self._waits = False
        item = self._item
        return self._flow if item is not None and self._flow.takes(item, samples) else None

    def _settle(self) -> None:
        if self._waits:
            _gathered.play()

    def _forget(self) -> None:
        self._item, self.over_ms = None, inf

    def _emit(self, event: EngineEvent) -> None:
        if self._context is not None:
            self._context.emit(event)


class Gathered:
    """Audio that came in one round of the event loop, of all bots."""

    def __init__(self) -> None:
        self._waiting: dict[Stream, tuple[list[bytes], Decode]] = {}

    def add(self, stream: Stream, data: bytes, decode: Decode) -> None:
        """Play it at the end of the round."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.play)
        self._waiting.setdefault(stream, ([], decode))[0].append(data)

    def play(self) -> None:
        """Play what was gathered; equally much of several in one operation."""
        waiting, self._waiting = self._waiting, {}
        alike: dict[tuple[Decode, int], list[Stream]] = {}
        for stream, (pieces, decode) in waiting.items():
            alike.setdefault((decode, sum(map(len, pieces))), []).append(stream)
        for (decode, _), streams in alike.items():
            pcm = decode(b"".join([piece for one in streams for piece in waiting[one][0]]))
            _play_many(streams, pcm.reshape(len(streams), -1))


def _play_many(streams: Sequence[Stream], pcm: Pcm) -> None:
    """(k, n) samples of as many streams."""
    samples = pcm.shape[1]
    pouring: dict[Pour, tuple[list[Flow], list[int]]] = {}
    for row, stream in enumerate(streams):
        flow = stream.pours(samples)
        if flow is None or flow.pour is None:
            _guarded(stream, pcm[row])
            continue
        flows, rows = pouring.setdefault(flow.pour, ([], []))
        flows.append(flow)
        rows.append(row)
    for pour, (flows, rows) in pouring.items():
        pour(flows, pcm if len(rows) == len(pcm) else pcm[rows])


def _guarded(stream: Stream, pcm: Pcm) -> None:
    """The long way, of one among many: its fault is the end of it only."""
    try:
        stream.play_alone(pcm)
    except Exception as error:  # noqa: BLE001 - as where a library calls us for one bot
        loop = asyncio.get_running_loop()
        loop.call_exception_handler(
            {"message": "a bot's audio can't be played", "exception": error}
        )
        loop.call_soon(stream.ended, str(error) or type(error).__name__)  # which may fail as well


_gathered = Gathered()
