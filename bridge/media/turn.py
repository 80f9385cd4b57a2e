"""Whose turn it is to be the media process of a runtime directory: one serves, others stand by.

A lock in the directory says it; the kernel lets go of it when its holder dies, and the next one in
the queue goes on within a few milliseconds: it has loaded and rehearsed everything before. A clean
end (an upgrade, a launcher that was killed and has a successor) is a death like any other.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bridge import keeper, notify
from bridge.errors import MediaError
from bridge.media import control

log = logging.getLogger(__name__)

_LOOK_S, SUCCESSOR_MS = 0.5, 2000.0
"""An orphaned spare looks so often for another launcher: after a while only that one's are left."""


def take(folder: Path, rehearse: Callable[[], None] | None) -> int:
    """Be the one media process of this directory, and return the lock.

    Args:
        folder: the runtime directory.
        rehearse: wait where there is one already, after doing this; None: don't wait.

    Raises:
        MediaError: there is one, or the directory can't be made.
    """
    make_folder(folder)
    lock = os.open(folder / "media.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if rehearse is None:
            os.close(lock)
            raise MediaError(another(control.socket_path(folder))) from None
        rehearse()
        standing_by = keeper.stand_by(folder)
        log.info("spare media process ready")
        notify.ready("stands by")
        serving = threading.Event()
        threading.Thread(target=_make_room, args=(folder, serving), daemon=True).start()
        fcntl.flock(lock, fcntl.LOCK_EX)
        serving.set()
        os.close(standing_by)
        log.warning("the media process of %s has gone: taking its place", folder)
    return lock


def _make_room(folder: Path, serving: threading.Event) -> None:
    """A spare whose launcher was killed: the next launcher has spares of its own."""
    each_s = notify.interval_s() or math.inf
    alive = time.monotonic() + each_s
    while not serving.wait(_LOOK_S):
        if time.monotonic() > alive:
            notify.alive()
            alive = time.monotonic() + each_s
        if keeper.orphaned() and keeper.holder(folder) is not None:
            os._exit(0)


def make_folder(folder: Path) -> None:
    """Make it, ours alone, where it isn't there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(
            f"can't make {folder}: {error.strerror}; set [media] runtime_dir"
        ) from error


def another(path: Path) -> str:
    """What to say where there is one."""
    return (
        f"a media process{_whose(path)} already serves {path}: stop it, or set another runtime_dir"
    )


def _whose(path: Path) -> str:
    """The process id behind a socket."""
    with contextlib.closing(control.new_socket()) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return ""
        found = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return f" (process {struct.unpack('3i', found)[0]})"
