"""Taking a conversation up where another process left it: what its record, its slot and its
transcript say, put together.

What an item's audio in the slot says is the truth; the record adds its words. An item that never
got into the slot counts as not begun, and one that is incomplete there ends where its audio ends:
the engine says the rest, as an item of its own. Where the slot itself is lost (its host died), the
record tells how far each item was heard, a quarter of a second ago at most: it ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.dialog.playout import Playout, cut_text, split_text
from bridge.engines.base import Entry, Resume
from bridge.media.base import Slot
from bridge.sessions.model import Line, Record
from bridge.sessions.progress import Item, Progress


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
            if line.role == "event" or not line.text:
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
        pauses = known.pauses if known is not None else ()
        heard = min(heard, left.samples)
        playout.restore(left.item, text, left.samples, heard, done=True, pauses=pauses)
    there = {left.item for left in slot.left}
    given = tuple(text for item, text in progress.given if item in there or item not in noted)
    playout.skip(progress.last_item)
    # A key cuts the agent short, so what plays answers all keys before it.
    digits = "" if progress.replying or playout.playing else memory.digits()
    return Resume(
        given=given,
        replying=progress.replying,
        rest=rest,
        digits=digits,
        # What plays on answers the caller's last line, though it isn't in the history yet.
        owed=progress.replying or not playout.playing,
        state=progress.extra,
    )


def restore_lost(memory: Memory, playout: Playout) -> Resume:
    """The same where nothing is left of the slot: `playout` gets what was heard, as queued.

    The caller of this owes it the news that it was heard.
    """
    progress = memory.progress
    begun: list[Item] = []
    rest = ""
    for item in progress.items:
        said, left = _heard_of(item, playout.rate)
        if rest or not said:  # not begun
            if progress.replying:
                break
            rest = f"{rest} {item.text}".strip()
            continue
        begun.append(item)
        playout.restore(item.item, said, item.heard, 0, done=True, pauses=item.pauses)
        rest = left
    playout.skip(progress.last_item)
    noted = {item.item for item in progress.items}
    there = {item.item for item in begun}
    given = tuple(text for item, text in progress.given if item in there or item not in noted)
    if not progress.replying:  # all was given, so that nothing follows the rest
        given = tuple(item.text for item in progress.items)
    replying = progress.replying or bool(rest)
    digits = "" if replying else memory.digits()
    return Resume(
        given=given,
        replying=replying,
        rest=rest,
        digits=digits,
        owed=replying or not begun,
        state=progress.extra,
    )


def _heard_of(item: Item, rate: int) -> tuple[str, str]:
    """What of an item was heard, and what wasn't."""
    if not item.done:
        return split_text(item.text, item.heard * 1000 / rate)
    said = cut_text(item.text, item.heard / item.queued if item.queued else 0.0)
    return said, item.text[len(said) :].strip()


_MOST_PACKETS = 10_000
"""What may have been sent since the numbers were noted, 20 ms each; more is a clock that is wrong.
Numbers may go ahead by less than 32768 (RFC 3550 appendix A.1)."""


def numbers_now(record: Record, now: float) -> tuple[int, int, int] | None:
    """SSRC, sequence number and timestamp that our packets have reached by `now`, s.

    Packets leave every 20 ms whatever happens, so what was noted some time ago tells where they
    are; hosts' clocks may differ a little. None if nothing was noted.
    """
    if not record.numbers:
        return None
    ssrc, seq, ts = map(int, record.numbers.split())
    sent = min(_MOST_PACKETS, max(0, int((now - record.numbers_at) * 50)))
    # 8 kHz is the clock rate of all that goes down: PCMU, PCMA, L16, and G.722 (RFC 3551 4.5.2).
    return ssrc, (seq + sent) % 2**16, (ts + sent * 160) % 2**32
