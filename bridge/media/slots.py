"""The shared map: all that is known of every slot, as a struct of arrays in one mapped file.

A file in the runtime directory, mapped by the media process and every worker. It opens with a
magic, a version and a description of its own layout (JSON: each column's type, shape and place), so
that another version of the program can find what it knows by name. Everything that a successor of
the media process needs to go on stands here: who may speak, what is next in sequence both ways,
where audio time stands, what waits to be played.

Who writes what (nobody else does):

    media    all but the following
    worker   `play_write`, `play_clear`, `play_pause`, `play_drop`, `play_done`, `play_items` and
             the samples of its own ring (`play_pause` of its predecessor's too); `reflex`,
             `reflex_done`, `reflex_echo_db`; `s_above_db`, `s_least_db`; `up_read`; `record`
             (to 1), `record_marks`, `record_count`
    recorder `record` (back to 0, when it has read the end of a call that is over)

Versions. Two neighbouring versions of the program share a map: each uses the columns it knows by
their names, and keeps those that the file lacks in its own memory. So a column whose meaning or
form changes gets another name, and `VERSION` rises with any change.

Rings. `up` holds the caller's frames at the line's rate, for all who care to read; `t_head` counts
its samples. `play` holds the agent's audio, two rings a slot: each owner of a slot writes a ring of
its own, and media plays `ring[slot]` only, so a worker that lost a slot can't be heard. Positions
count frames of 20 ms for ever; a frame's place is its position modulo the ring's frames. `down`
holds what was really sent, for calls that are recorded; `down_head` counts frames of 20 ms since
the slot opened, as `t_head` does, and frame 0 leaves `down_ms` after that. So a frame of `up` and
one of `down` in the same position belong together, but for how far audio time lags (`t_least_ms`).

A writer stores samples first and the position after: enough on x86-64, whose stores are seen in
order; between the two lie thousands of the interpreter's instructions elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.audio import speech
from bridge.audio.columns import Column, reset
from bridge.errors import MediaError
from bridge.media import reflex
from bridge.rtp import jitter, packetizer, timeline

VERSION = 5
_MAGIC = b"ARIBRIDG"
_HEADER = 1 << 16
FRAME_MS = 20
UP_RATES, DOWN_RATES = (8, 16, 24), (8, 16)  # samples a ms
MOST_RATE = max(DOWN_RATES)
UP_FRAMES = 120
"""2.4 s: being held up for two seconds overwrites nothing that a worker hasn't read."""
_UP_SAMPLES = UP_FRAMES * FRAME_MS * max(UP_RATES)  # a slower line never touches the rest
_DOWN_SAMPLES = UP_FRAMES * FRAME_MS * MOST_RATE  # touched only of calls that are recorded
RECORD_MARKS = 16
ITEMS = 16
KEPT = 34
"""Frames behind a play ring's read position that stay: what was played, to know its echo by."""
CUTS = 8
UNLIMITED = 2**62

FREE, OPEN, ORPHAN = 0, 1, 2

# What stands in for lost packets: the operator's choice, by its number in `late`.
LATE = ("resynthesize", "replay", "silence", "drop")
RESYNTHESIZE, REPLAY, SILENCE, DROP = range(4)

# Flags of a frame that went up.
SPEECH, CONCEALED, NOTHING_SENT, DROPPED, ECHO = 1, 2, 4, 8, 16

