"""What the caller heard: items of agent speech, from queued to played.

An item is one piece of agent speech (the cascade makes one a sentence, a speech-to-speech service
one a reply). The call tells here what the engine gave (text, samples, done) and what the media
process played of it; an item that is over comes back as `Heard`, with the text as far as it was
heard.

    new_item ──▶ text, queued ... done ──▶ heard ... ──▶ Heard(cut=False)
                          ├── drop (no more is taken) ──▶ dropped ──▶ Heard(cut=True)
                          └── never done, and a later item is heard ──▶ Heard(cut=True)

Samples are counted as they are queued for playout (one rate for both directions), so that heard
can be compared with queued to the sample. An item's heard is clamped to what was queued of it.

Where in its text an item was cut is known where the engine told when each word is over. Else it is
estimated: time is spread over the text by syllables, a comma
counting as one more and the end of a sentence as two (the pauses there). While an item isn't
complete its length isn't known either; then `MS_PER_SYLLABLE` says how long its text will at least
take.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.errors import EngineError

MAX_ITEMS = 256
"""Items that may be open at once. A reply has some ten sentences; more is an engine gone wrong."""

MAX_MARKS = 1000
"""Marks that may be pending; of more, the oldest are forgotten."""

MAX_TEXT = 20_000
"""Characters of text that one item may hold."""

SLACK = 0.25
"""A word counts as heard when no more than this of a syllable is missing: the estimate's grain."""

WORD_SLACK_MS = 40
"""A word counts as heard when no more than this of it is missing."""

MS_PER_SYLLABLE = 200.0
"""Of unhurried English (measured with piper's voice joe: 194 to 245)."""


Pauses = tuple[tuple[int, int], ...]
"""Silences within an item: (where, how long), samples."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An item's playout ended: what the caller heard of it.

    `text` is the item's text as far as it was heard; `cut` is True if the rest was dropped.
    """

    item: int
    heard_ms: int
    text: str
    cut: bool


@dataclass(slots=True)
class _Item:
    pieces: list[str] = field(default_factory=list)
    length: int = 0
    queued: int = 0
    heard: int = 0
    done: bool = False
    dropped: bool = False
    pauses: list[tuple[int, int]] = field(default_factory=list)
    """Silence put into it that says nothing: where, how much. Samples."""
    words: tuple[tuple[int, int], ...] = ()
    """Where each word is over: (characters, ms of its own audio)."""

    def own(self, samples: int) -> int:
        """How many of its first so many samples are speech of its own."""
        return samples - sum(max(0, min(n, samples - at)) for at, n in self.pauses)


