"""What is to be written of a worker's calls, and a copy of what was: no I/O.

What gathers while Redis is slow or away is merged call by call (a field's last value counts) and
kept in order, up to so many transcript lines; beyond that the oldest lines of the call with the
most are given up. Transcript lines carry rising stream ids, so that a batch may be sent twice.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from dataclasses import dataclass, field

from bridge.sessions.model import Line, Record

log = logging.getLogger(__name__)

MOST_CALLS = 500
"""In one batch."""
_KEEP_LINES = 500
"""Of each living call, for a Redis that comes back empty."""


@dataclass(slots=True)
class Pending:
    """What is to be written of one call."""

    fields: dict[str, str] = field(default_factory=dict)
    lines: deque[tuple[str, Line]] = field(default_factory=deque)
    """By stream id."""


@dataclass(slots=True)
class Owned:
    """A call that we own, and a copy of its record."""

    fence: int = 0
    stored: bool = False
    """Redis has confirmed a write of it."""
    fields: dict[str, str] = field(default_factory=dict)
    lines: deque[tuple[str, Line]] = field(default_factory=lambda: deque(maxlen=_KEEP_LINES))
    last_id: tuple[int, int] = (0, 0)

    def next_id(self, line: Line) -> str:
        """The stream id of the next line; ids rise, even when the wall clock steps back."""
        self.last_id = max((int(line.at * 1000), 0), (self.last_id[0], self.last_id[1] + 1))
        return "{}-{}".format(*self.last_id)


class Outbox:
    """One worker's."""

    def __init__(self, most_lines: int, most_calls: int) -> None:
        """Keep so many lines and calls that are not written."""
        self._most_lines, self._most_calls = most_lines, most_calls
        self.owned: dict[str, Owned] = {}
        self.pending: dict[str, Pending] = {}
        self._lines = 0  # that are not written, in a batch or pending

    def begin(self, call_id: str) -> None:
        """A call is ours; what we knew of it is forgotten, but its fence."""
        own = self.owned.get(call_id)
        self.owned[call_id] = Owned(fence=own.fence if own is not None else 0)

    def adopt(self, record: Record, lines: list[Line]) -> None:
        """A call was claimed for us, with all this."""
        own = self.owned[record.call_id] = Owned(fence=record.fence, stored=True)
        own.fields = {
            name: _text(value)
            for name in Record.__dataclass_fields__
            if name not in ("fence", "other") and (value := getattr(record, name))
        }
        own.fields |= record.other
        for line in lines:  # their ids are those by which they are stored
            own.lines.append((own.next_id(line), line))

    def put(self, call_id: str, fields: dict[str, str | float]) -> None:
        """Fields of one of our calls have changed."""
        if (own := self.owned.get(call_id)) is None:
            return
        texts = {name: _text(value) for name, value in fields.items()}
        own.fields.update(texts)
        self._of(call_id).fields.update(texts)

    def say(self, call_id: str, line: Line) -> None:
        """One of our calls has another line."""
        if (own := self.owned.get(call_id)) is None:
            return
        entry = (own.next_id(line), line)
        own.lines.append(entry)
        self._of(call_id).lines.append(entry)
        self._lines += 1
        if self._lines > self._most_lines:
            longest = max(self.pending.values(), key=lambda p: len(p.lines))
            if longest.lines:
                longest.lines.popleft()
                self._lines -= 1
                log.error("Redis has been away too long: giving up the oldest transcript lines")

    def forget(self, call_id: str) -> None:
        """Nothing more is written of a call."""
        self.owned.pop(call_id, None)
        if (pending := self.pending.pop(call_id, None)) is not None:
            self._lines -= len(pending.lines)

    def refresh(self, call_id: str) -> None:
        """All of a call is to be written again: Redis has lost some of it."""
        own, pending = self.owned[call_id], self._of(call_id)
        pending.fields = {**own.fields}
        kept = {stream_id for stream_id, _ in own.lines}
        before = [entry for entry in pending.lines if entry[0] not in kept]
        self._lines += len(before) + len(own.lines) - len(pending.lines)
        pending.lines = deque([*before, *own.lines])

    # Batches --------------------------------------------------------------------------------------

    def next_batch(self) -> dict[str, Pending]:
        """What is sent now: the calls that have waited longest. Then `sent`, or `take_back`."""
        self._give_up_calls()
        batch = dict(itertools.islice(self.pending.items(), MOST_CALLS))
        for call_id in batch:
            del self.pending[call_id]
        return batch

    def sent(self, batch: dict[str, Pending]) -> None:
        """It is written, or of no use any more."""
        self._lines -= sum(len(pending.lines) for pending in batch.values())

    def take_back(self, batch: dict[str, Pending]) -> None:
        """It may not have been written: it is sent again, before what has gathered since."""
        for call_id in [c for c in batch if c not in self.owned]:  # it was forgotten meanwhile
            self._lines -= len(batch.pop(call_id).lines)
        for call_id, newer in self.pending.items():
            older = batch.setdefault(call_id, Pending())
            older.fields |= newer.fields
            older.lines.extend(newer.lines)
        self.pending = batch

    def _give_up_calls(self) -> None:
        """Calls that ended while Redis was away, where there are too many."""
        over = len(self.pending) - self._most_calls
        if over <= 0:
            return
        ended = [c for c, p in self.pending.items() if p.fields.get("state") == "ended"][:over]
        for call_id in ended:
            self.forget(call_id)
        log.error("Redis has been away too long: giving up the records of %d calls", len(ended))

    def _of(self, call_id: str) -> Pending:
        return self.pending.setdefault(call_id, Pending())


def _text(value: str | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