SLOT_SPEC = {
    "state": Column("u1"),
    "generation": Column("u4"),
    "call_id": Column("S96"),
    "owner": Column("S64"),
    "codec": Column("u1"),
    "down_rate": Column("i8", 8),
    "remote_ip": Column("u4"),
    "remote_port": Column("u2"),
    "phase": Column("u1"),
    "orphan_ms": Column("f8", np.inf),
    "late": Column("u1"),
    "dtx": Column("?"),
    "ring": Column("i8"),
    "ring_next": Column("i8"),
    "play_write": Column("i8", 0, (2,)),
    "play_clear": Column("i8", 0, (2,)),
    "play_pause": Column("?", 0, (2,)),
    "play_drop": Column("?", 0, (2,)),
    "play_done": Column("i8", 0, (2,)),
    "play_items": Column("i8", -1, (2, ITEMS, 3)),
    "play_read": Column("i8", 0, (2,)),
    "play_limit": Column("i8", UNLIMITED, (2,)),
    "play_cuts": Column("i8", 0, (2, CUTS, 2)),
    "play_cut_count": Column("i8", 0, (2,)),
    "out_last": Column("i2"),
    "out_state": Column("u1"),
    "n_sent": Column("i8"),
    "n_played": Column("i8"),
    "n_underflow": Column("i8"),
    "n_skipped": Column("i8"),
    "n_concealed_ms": Column("f8"),
    "n_wrong_type": Column("i8"),
    "n_bad": Column("i8"),
    "up_read": Column("i8", -1),
    "up_flags": Column("u1", 0, (UP_FRAMES,)),
    "down_head": Column("i8"),
    "down_ms": Column("f8"),
    "record": Column("?"),
    "record_marks": Column("i8", 0, (RECORD_MARKS, 2)),
    "record_count": Column("i8"),
}
STATE_SPEC = {
    **SLOT_SPEC,
    **jitter.SPEC,
    **packetizer.SPEC,
    **timeline.SPEC,
    **speech.SPEC,
    **reflex.SPEC,
}


@dataclass(frozen=True, slots=True)
class _Place:
    dtype: str
    shape: tuple[int, ...]
    offset: int


