"""Taking a conversation up where another process left it: what its record, its slot and its
transcript say, put together.

What an item's audio in the slot says is the truth; the record adds its words. An item that never
got into the slot counts as not begun, and one that is incomplete there ends where its audio ends:
the engine says the rest, as an item of its own. Where the slot itself is lost (its host died), the
record tells how far each item was heard, a quarter of a second ago at most: it ends there.

A process may also die after the caller has cut the agent short and before it has written what was
heard by then. That is still to be told: the record keeps a dropped item until its line is written,
and where it doesn't know of the interruption yet, the slot does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bridge.dialog.playout import Heard, Pauses, Playout, cut_text, split_text
from bridge.engines.base import Entry, Resume
from bridge.media.base import Slot
from bridge.sessions.model import BARGE_IN, Line, Record
from bridge.sessions.progress import Item, Progress

AT_ONCE_S = 0.05
"""A key and the agent's falling silent by it are written down within so much."""


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

    @property
    def answered(self) -> bool:
        """Whether the agent had the last word, though maybe nothing could be understood of it."""
        roles = [line.role for line in self.lines if line.role != "event"]
        return roles[-1:] == ["agent"] and not self.progress.caller

    def digits(self) -> str:
        """Keys pressed since anybody spoke."""
        pressed, cut, cut_at = "", False, 0.0
        for line in reversed(self.lines):
            if cut_at:  # before this the agent spoke; what cut it short was a key or a word
                at_once = line.role == "dtmf" and cut_at - line.at < AT_ONCE_S
                return line.text + pressed if at_once else pressed
            match line.role:
                case "dtmf":
                    pressed = line.text + pressed
                case "event":
                    cut_at = line.at if cut and line.text == BARGE_IN else 0.0
                case "agent" if line.cut:
                    cut = True  # it is written after what cut it short
                case _:
                    break
        return pressed


def noted_items(items: Iterable[tuple[int, str, int, int, bool, Pauses, bool]]) -> tuple[Item, ...]:
    """What is noted of `Playout.open_items`.

    How much was queued and heard only where that tells which words were: else it would be written
    five times a second for nothing. (Dropped, it makes a line in the transcript.)
    """
    return tuple(
        Item(*item) if item[1] or item[6] else Item(item[0], "", 0, 0, *item[4:]) for item in items
    )


def take_up(
    memory: Memory, slot: Slot, playout: Playout, *, fresh: bool
) -> tuple[Progress, Resume, list[Heard]]:
    """Make `playout` know what another process left; `fresh`: the slot is a new one.

    Returns how far the conversation had got, what the engine is to know of it, and what was heard
    of items that had been dropped and aren't in the transcript yet.
    """
    progress = memory.progress
    if fresh:
        resume = restore_lost(memory, playout)
    else:
        progress = interrupted(progress, slot)
        resume = restore(memory, slot, playout)
    if progress.unanswered:  # he is heard again, and then answered
        resume = replace(resume, replying=False, owed=False)
    return progress, resume, playout.dropped()


def restore(memory: Memory, slot: Slot, playout: Playout) -> Resume:
    """Make `playout` know what is in the slot, and find out what is still to be said.

    What had been dropped and isn't in the transcript yet, `playout.dropped` tells.
    """
    progress = interrupted(memory.progress, slot)
    noted = {item.item: item for item in progress.items}
    _restore_dropped(progress, playout)
    rest, begun = "", False
    for left in slot.left:
        known = noted.get(left.item)
        if left.cut or (known.dropped if known is not None else left.item <= progress.last_item):
            continue  # it was over, and is in the transcript or about to be
        text = known.text if known is not None else ""
        heard = max(known.heard, left.heard) if known is not None else left.heard
        pauses = known.pauses if known is not None else ()
        begun = begun or known is not None
        if not left.done:
            text, rest = split_text(text, left.samples * 1000 / slot.rate)
        heard = min(heard, left.samples)
        playout.restore(left.item, text, left.samples, heard, done=True, pauses=pauses)
    there = {left.item for left in slot.left}
    given = tuple(text for item, text in progress.given if item in there or item not in noted)
    playout.skip(progress.last_item)
    answers = progress.replying or begun or playout.playing
    over = memory.answered or any(item.dropped for item in progress.items)
    return Resume(
        given=given,
        replying=progress.replying,
        rest=rest,
        # A key cuts the agent short, so what plays answers all keys before it.
        digits="" if answers else memory.digits(),
        # What plays on answers the caller's last line, though it isn't in the history yet.
        owed=progress.replying or not (answers or over),
        state=progress.extra,
    )


def interrupted(progress: Progress, slot: Slot) -> Progress:
    """What was noted, put right where the agent was cut short after that, as the slot shows."""
    cut = {left.item: left for left in slot.left if left.cut}
    items = tuple(
        replace(
            item,
            queued=max(item.queued, cut[item.item].samples),
            heard=max(item.heard, cut[item.item].heard),
            dropped=True,
        )
        if item.item in cut
        else item
        for item in progress.items
    )
    if all(item.dropped for item in progress.items if item.item in cut):
        return replace(progress, items=items)
    tools = tuple(tool for tool in progress.tools if tool.begun)
    return replace(progress, items=items, tools=tools, replying=False, given=())


def _restore_dropped(progress: Progress, playout: Playout) -> None:
    for item in progress.items:
        if item.dropped:
            playout.restore(
                *(item.item, item.text, item.queued, item.heard, item.done, item.pauses),
                dropped=True,
            )


def restore_lost(memory: Memory, playout: Playout) -> Resume:
    """The same where nothing is left of the slot: `playout` gets what was heard, as queued.

    The caller of this owes it the news that it was heard. As with `restore`, `playout.dropped`
    tells what had been dropped.
    """
    progress = memory.progress
    _restore_dropped(progress, playout)
    open_items = [item for item in progress.items if not item.dropped]
    begun: list[Item] = []
    rest = ""
    for item in open_items:
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
        given = tuple(item.text for item in open_items)
    replying = progress.replying or bool(rest)
    digits = "" if replying or begun else memory.digits()
    over = memory.answered or len(open_items) < len(progress.items)
    return Resume(
        given=given,
        replying=replying,
        rest=rest,
        digits=digits,
        owed=replying or not (begun or over),
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
