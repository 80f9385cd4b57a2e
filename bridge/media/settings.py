"""The operator's settings of the media process."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - our directory there is ours alone (0700)
_WORTH_BYTES = 1 << 30
_MOST_PATH = 107 - len("/media.sock")
"""Bytes of `runtime_dir`: unix(7) has room for so much of a socket's path."""


def _in_memory() -> str:
    """A directory of each user's own: on a file system in memory where there is one.

    The slots are written 200 times a second. On a disk the kernel takes their pages away each time
    it writes them back: with 1000 calls packets were seconds late (docs/measurements.md). A small
    /dev/shm (a container's has 64 MB) is no place for them: full, it kills whoever writes.
    """
    if _MEMORY.is_dir():
        size = os.statvfs(_MEMORY)
        if size.f_blocks * size.f_frsize >= _WORTH_BYTES:
            return str(_MEMORY / f"ari-bridge-{os.geteuid()}")
    return f"/tmp/ari-bridge-{os.geteuid()}"  # noqa: S108 - the same


@dataclass(frozen=True)
class MediaSettings:
    """Table `[media]`."""

    listen_address: str = "127.0.0.1"
    """Where RTP of all calls is received and sent from (IPv4)."""
    port: int = 7000
    """UDP port of all calls; 0 lets the system choose one."""
    advertised_address: str = ""
    """What Asterisk is told to send to, if not `listen_address` (NAT, containers)."""
    runtime_dir: str = field(default_factory=_in_memory)
    """Holds the control socket and the slots; workers of this host use the same. Left out: in
    memory, `/dev/shm/ari-bridge-UID`, where that is large enough, else below `/tmp`."""
    max_calls: int = 1000
    """So many slots there are, 0.76 MB each; a call beyond goes on in the dialplan."""
    playout_ms: int = 20_000
    """Agent audio that a call may have waiting, at 8 kHz; half of it at 16 kHz."""
    dtx: bool = False
    """Send nothing in silence; else silence is sent."""
    grace_ms: int = 30_000
    """How long a call's slot outlives its worker."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, least, most in (
            ("port", 0, 65535),
            ("max_calls", 1, 20_000),
            ("playout_ms", 1000, 120_000),
            ("grace_ms", 0, 3_600_000),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"'{name}' must be between {least} and {most}")
        if not self.runtime_dir:
            raise ValueError("'runtime_dir' is empty; leave it out, or name a directory")
        if len(os.fsencode(self.runtime_dir)) > _MOST_PATH or "\0" in self.runtime_dir:
            raise ValueError(f"'runtime_dir' must be a path of at most {_MOST_PATH} bytes")
        if self.playout_ms % 40:
            raise ValueError("'playout_ms' must be a multiple of 40")
