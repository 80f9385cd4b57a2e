"""What is known of a recording besides its sound: a small JSON file that lies next to it.

It begins as an *order*: the worker that wants a call recorded leaves it in the runtime directory,
by the call's name, and the recorder finds it there. From then on it is the recorder's, next to the
sound, and says what has become of it. Whoever reads a recording begins there; the sound's own name
is in it.

    FOLDER/2026-11-23/101500-demo-CALL.json     this
    FOLDER/2026-11-23/101500-demo-CALL.wav      .wav, .opus or .mp3; with a key, .sealed behind it
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bridge import keeper
from bridge.errors import RecordingError

ORDERS = "recording"
"""The orders' folder in the runtime directory."""
_LOCK = "recorder.lock"


@dataclass(slots=True)
class Notes:
    """Of one recording. Times are seconds since the epoch, spans [from, to] in ms of the sound."""

    call_id: str
    path: str
    """Its own, without a suffix."""
    agent: str = ""
    caller: str = ""
    dialed: str = ""
    format: str = "wav"
    """What it is to be in the end."""
    key_file: str = ""
    """What it is sealed with; empty: not."""
    started: float = 0.0
    delete_at: float = 0.0
    """0: never."""
    state: str = "ordered"
    """`ordered`, `recording`, `ended` (no more is written), `ready` (it is what it is to be)."""
    sound: str = ""
    """Name of the file that holds the sound, in the same folder."""
    place: str = ""
    """Names the slots that it is of, on all hosts."""
    slot: tuple[int, int] = (-1, -1)
    """Index and generation."""
    origin: int = 0
    """The slot's frame at which it begins."""
    rate: int = 0
    duration_ms: int = 0
    pauses: list[tuple[int, int]] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)
    peaks: dict[str, Any] = field(default_factory=dict)
    """`{"per_s": 10, "caller": base64 of a byte each, "agent": …}`, of what isn't WAV any more."""
    fault: str = ""
    """Why it isn't what it should be; one line."""

    @property
    def file(self) -> Path:
        """This, on disk."""
        return Path(self.path + ".json")

    @property
    def sound_file(self) -> Path:
        """The sound, on disk."""
        return Path(self.path).parent / self.sound

    def save(self) -> None:
        """Write it, whole or not at all. Raises `OSError`."""
        _write(self.file, asdict(self))

    def renew(self) -> bool:
        """The same, unless it was erased: what is gone stays gone. Returns whether it is there."""
        with held(self.file) as there:
            if there:
                self.save()
        return there

    @classmethod
    def read(cls, file: Path) -> Notes:
        """Raises `RecordingError`: it isn't there, or isn't one."""
        try:
            table = json.loads(file.read_text(encoding="utf-8"))
            known = {f.name for f in fields(cls)}
            made = cls(**{name: value for name, value in table.items() if name in known})
            made.slot = (int(made.slot[0]), int(made.slot[1]))
            for name in ("pauses", "lost"):
                setattr(made, name, [(int(a), int(b)) for a, b in getattr(made, name)])
        except FileNotFoundError:
            raise RecordingError(
                f"{file} is not there: it was deleted, or lies on the host that recorded it"
            ) from None
        except (OSError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise RecordingError(f"{file} can't be read: {error}") from error
        return made


def order(runtime: Path, notes: Notes) -> None:
    """Leave it for the recorder. Raises `OSError`."""
    place = _order(runtime, notes.call_id)
    place.parent.mkdir(mode=0o700, exist_ok=True)
    _write(place, asdict(notes))


def ordered(runtime: Path, call_id: str) -> Notes | None:
    """What was ordered for a call, if anything was. Raises `RecordingError`."""
    place = _order(runtime, call_id)
    return Notes.read(place) if place.is_file() else None


def take(runtime: Path) -> int:
    """Be the one recorder of a runtime directory, as soon as there is no other; returns the lock,
    which the kernel lets go of when its holder dies. Raises `OSError`."""
    lock = os.open(runtime / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def recorder_runs(runtime: Path) -> bool:
    """Whether there is one."""
    return keeper.is_held(runtime / _LOCK)


def done(runtime: Path, notes: Notes) -> None:
    """Nobody needs this order any more; the call may have another by now."""
    with contextlib.suppress(RecordingError):
        found = ordered(runtime, notes.call_id)
        if found is not None and found.path == notes.path:
            _order(runtime, notes.call_id).unlink(missing_ok=True)


def sweep(runtime: Path, before: float) -> None:
    """Forget orders that were given before then, and that no recorder has ever seen to the end."""
    for file in (runtime / ORDERS).glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mtime < before:
                file.unlink()


def base(folder: Path, call_id: str, agent: str, started: float) -> Path:
    """Where a new recording is to lie, without a suffix; no other has this name."""
    day = time.strftime("%Y-%m-%d", time.localtime(started))
    now = time.strftime("%H%M%S", time.localtime(started))
    name = f"{now}-{_plain(agent)}-{_plain(call_id)}"
    return folder / day / f"{name}-{_digest(call_id + repr(started))[:6]}"


def all_in(folder: Path) -> Iterator[Notes]:
    """Of every recording in a folder; what can't be read is passed over."""
    for file in sorted(folder.glob("????-??-??/*.json")):
        try:
            yield Notes.read(file)
        except RecordingError:
            continue


def erase(notes: Notes) -> None:
    """Delete a recording and what is known of it, also what is just being made of it. Raises
    `OSError`."""
    file, stem = notes.file, _escaped(notes.file.stem)
    with held(file):
        for other in (*file.parent.glob(f"{stem}.*"), *file.parent.glob(f".{stem}.*")):
            if other != file:
                other.unlink(missing_ok=True)
        file.unlink(missing_ok=True)  # the last, so that nothing is forgotten half deleted


@contextlib.contextmanager
def held(file: Path) -> Iterator[bool]:
    """Whether these notes are there; if so, nobody else replaces or erases them until the end of
    the block. Hold them shortly. Raises `OSError`."""
    with contextlib.ExitStack() as stack:
        yield _hold(file, stack)


def _hold(file: Path, stack: contextlib.ExitStack) -> bool:
    while True:
        try:
            # Over NFS a lock needs a file open for writing.
            opened = stack.enter_context(file.open("r+b"))
            fcntl.flock(opened, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(opened.fileno()), file.stat()):
                return True
        except FileNotFoundError:
            return False
        stack.pop_all().close()  # it was replaced while we waited


def sweep_unfinished(folder: Path, before: float) -> None:
    """Delete what a finisher that died before then has left half made."""
    for file in folder.glob("????-??-??/.*.new"):
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mtime < before:
                file.unlink()


def _order(runtime: Path, call_id: str) -> Path:
    return runtime / ORDERS / f"{_digest(call_id)}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in text)[:60]


def _escaped(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _write(path: Path, table: dict[str, Any]) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(table, file, ensure_ascii=False)
    fresh.replace(path)
