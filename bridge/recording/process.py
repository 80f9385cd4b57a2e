"""The recorder: a process beside media that writes recorded calls to files.

One a host, as the media process is; who comes second waits for the first one's end. Twice a second
it looks at the slots (2.4 s of every call are there); what it reads goes to a thread that writes,
so that a slow disk holds nothing up. Media and workers never wait for it: killed and started again
within two seconds it has lost nothing.

It loads numpy only when there is a call to record.

Beside that it has recordings of calls that are over made into their format, one at a time, and
deletes those whose time is over (`retention_days`). It looks for them in a thread of its own: going
through the notes of a hundred thousand takes longer than the rings last.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bridge import keeper, notify
from bridge.errors import MediaError
from bridge.recording import notes as recordings
from bridge.recording.notes import ORDERS, Notes

if TYPE_CHECKING:
    from bridge.recording.taker import Taker

log = logging.getLogger(__name__)

ROUND_S = 0.5
_RETENTION_S = 3600.0
_STOP_S, _DAY_S = 5.0, 86_400.0
_SLOTS = "media.slots"

Job = Callable[[], None]


class Writer:
    """A thread that does what is slow."""

    def __init__(self, most_bytes: int) -> None:
        """Take no more than that at once."""
        self._jobs: queue.SimpleQueue[tuple[int, Job] | None] = queue.SimpleQueue()
        self._most, self._waiting = most_bytes, 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def put(self, size: int, job: Job) -> bool:
        """Have it done, in its order; False: there is too much already."""
        with self._lock:
            if size and self._waiting + size > self._most:
                return False
            self._waiting += size
        self._jobs.put((size, job))
        return True

    @property
    def waiting(self) -> int:
        """Bytes that aren't written."""
        return self._waiting

    def close(self, timeout_s: float) -> None:
        """Wait for all of it, but not longer than that."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (todo := self._jobs.get()) is not None:
            size, job = todo
            try:
                job()
            except Exception:  # the thread's boundary: the other recordings go on
                log.exception("a fault of ours while writing a recording")
            with self._lock:
                self._waiting -= size


class Recorder:
    """The process. `run` until `stop`."""

    def __init__(self, runtime: Path, folders: Callable[[], Iterable[Path]]) -> None:
        """Record what is ordered in `runtime`; `folders` tells where recordings lie."""
        self._runtime, self._folders = runtime, folders
        self._asked = threading.Event()
        self._writer: Writer | None = None
        self._taker: Taker | None = None
        self._same: Callable[[], bool] = lambda: False
        self._finishing: subprocess.Popen[bytes] | None = None
        self._look_at = time.monotonic()
        self._looked = False
        self._looking: threading.Thread | None = None
        self._found: list[Path] = []
        """By the thread that looks; ours once it has ended."""
        self._left: list[Path] = []

    def stop(self) -> None:
        """End `run`; may be called by a signal handler."""
        self._asked.set()

    def run(self) -> None:
        """Record until `stop`."""
        log.info("recorder ready")
        notify.ready("records")
        each_s = notify.interval_s() or math.inf
        due = time.monotonic()
        alive = due + each_s
        while not self._asked.is_set():
            self._round()
            if time.monotonic() > alive:
                notify.alive()
                alive = time.monotonic() + each_s
            if keeper.orphaned() and keeper.holder(self._runtime) is not None:
                log.warning("another launcher's recorder is there: making room for it")
                break
            due = max(due + ROUND_S, time.monotonic())
            self._asked.wait(due - time.monotonic())
        if self._taker is not None:
            self._taker.round()  # calls that have just ended, too
            self._taker.leave()
        if self._writer is not None:
            self._writer.close(_STOP_S)

    def _round(self) -> None:
        if self._taker is None or not self._same():
            self._attach()
        if self._taker is not None:
            self._taker.round()
        self._finish()

    def _attach(self) -> None:
        """Map the slots, once there is something to record."""
        if self._taker is not None:
            self._taker.leave()
            self._taker = None
        with contextlib.suppress(FileNotFoundError):
            if not any((self._runtime / ORDERS).iterdir()) or not self._slots.is_file():
                return
            from bridge.media.slots import SlotMap
            from bridge.recording.taker import MOST_WAITING, Taker

            try:
                slots = SlotMap.attach(self._slots)
            except MediaError as error:
                log.debug("%s", error)  # it is just being made
                return
            if self._writer is None:
                self._writer = Writer(MOST_WAITING)
            self._taker = Taker(self._runtime, slots, self._writer.put)
            self._same = lambda: slots.same(self._slots)

    @property
    def _slots(self) -> Path:
        return self._runtime / _SLOTS

    # Calls that are over --------------------------------------------------------------------------

    def _finish(self) -> None:
        """Have one more recording made what it is to be; now and then look for what is left."""
        if self._finishing is not None:
            if (status := self._finishing.poll()) is None:
                return
            if status:
                log.error("a recording could not be finished (%s)", status)
            self._finishing = None
        if self._taker is not None:
            while self._taker.ended:
                self._left.append(self._taker.ended.popleft())
        if self._looking is None and time.monotonic() >= self._look_at:
            self._looking = threading.Thread(target=self._look, name="looker", daemon=True)
            self._looking.start()
        elif self._looking is not None and not self._looking.is_alive():
            # What a predecessor left is known to be abandoned after a while.
            first, self._looked = not self._looked, True
            self._look_at = time.monotonic() + (_ABANDONED_S + 10 if first else _RETENTION_S)
            self._left += [file for file in self._found if file not in self._left]
            self._looking, self._found = None, []
        if self._left:
            file = self._left.pop(0)
            self._finishing = subprocess.Popen(
                [sys.executable, "-m", "bridge.recording.finish", str(file)],
                process_group=0,
            )

    def _look(self) -> None:
        """Delete what has outlived its time, find what is to be finished. In its own thread."""
        try:
            now = time.time()
            recordings.sweep(self._runtime, now - _DAY_S)
            for folder in {*self._folders()}:
                recordings.sweep_unfinished(folder, now - _DAY_S)
                for notes in recordings.all_in(folder):
                    if notes.state == "ended" or (
                        notes.state == "recording" and self._abandoned(notes, now)
                    ):
                        self._found.append(notes.file)
                    elif notes.delete_at and notes.delete_at < now:
                        _delete(notes)
        except Exception:  # the thread's boundary: it looks again in a while
            log.exception("a fault of ours while looking for recordings")

    def _abandoned(self, notes: Notes, now: float) -> bool:
        """Whether nobody goes on with it: its host has died, or its recorder at a bad moment."""
        if self._taker is not None and self._taker.has(notes.file):
            return False
        try:
            touched = notes.sound_file.stat().st_mtime
        except OSError:
            touched = notes.started
        return now - touched > _ABANDONED_S


_ABANDONED_S = 60.0
"""Longer than a slot outlives its worker, and every recorder its launcher."""


def _delete(notes: Notes) -> None:
    try:
        recordings.erase(notes)
        log.info("deleted the recording of call %s: its time is over", notes.call_id)
    except OSError as error:
        log.error("%s can't be deleted: %s", notes.file, error.strerror or error)


def serve(runtime: Path, folders: Callable[[], Iterable[Path]]) -> None:
    """Be the recorder until SIGINT or SIGTERM; where there is one, wait for its end first.

    Raises:
        MediaError: the runtime directory can't be written to.
    """
    recorder = Recorder(runtime, folders)
    hang_up = [signal.SIGHUP] if keeper.has_terminal() else []
    try:
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = recordings.take(runtime)
    except OSError as error:
        raise MediaError(
            f"can't write to {runtime}: {error.strerror}; set [media] runtime_dir"
        ) from error
    try:
        for number in (signal.SIGINT, signal.SIGTERM, *hang_up):
            signal.signal(number, lambda *_: recorder.stop())
        recorder.run()
    finally:
        os.close(lock)