def _layout(calls: int, play_samples: int) -> dict[str, _Place]:
    columns = {name: (c.dtype, (calls, *c.shape)) for name, c in STATE_SPEC.items()}
    columns["up"] = ("i2", (calls, _UP_SAMPLES))
    columns["play"] = ("i2", (calls, 2, play_samples))
    columns["down"] = ("i2", (calls, _DOWN_SAMPLES))
    places, offset = {}, _HEADER
    for name, (dtype, shape) in columns.items():
        size = int(np.dtype(dtype).itemsize * np.prod(shape))
        align = mmap.PAGESIZE if size >= mmap.PAGESIZE else 64
        offset = -(-offset // align) * align
        places[name] = _Place(dtype, shape, offset)
        offset += size
    return places


class SlotMap:
    """The mapped file; `columns` holds its arrays."""

    def __init__(self, memory: mmap.mmap, header: dict[str, Any]) -> None:
        """Use `create` or `attach`."""
        self._memory = memory
        self.inode = 0
        self.version = VERSION
        self.place = ""
        """Names this very file, on all hosts."""
        self.calls: int = header["calls"]
        self.play_samples: int = header["play_samples"]
        self.columns: dict[str, NDArray[Any]] = {
            name: np.ndarray(p["shape"], p["dtype"], memory, p["offset"])
            for name, p in header["columns"].items()
        }
        for name, column in STATE_SPEC.items():
            if name not in self.columns:  # of another version, which doesn't know it
                own = np.zeros((self.calls, *column.shape), column.dtype)
                if column.default:
                    own[:] = column.default
                self.columns[name] = own
        if "down" not in self.columns:  # the last version's: it records nothing
            self.columns["down"] = np.zeros((self.calls, _DOWN_SAMPLES), np.int16)
        up, play, sent = self.columns["up"], self.columns["play"], self.columns["down"]
        self.up = {
            r: up[:, : UP_FRAMES * r * FRAME_MS].reshape(self.calls, -1, r * FRAME_MS)
            for r in UP_RATES
        }
        """By samples a ms: (calls, frames, samples of a frame)."""
        self.play = {r: play.reshape(self.calls, 2, -1, r * FRAME_MS) for r in DOWN_RATES}
        """By samples a ms: (calls, rings, frames, samples of a frame)."""
        self.down = {
            r: sent[:, : UP_FRAMES * r * FRAME_MS].reshape(self.calls, -1, r * FRAME_MS)
            for r in DOWN_RATES
        }
        """The same of what was sent: (calls, frames, samples of a frame)."""

    @classmethod
    def create(cls, path: Path, calls: int, playout_ms: int) -> SlotMap:
        """Make a new file in the place of an older one.

        Raises:
            MediaError: it can't be written.
        """
        play_samples = playout_ms * 8
        places = _layout(calls, play_samples)
        last = list(places.values())[-1]
        size = last.offset + int(np.dtype(last.dtype).itemsize * np.prod(last.shape))
        header = {
            "calls": calls,
            "play_samples": play_samples,
            "columns": {
                n: {"dtype": p.dtype, "shape": p.shape, "offset": p.offset}
                for n, p in places.items()
            },
        }
        text = json.dumps(header).encode()
        fresh = path.with_suffix(".new")
        try:
            # Written beyond what a file system in memory holds, the map would kill its writer.
            room = os.statvfs(path.parent)
            if room.f_bavail * room.f_frsize < size:
                raise MediaError(
                    f"{path.parent} has room for {room.f_bavail * room.f_frsize >> 20} MB, the "
                    f"slots of {calls} calls need {size >> 20}: set runtime_dir, or lower max_calls"
                )
            with fresh.open("w+b") as file:
                os.ftruncate(file.fileno(), size)
                memory = mmap.mmap(file.fileno(), size)
            memory[: 16 + len(text)] = (
                _MAGIC + VERSION.to_bytes(4, "little") + len(text).to_bytes(4, "little") + text
            )
            made = cls(memory, header)
            for name, column in STATE_SPEC.items():
                if column.default:
                    made.columns[name][:] = column.default
            fresh.replace(path)
            made.inode = path.stat().st_ino
            made.place = _place(path.stat())
        except OSError as error:
            raise MediaError(
                f"can't make {path}: {error.strerror}; set runtime_dir to a writable directory"
            ) from error
        return made

    @classmethod
    def attach(cls, path: Path, *, write: bool = True) -> SlotMap:
        """Map a file that the media process made; to look at it only, unless `write`.

        Raises:
            MediaError: it isn't there, or of a version that we don't know.
        """
        try:
            access = mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
            with path.open("r+b" if write else "rb") as file:
                memory = mmap.mmap(file.fileno(), 0, access=access)
                found = os.fstat(file.fileno())
        except (OSError, ValueError) as error:
            raise MediaError(f"can't map {path}: {error}") from error
        version = int.from_bytes(memory[8:12], "little")
        if memory[:8] != _MAGIC or abs(version - VERSION) > 1:
            raise MediaError(
                f"{path} is of layout {version}, this program knows {VERSION}; "
                "run the same version of media and workers"
            )
        length = int.from_bytes(memory[12:16], "little")
        header = json.loads(memory[16 : 16 + length])
        if not _usable(header):
            raise MediaError(f"{path} is of another layout; run the same version of everything")
        attached = cls(memory, header)
        attached.version = version
        attached.inode, attached.place = found.st_ino, _place(found)
        return attached

    @classmethod
    def take_over(cls, path: Path, calls: int, playout_ms: int) -> SlotMap:
        """The map of a media process that has died, if we can use it; else a new one.

        One of another size or version is used on as long as there are calls in it.

        Raises:
            MediaError: it can't be written.
        """
        try:
            found = cls.attach(path)
        except MediaError:
            return cls.create(path, calls, playout_ms)
        as_asked = (found.calls, found.play_samples) == (calls, playout_ms * 8)
        taken = bool((found.columns["state"] != FREE).any())
        same = found.version == VERSION and as_asked
        return found if taken or same else cls.create(path, calls, playout_ms)

    def same(self, path: Path) -> bool:
        """Whether `path` is the very file that is mapped here."""
        return path.is_file() and path.stat().st_ino == self.inode

    def reset(self, index: int) -> None:
        """Put a slot's row at its defaults, and count its generation up."""
        generation = self.columns["generation"][index]
        reset(STATE_SPEC, self.columns, index)
        self.columns["generation"][index] = generation + 1


def _usable(header: dict[str, Any]) -> bool:
    """Whether all that it holds and we know has the form that we know."""
    known = _layout(header["calls"], header["play_samples"])
    return {"up", "play"} <= set(header["columns"]) and all(
        (tuple(found["shape"]), np.dtype(found["dtype"]))
        == (known[name].shape, np.dtype(known[name].dtype))
        for name, found in header["columns"].items()
        if name in known
    )


def _place(file: os.stat_result) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    machine = boot.read_text() if boot.exists() else os.uname().nodename
    return hashlib.sha256(f"{machine} {file.st_dev} {file.st_ino}".encode()).hexdigest()[:12]
