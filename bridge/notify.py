"""What a service manager is told: that a process is ready, and that it still lives.

sd_notify(3), as far as it takes: a line of text to the datagram socket that NOTIFY_SOCKET names,
and, where WATCHDOG_USEC asks for a sign of life, one in each half of that time. Whoever hangs gives
none, and is killed and started again: for callers a death like any other.

Without a service manager (`ari-bridge run`, a container) nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import socket

_SOCKET, _WATCHDOG, _WATCHED = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


def ready(status: str) -> None:
    """It serves, or stands by; `status` is for people, in a few words.

    Also a sign of life: a spare's last may be half the time old when it begins to serve.
    """
    _tell(f"READY=1\nSTATUS={status}\nWATCHDOG=1")


def stopping() -> None:
    """It ends in order, which may take a while."""
    _tell("STOPPING=1")


def alive() -> None:
    """A sign of life."""
    _tell("WATCHDOG=1")


def interval_s() -> float | None:
    """How often one is wanted (twice in the time after which we would be killed); None: never."""
    asked, watched = os.environ.get(_WATCHDOG, ""), os.environ.get(_WATCHED, "")
    if not asked.isdigit() or int(asked) <= 0 or _SOCKET not in os.environ:
        return None
    if watched and watched != str(os.getpid()):  # our parent is meant
        return None
    return int(asked) / 2e6


def _tell(text: str) -> None:
    path = os.environ.get(_SOCKET, "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with (
        # Nobody there, or a queue that is full: nothing that a call should suffer from.
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock,
    ):
        sock.sendto(text.encode(), address)
