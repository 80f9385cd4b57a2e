"""What is said on the control socket: a Unix socket of type SEQPACKET, one JSON object a message.

A worker begins with `hello` (its name, the version, and with it the eventfd that media raises when
there are new frames), and is told where RTP goes and where the slots are. Then it sends requests,
each with an `id` that stands in the answer too: `open`, `attach`, `close`, `list`. An answer holds
`error` and `message` if it is a refusal. The end of the socket is the end of its holder, on both
sides.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

from bridge.errors import MediaError
from bridge.media import slots

VERSION = slots.VERSION
MOST_BYTES = 65536
SOCKET = "media.sock"
SLOTS = "media.slots"


def encode(message: dict[str, Any]) -> bytes:
    """One message."""
    return json.dumps(message, separators=(",", ":")).encode()


def decode(data: bytes) -> dict[str, Any]:
    """One message. Raises `ValueError` if it isn't one."""
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


def new_socket() -> socket.socket:
    """An unconnected control socket, non-blocking."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    return sock


def check_folder(runtime_dir: Path) -> None:
    """That the directory is ours alone: who may write there can hear and speak on every call.

    Raises:
        MediaError: it is a link, somebody else's, or others may write to it.
    """
    found = runtime_dir.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not ours or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise MediaError(
            f"{runtime_dir} is not ours alone: remove it, or set another [media] runtime_dir"
        )


def socket_path(runtime_dir: Path) -> Path:
    """Where the control socket is."""
    return runtime_dir / SOCKET
