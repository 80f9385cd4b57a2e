"""Where in a recording each frame lies: no I/O, no clock.

A slot counts frames of 20 ms since it opened, the caller's and ours alike (`bridge.media.slots`).
A recording begins at one of them, its `origin`; frame n lies n - origin frames behind its
beginning, whatever happens to the processes around it. So what was lost (a recorder that was away
for longer than the rings last) and what was left out (a pause) is silence of the right length.

The caller's frames lie by his audio time, which may run some tens of ms behind or ahead of ours;
`aim` says which of his frames lies where, so that both sides stay within a frame of each other. A
frame of his is left out or said twice for that where he is silent.

Pauses are marks that a worker leaves in the slot: (frame, on). A mark holds from its frame on,
until the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FRAME_MS = 20
_FAR_MS = 13.0
"""So far both sides may be apart before that is mended: over half a frame, so that it settles."""
_MOST_WAIT, _MOST_SHIFT = 100, 10
Mark = tuple[int, bool]
"""From that frame on it is recorded, or not."""
Span = tuple[int, int]
"""Frames: from the first up to, but without, the last."""


@dataclass(slots=True)
class Track:
    """One recording of one slot."""

    origin: int
    """The slot's frame at which it begins."""
    cursor: int
    """The slot's frame up to which it is written."""
    on: bool = True
    """Whether what comes next is recorded."""
    marks_seen: int = 1
    shift: int = 0
    """The caller's frame n lies at n + shift."""
    waits: int = 0
    """Frames for which another shift has waited for the caller to be silent."""
    paused: list[Span] = field(default_factory=list)
    """What was left out, in the recording's own frames. The last one may go on."""
    lost: list[Span] = field(default_factory=list)
    """What came too late to be read, in the recording's own frames; in a pause it is of both."""

    def due(self, head: int, oldest: int) -> Span:
        """Which of the slot's frames to read now; what is older than `oldest` is lost."""
        begin = max(self.cursor, oldest)
        if begin > self.cursor and begin <= head:
            gone = (self.cursor - self.origin, begin - self.origin)
            _extend(self.lost, gone)
            if not self.on:  # one pause, not two
                _extend(self.paused, gone)
        begin = min(begin, max(head, self.cursor))
        return begin, max(head, begin)

    def shift_for(self, late_ms: float) -> int:
        """The best shift where his audio time is so late."""
        if abs(late_ms - self.shift * FRAME_MS) <= _FAR_MS:
            return self.shift
        return min(max(round(late_ms / FRAME_MS), -_MOST_SHIFT), _MOST_SHIFT)

    def aim(self, span: Span, shift: int, silent: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Which of the caller's frames lies at each of `span`.

        Args:
            span: the slot's frames, as `due` gave them.
            shift: what `shift_for` found; taken over where he is silent, in the end anywhere.
            silent: whether his frame that would lie there is, by the present shift.
        """
        begin, end = span
        frames = np.arange(begin, end)
        if shift == self.shift:
            self.waits = 0
            return frames - shift
        self.waits += end - begin
        found = np.flatnonzero(silent)
        if not len(found) and self.waits < _MOST_WAIT:
            return frames - self.shift
        # It is the silent frame that is left out, or comes twice.
        at = int(found[0]) + (shift > self.shift) if len(found) else 0
        frames -= np.where(np.arange(end - begin) < at, self.shift, shift)
        self.shift, self.waits = shift, 0
        return frames

    def keep(self, span: Span, marks: Sequence[Mark]) -> NDArray[np.bool_]:
        """Which frames of `span` are recorded; everything up to its end is written then.

        `marks`: those left since the last time, in their order. One that lies before the span (the
        caller's audio came late) holds from its beginning on.
        """
        begin, end = span
        kept = np.full(end - begin, self.on)
        for frame, on in marks:
            kept[max(frame - begin, 0) :] = on
            self.on = on
        self.marks_seen += len(marks)
        edges = np.flatnonzero(np.diff(kept.astype(np.int8), prepend=1, append=1))
        for first, last in edges.reshape(-1, 2).tolist():
            at = begin - self.origin
            _extend(self.paused, (first + at, last + at))
        self.cursor = end
        return kept

    @property
    def frames(self) -> int:
        """How long it is by now."""
        return self.cursor - self.origin


def pauses(marks: Sequence[Mark], origin: int, until: int) -> list[Span]:
    """What those marks leave out of a recording that is written up to the slot's frame `until`."""
    ends = [frame for frame, _ in marks[1:]] + [until]
    return joined(
        (max(frame, origin) - origin, min(end, until) - origin)
        for (frame, on), end in zip(marks, ends, strict=False)
        if not on and max(frame, origin) < min(end, until)
    )


def joined(spans: Iterable[Span]) -> list[Span]:
    """All of them, in order; those that touch are one."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def _extend(spans: list[Span], span: Span) -> None:
    if spans and spans[-1][1] == span[0]:
        spans[-1] = (spans[-1][0], span[1])
    else:
        spans.append(span)


def stereo(
    left: NDArray[np.int16], right: NDArray[np.int16], kept: NDArray[np.bool_]
) -> NDArray[np.int16]:
    """Frames (n, samples) of both sides as one stream of pairs, (n * samples, 2)."""
    both = np.empty((*left.shape, 2), np.int16)
    both[..., 0], both[..., 1] = left, right
    if not kept.all():
        both[~kept] = 0
    return both.reshape(-1, 2)
