"""Takes recorded calls down: out of the slots' rings, into files.

`Taker.round` is called a few times a second. It reads what is new of every recorded slot, both
directions, and hands it to a writer, which may be slow: the rings are read on all the same, and
what a disk can't take for longer than `MOST_WAITING` bytes last is lost (silence, and noted).

Nothing here is needed by a call: without it, calls go on, unrecorded. Who goes on in its place
finds in the file's notes which slot it is of, and by the file's length how far it got.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bridge.audio.resample import ResamplerBank
from bridge.errors import BridgeError, RecordingError
from bridge.media.slots import FRAME_MS, FREE, RECORD_MARKS, SPEECH, UP_FRAMES, SlotMap
from bridge.recording import notes as recordings
from bridge.recording.notes import Notes
from bridge.recording.sealed import Key, SealedFile
from bridge.recording.track import Mark, Track, joined, pauses, stereo
from bridge.recording.wav import WavFile

log = logging.getLogger(__name__)

KEEP_FRAMES = 6
"""Frames at a ring's end that media may be writing while we read."""
MOST_WAITING = 256 << 20


class Sound(Protocol):
    """A file that sound goes into."""

    rate: int

    @property
    def pairs(self) -> int:
        """Samples of both channels that it holds."""

    def write(self, at: int, data: bytes) -> None:
        """Interleaved samples at a position. Raises `OSError`."""

    def close(self, pairs: int) -> None:
        """So long it is. Raises `OSError`."""


Job = Callable[[], None]


@dataclass(eq=False, slots=True)
class _Take:
    """One recording that goes on."""

    notes: Notes
    track: Track
    sound: Sound
    line: int
    """Samples a ms, of what the caller says."""
    rate: int
    """The same of what he hears, and of the file."""
    faulty: bool = False
    erased: bool = False


