"""Taking a conversation up where another process left it: what its record, its slot and its
transcript say, put together.

What an item's audio in the slot says is the truth; the record adds its words. An item that never
got into the slot counts as not begun, and one that is incomplete there ends where its audio ends:
the engine says the rest, as an item of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.dialog.playout import Playout, split_text
from bridge.engines.base import Entry, Resume
from bridge.media.base import Slot
from bridge.sessions.model import Line, Record
from bridge.sessions.progress import Progress


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of a call that another process began."""

    record: Record
    lines: Sequence[Line]

    @property
    def progress(self) -> Progress:
        """As last noted."""
        return Progress.from_text(self.record.progress)

    def history(self) -> tuple[Entry, ...]:
        """The conversation as heard; keys that were pressed in a row are one line."""
        entries: list[Entry] = []
        for line in self.lines:
            if line.role == "event":
                continue
            text = line.text.replace("#", "") if line.role == "dtmf" else line.text
            if line.role == "dtmf" and entries and entries[-1].role == "dtmf":
                text = entries.pop().text + text
            entries.append(Entry(line.role, text))
        if caller := self.progress.caller:
            entries.append(Entry("caller", caller))
        return tuple(entries)

    def digits(self) -> str:
        """Keys pressed since anybody spoke."""
        pressed = ""
        for line in reversed(self.lines):
            if line.role not in ("dtmf", "event"):
                break
            if line.role == "dtmf":
                pressed = line.text + pressed
        return pressed


def restore(memory: Memory, slot: Slot, playout: Playout) -> Resume:
    """Make `playout` know what is in the slot, and find out what is still to be said."""
    progress = memory.progress
    noted = {item.item: item for item in progress.items}
    texts = {item.item: item.text for item in progress.items}
    rest = ""
    for left in slot.left:
        known = noted.get(left.item)
        if known is None and left.item <= progress.last_item:
            continue  # it was over, and is in the transcript
        text = texts.get(left.item, "")
        if not left.done:
            text, rest = split_text(text, left.samples * 1000 / slot.rate)
        heard = known.heard if known is not None else 0
        playout.restore(left.item, text, left.samples, min(heard, left.samples), done=True)
    there = {left.item for left in slot.left}
    given = tuple(text for item, text in progress.given if item in there or item not in noted)
    playout.skip(progress.last_item)
    # A key cuts the agent short, so what plays answers all keys before it.
    digits = "" if progress.replying or playout.playing else memory.digits()
    return Resume(
        given=given, replying=progress.replying, rest=rest, digits=digits, state=progress.extra
    )