class Playout:
    """One call's items. Every method is cheap; none keeps anything of an item that is over."""

    def __init__(self, rate: int) -> None:
        """Samples are counted at `rate` Hz, in `queued` and `heard` alike."""
        self.rate = rate
        self._items: dict[int, _Item] = {}
        self._last_id = 0
        self._refused = 0  # items up to this id are dropped: nothing more is taken for them
        self._told: deque[int] = deque(maxlen=MAX_ITEMS)  # items that are over; likewise
        self._marks: deque[tuple[int, int, str]] = deque(maxlen=MAX_MARKS)
        self._lost: list[str] = []  # marks before which something was dropped
        self.waiting = 0
        """How much queued audio hasn't been played (or dropped), samples."""

    def new_item(self) -> int:
        """A fresh item id, higher than all before."""
        self._last_id += 1
        return self._last_id

    def restore(
        self,
        item: int,
        text: str,
        queued: int,
        heard: int,
        done: bool,
        pauses: Pauses = (),
        dropped: bool = False,
    ) -> None:
        """Take an item over that another process has begun; call it in the order of items.

        `dropped`: that process had dropped it and not told so yet; `dropped` tells.
        """
        self._last_id = max(self._last_id, item)
        heard = min(heard, queued)
        it = _Item([text], len(text), queued, heard, done, dropped, pauses=list(pauses))
        self._items[item] = it
        if dropped:
            self._refused = max(self._refused, item)
        else:
            self.waiting += queued - heard

    def open_items(self) -> list[tuple[int, str, int, int, bool, Pauses, bool]]:
        """What isn't told yet: as `restore` takes it, and whether it was dropped."""
        return [
            (item, "".join(it.pieces), it.queued, it.heard, it.done, tuple(it.pauses), it.dropped)
            for item, it in self._items.items()
        ]

    def skip(self, item: int) -> None:
        """Give no id out up to this one."""
        self._last_id = max(self._last_id, item)

    @property
    def last_item(self) -> int:
        """The highest id that was given out."""
        return self._last_id

    @property
    def playing(self) -> bool:
        """Whether audio is queued that hasn't been played (or dropped)."""
        return self.waiting > 0

    @property
    def busy(self) -> bool:
        """Whether there is an item or a mark that isn't over."""
        return bool(self._items or self._marks or self._lost)

    @property
    def worded(self) -> bool:
        """Whether it is known of any item what it says."""
        return any(it.pieces for it in self._items.values())

    @property
    def marked(self) -> bool:
        """Whether there is a mark that `reached` hasn't told."""
        return bool(self._marks or self._lost)

    @property
    def waiting_ms(self) -> float:
        """How much queued audio hasn't been played (or dropped)."""
        return self.waiting * 1000 / self.rate

    @property
    def unfinished_ms(self) -> float | None:
        """How long what is queued lasts, if all there is is one item that isn't complete and has
        begun to be heard: until then nobody need be told how far it was. Else None."""
        if len(self._items) != 1 or self._marks or self._lost:
            return None
        (it,) = self._items.values()
        if it.done or it.dropped or not it.heard:
            return None
        return (it.queued - it.heard) * 1000 / self.rate

    @property
    def in_last_item(self) -> bool:
        """Whether the last item that was given is being heard, or was."""
        waiting = [i for i in self._items.values() if i.heard < i.queued and not i.dropped]
        return len(waiting) <= 1

    # What the engine gives ------------------------------------------------------------------------

    def text(self, item: int, piece: str) -> bool:
        """More of what the item says. False: the item was dropped; forget it."""
        it = self._open(item)
        if it is None:
            return False
        if it.length + len(piece) > MAX_TEXT:
            raise EngineError(f"the engine gave more than {MAX_TEXT} characters for one item")
        it.pieces.append(piece)
        it.length += len(piece)
        return True

    def says(self, item: int) -> bool:
        """Whether it is known what the item says, or some of it."""
        it = self._items.get(item)
        return it is not None and bool(it.pieces)

    def words(self, item: int, marks: tuple[tuple[int, int], ...]) -> None:
        """More of where the item's words are over: (characters of its text, ms of its audio)."""
        it = self._open(item)
        if it is not None:
            it.words += marks

    def queued(self, item: int, samples: int, *, silence: bool = False) -> bool:
        """Audio of the item is to be queued. False: the item was dropped; don't queue it.

        `silence`: a pause that belongs to no text; it is never counted as heard.
        """
        it = self._items.get(item)
        if it is None or item <= self._refused:  # not more of the same
            it = self._open(item)
        if it is None:
            return False
        if silence:
            it.pauses.append((it.queued, samples))
        it.queued += samples
        self.waiting += samples
        return True

    def more(self, item: int, samples: int) -> None:
        """The same, of an item that audio was queued of last, and that wasn't dropped since."""
        self._items[item].queued += samples
        self.waiting += samples

    def done(self, item: int) -> list[Heard]:
        """The item is complete; it may be over by that (all of it was played already)."""
        it = self._open(item)
        if it is None:
            return []
        it.done = True
        return self._over(item, it)

    def mark(self, name: str) -> None:
        """To be told by `reached` when everything queued up to now has been played."""
        last = max((i for i, it in self._items.items() if not it.dropped), default=0)
        self._marks.append((last, self._items[last].queued if last else 0, name))

    def reached(self) -> list[tuple[str, bool]]:
        """Marks that were reached since the last time, in order; False: by being cleared."""
        found = [(name, False) for name in self._lost]
        self._lost.clear()
        while self._marks:
            item, samples, name = self._marks[0]
            if (it := self._items.get(item)) and it.heard < samples:
                break
            self._marks.popleft()
            found.append((name, True))
        return found

    # What became of it ----------------------------------------------------------------------------

    def heard(self, item: int, samples: int) -> list[Heard]:
        """So many samples of the item have been played, counted from its beginning."""
        it = self._items.get(item)
        if it is None:
            return []
        over = []
        if self._advance(it, samples) and len(self._items) > 1:
            over = self._left_behind(item)
        return over + self._over(item, it) if it.done else over

    def drop(self) -> None:
        """Take nothing more for any item made so far: the caller interrupted."""
        self._refused = self._last_id
        self._lost += [name for _, _, name in self._marks]
        self._marks.clear()
        self.waiting = 0
        for it in self._items.values():
            it.dropped = True

    def dropped(self, final: Mapping[int, int] | None = None) -> list[Heard]:
        """The dropped audio is gone from the queue.

        Args:
            final: samples played of each item, where more is known than `heard` told.

        Returns:
            Every dropped item that wasn't over, `cut`, in the order of its id.
        """
        for item, samples in (final or {}).items():
            if it := self._items.get(item):
                self._advance(it, samples)
        over = []
        for item in sorted(i for i, it in self._items.items() if it.dropped):
            it = self._items.pop(item)
            whole = it.done and it.heard >= it.queued > 0
            over.append(self._heard(item, it, cut=not whole))
        return over

    # ----------------------------------------------------------------------------------------------

    def _open(self, item: int) -> _Item | None:
        if item <= self._refused:
            return None
        it = self._items.get(item)
        if it is None:
            if item in self._told:
                return None
            if len(self._items) >= MAX_ITEMS:
                raise EngineError(f"the engine has more than {MAX_ITEMS} items open")
            self._last_id = max(self._last_id, item)
            it = self._items[item] = _Item()
        return it

    def _advance(self, it: _Item, samples: int) -> bool:
        """So many samples of it have been played; True: that is more than before."""
        heard = samples if samples < it.queued else it.queued  # noqa: FURB136 - min() is slow
        more = heard - it.heard
        if more <= 0:
            return False
        it.heard = heard
        if not it.dropped:
            self.waiting -= more
        return True

    def _left_behind(self, item: int) -> list[Heard]:
        """Items before this one that the engine gave up: they can't be heard any more."""
        given_up = [
            i
            for i, it in self._items.items()
            if i < item and not it.done and not it.dropped and it.heard >= it.queued
        ]
        return [self._heard(i, self._items.pop(i), cut=True) for i in sorted(given_up)]

    def _over(self, item: int, it: _Item) -> list[Heard]:
        if not it.done or it.heard < it.queued or it.dropped:
            return []
        del self._items[item]
        return [self._heard(item, it, cut=False)]

    def _heard(self, item: int, it: _Item, cut: bool) -> Heard:
        self._told.append(item)
        heard, queued = it.own(it.heard), it.own(it.queued)
        heard_ms = heard * 1000 / self.rate
        text = "".join(it.pieces).strip()
        if it.words and cut:
            over = [end for end, ms in it.words if ms <= heard_ms + WORD_SLACK_MS]
            return Heard(item, round(heard_ms), text[: max(over, default=0)].rstrip(), cut)
        if it.done:
            share = heard / queued if queued else 0.0
        else:
            least_ms = max(queued * 1000 / self.rate, syllables(text) * MS_PER_SYLLABLE)
            share = heard_ms / least_ms if least_ms else 0.0
        return Heard(item, round(heard_ms), cut_text(text, share), cut)