class Taker:
    """Reads the slots of one media process."""

    def __init__(self, runtime: Path, slots: SlotMap, put: Callable[[int, Job], bool]) -> None:
        """Take down what is recorded in `slots`.

        Args:
            runtime: where orders lie.
            slots: of the media process that serves there.
            put: gives the writer something to do, of so many bytes; False: it has too much.
        """
        self._runtime, self._slots, self._put = runtime, slots, put
        self._c = slots.columns
        self._takes: dict[tuple[int, int], _Take] = {}
        self._refused: set[tuple[int, int]] = set()
        self._banks: dict[tuple[int, int], ResamplerBank] = {}
        self.ended: deque[Path] = deque()
        """The notes of recordings that are over, and aren't in their format yet."""

    def has(self, file: Path) -> bool:
        """Whether the recording with these notes goes on here."""
        return any(take.notes.file == file for take in [*self._takes.values()])

    def __len__(self) -> int:
        return len(self._takes)

    def round(self) -> None:
        """Read all that is new."""
        c = self._c
        there: set[tuple[int, int]] = set()
        for index in np.flatnonzero(c["record"]).tolist():
            known = (index, int(c["generation"][index]))
            there.add(known)
            over = int(c["state"][index]) == FREE  # looked at before its frames are
            try:
                take = self._takes.get(known) or self._begin(known)
                if take is not None:
                    self._read(known, take)
            except Exception:  # one recording's boundary: a fault in it must not end the others
                log.exception("a fault of ours ended a recording")
                self._refused.add(known)
                self._end(known)
            if over and int(c["generation"][index]) == known[1]:
                c["record"][index] = False
                self._end(known)
        for gone in [k for k in self._takes if k not in there]:
            self._end(gone)  # another call has the slot already
        self._refused &= there

    def leave(self) -> None:
        """Stop reading: a successor goes on with what isn't over."""
        for take in self._takes.values():
            self._put(0, lambda take=take: self._close(take, over=False))  # type: ignore[misc]
        self._takes.clear()

    # One recording --------------------------------------------------------------------------------

    def _begin(self, known: tuple[int, int]) -> _Take | None:
        """A slot that is to be recorded: with an order, or with a file that a predecessor began."""
        index, _ = known
        if known in self._refused:
            return None
        call_id = self._c["call_id"][index].decode()
        try:
            take = self._open(known, call_id)
        except (BridgeError, OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            log.error("call %s can't be recorded: %s", call_id, why)
            self._refused.add(known)
            return None
        self._takes[known] = take
        return take

    def _open(self, known: tuple[int, int], call_id: str) -> _Take:
        index, _ = known
        notes = recordings.ordered(self._runtime, call_id)
        if notes is None:
            raise RecordingError("its order is missing")
        line, rate = int(self._c["t_rate"][index]), int(self._c["down_rate"][index])
        file = notes.file
        goes_on = False
        if file.is_file():  # a predecessor of ours began it
            before = Notes.read(file)
            goes_on = (before.place, before.slot) == (self._slots.place, known)
            notes = before if goes_on else notes
        if not goes_on:
            file.parents[1].mkdir(mode=0o700, parents=True, exist_ok=True)
            file.parent.mkdir(mode=0o700, exist_ok=True)
            first = self._marks(index, 0)
            notes.slot, notes.place, notes.rate = known, self._slots.place, rate * 1000
            notes.origin = first[0][0] if first else 0
            notes.state = "recording"
            notes.sound = Path(notes.path).name + ".wav" + (".sealed" if notes.key_file else "")
            notes.save()
        sound: Sound
        if notes.key_file:
            sound = SealedFile(notes.sound_file, notes.rate, Key.read(Path(notes.key_file)))
        else:
            sound = WavFile(notes.sound_file, notes.rate)
        track = Track(notes.origin, notes.origin, marks_seen=0)
        if goes_on:
            track.cursor += sound.pairs // (rate * FRAME_MS)
            here = track.frames * FRAME_MS
            marks = self._marks(index, 0)
            before_us = [mark for mark in marks if mark[0] <= track.cursor]
            track.marks_seen = int(self._c["record_count"][index]) - len(marks) + len(before_us)
            track.on = before_us[-1][1] if before_us else True
            # Its notes are as old as the last change, whose sound it may not have come to write;
            # the marks know the rest.
            told = [_frames((a, min(b, here))) for a, b in notes.pauses if a < here]
            track.paused = joined([*told, *pauses(before_us, track.origin, track.cursor)])
            track.lost = [_frames(span) for span in notes.lost]
            log.info("call %s: its recording goes on", call_id)
        track.shift = track.shift_for(self._late_ms(index))
        if line != rate:
            bank = self._bank(line, rate)
            bank.reset(index)
        return _Take(notes, track, sound, line, rate)

    def _read(self, known: tuple[int, int], take: _Take) -> None:
        index, generation = known
        c, track = self._c, take.track
        shift = track.shift_for(self._late_ms(index))
        slack = max(track.shift, shift, 0) - min(track.shift, shift, 0)
        up = int(c["t_head"][index]) // (take.line * FRAME_MS) + min(track.shift, shift)
        down = int(c["down_head"][index])
        oldest = max(up, down) - UP_FRAMES + KEEP_FRAMES + slack
        begin, end = track.due(min(up, down), oldest)
        marks = self._marks(index, track.marks_seen)
        if begin >= end:
            return
        at = np.arange(begin, end) % UP_FRAMES
        silent = c["up_flags"][index, (at - track.shift) % UP_FRAMES] & SPEECH == 0
        his = track.aim((begin, end), shift, silent) % UP_FRAMES
        left = self._slots.up[take.line][index, his]
        right = self._slots.down[take.rate][index, at]
        if int(c["generation"][index]) != generation:
            return  # another call has the slot by now
        if take.line != take.rate:
            bank = self._bank(take.line, take.rate)
            left = bank.process(np.array([index]), left.reshape(1, -1)).reshape(len(at), -1)
        before = (len(track.paused), track.on)
        kept = track.keep((begin, end), [mark for mark in marks if mark[0] < end])
        if (len(track.paused), track.on) != before:
            self._save(take)
        place = (begin - track.origin) * take.rate * FRAME_MS
        data = stereo(left, right, kept).tobytes()
        if not self._put(len(data), lambda: self._write(take, place, data)):
            track.lost.append((begin - track.origin, end - track.origin))

    def _late_ms(self, index: int) -> float:
        """How much later than what he hears in the same position the caller says what he says."""
        return float(self._c["t_least_ms"][index] - self._c["down_ms"][index])

    def _marks(self, index: int, seen: int) -> list[Mark]:
        """Those that a worker has left since so many were seen."""
        count, table = int(self._c["record_count"][index]), self._c["record_marks"][index]
        first = max(seen, count - RECORD_MARKS)
        rows = [table[number % RECORD_MARKS].tolist() for number in range(first, count)]
        return [(int(frame), bool(on)) for frame, on in rows]

    def _end(self, known: tuple[int, int]) -> None:
        take = self._takes.pop(known, None)
        if take is not None:
            self._put(0, lambda: self._close(take, over=True))

    def _bank(self, line: int, rate: int) -> ResamplerBank:
        if (line, rate) not in self._banks:
            self._banks[line, rate] = ResamplerBank(line * 1000, rate * 1000, self._slots.calls)
        return self._banks[line, rate]

    # What the writer does -------------------------------------------------------------------------

    def _write(self, take: _Take, place: int, data: bytes) -> None:
        try:
            take.sound.write(place, data)
        except OSError as error:
            first = place // (take.rate * FRAME_MS)
            take.track.lost.append((first, first + len(data) // (4 * take.rate * FRAME_MS)))
            if not take.faulty:
                take.faulty, take.notes.fault = True, str(error.strerror or error)
                where = take.notes.sound_file
                log.error("%s can't be written: %s; make room", where, error.strerror or error)

    def _save(self, take: _Take) -> None:
        self._put(0, lambda: self._save_now(take))

    def _save_now(self, take: _Take) -> None:
        notes, track = take.notes, take.track
        notes.duration_ms = track.frames * FRAME_MS
        notes.pauses = [_ms(span) for span in track.paused]
        notes.lost = [_ms(span) for span in track.lost]
        try:
            take.erased = not notes.renew()
        except OSError as error:
            log.error("%s can't be written: %s", notes.file, error.strerror or error)

    def _close(self, take: _Take, *, over: bool) -> None:
        """No more is written by us."""
        pairs = take.track.frames * take.rate * FRAME_MS
        if over:
            take.notes.state = "ready" if take.notes.format == "wav" else "ended"
        self._save_now(take)
        try:
            take.sound.close(pairs if over else 0)
        except OSError as error:
            log.error("%s can't be written: %s", take.notes.sound_file, error.strerror or error)
        if over:
            recordings.done(self._runtime, take.notes)
            if take.erased:
                log.info(
                    "call %s: its recording was erased while it was written", take.notes.call_id
                )
            elif take.notes.state != "ready":
                self.ended.append(take.notes.file)


def _ms(span: tuple[int, int]) -> tuple[int, int]:
    return span[0] * FRAME_MS, span[1] * FRAME_MS


def _frames(span: tuple[int, int]) -> tuple[int, int]:
    return span[0] // FRAME_MS, span[1] // FRAME_MS
