"""Who looks after the processes of this host: the launcher, and how its children miss it.

`ari-bridge run` holds a lock in the runtime directory as long as it lives; the kernel lets go of it
when it dies, however it dies. A child knows its launcher's process id from the environment: with
another parent it is an orphan. It goes on serving, and once somebody holds the lock again it makes
room for the processes of that launcher. Processes that a service manager starts have no launcher,
and are never orphans.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from bridge.errors import ConfigError

LAUNCHER = "ARI_BRIDGE_LAUNCHER"
"""The environment variable that holds the launcher's process id."""
_LOCK, _STANDBY = "launcher.lock", "standby.lock"
_PATIENCE_S = 1.0


def orphaned() -> bool:
    """Whether the launcher that started this process is gone."""
    launcher = os.environ.get(LAUNCHER, "")
    return launcher.isdigit() and os.getppid() != int(launcher)


def take(folder: Path) -> int:
    """Be the one launcher of a runtime directory; the lock ends with this process.

    Raises:
        ConfigError: there is one, or the directory can't be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"can't write to {folder}: {error.strerror}; set [media] runtime_dir"
        ) from error
    until = time.monotonic() + _PATIENCE_S  # children look at it now and then
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                pid = _pid(lock)
                os.close(lock)
                raise ConfigError(
                    f"`ari-bridge run` (process {pid}) already serves {folder}: stop it, "
                    "or set another [media] runtime_dir"
                ) from None
            time.sleep(0.05)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def holder(folder: Path) -> int | None:
    """The process id of the launcher that looks after a runtime directory now, if there is one."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(lock)
    finally:
        os.close(lock)
    return None


def stand_by(folder: Path) -> int:
    """Tell that this process waits, loaded, to take the media process' place. Close it to stop."""
    lock = os.open(folder / _STANDBY, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)  # who looks holds it for microseconds
    return lock


def somebody_stands_by(folder: Path) -> bool:
    """Whether a process waits to take the media process' place."""
    return is_held(folder / _STANDBY)


def is_held(file: Path) -> bool:
    """Whether a living process holds a lock on that file."""
    try:
        lock = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _pid(lock: int) -> int:
    text = os.pread(lock, 20, 0)
    return int(text) if text.isdigit() else 0


def has_terminal() -> bool:
    """Whether a terminal controls us: then SIGHUP is its end, else it asks to reload."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