# Text by time -------------------------------------------------------------------------------------

_WORD = re.compile(r"\S+")
_VOWELS = re.compile(r"[aeiouyäöüáéíóúàèìòùâêîôû]+", re.IGNORECASE)
_DIGIT_SYLLABLES = {"0": 2, "7": 2}


def syllables(text: str) -> int:
    """About how many syllables a text has, its pauses counted as syllables.

    The pause behind the last word doesn't count: no audio holds it.
    """
    found = _WORD.findall(text)
    return sum(_weight(w) for w in found[:-1]) + (_spoken(found[-1]) if found else 0)


def cut_text(text: str, share: float) -> str:
    """The words of `text` that are whole after `share` (0 to 1) of its time."""
    if share >= 1:
        return text
    total = syllables(text)
    passed, end = 0.0, 0
    for match in _WORD.finditer(text):
        # A word is heard when its own syllables are over; the pause behind it need not be.
        if passed + _spoken(match.group()) > share * total + SLACK:
            break
        passed += _weight(match.group())
        end = match.end()
    return text[:end]


def split_text(text: str, queued_ms: float) -> tuple[str, str]:
    """What of a text so much audio from its beginning holds, and what is missing."""
    whole_ms = max(queued_ms, syllables(text) * MS_PER_SYLLABLE)
    said = cut_text(text, queued_ms / whole_ms if whole_ms else 0.0)
    return said, text[len(said) :].strip()


def _weight(word: str) -> int:
    pause = {".": 2, "!": 2, "?": 2, ",": 1, ";": 1, ":": 1}.get(word.rstrip("\"')”’")[-1:], 0)
    return _spoken(word) + pause


def _spoken(word: str) -> int:
    digits = sum(_DIGIT_SYLLABLES.get(c, 1) for c in word if c.isdigit())
    groups = len(_VOWELS.findall(word))
    stem = re.sub(r"[^a-z]", "", word.lower())
    if groups > 1 and stem.endswith(("e", "es", "ed")) and not stem.endswith(("le", "ee", "ted")):
        groups -= 1  # the silent e
    return max(1, groups + digits) if any(c.isalnum() for c in word) else 0
