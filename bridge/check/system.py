"""This machine: room for sockets, files and slots, the clock, priority, and how fast it is."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

from bridge.check.finding import Finding
from bridge.errors import MediaError
from bridge.media import control
from bridge.media.settings import MediaSettings

BUFFER = 4 << 20
"""Bytes that the media process asks the kernel for, to live through a moment's stand-still."""
FILES_PER_CALL, FILES_BESIDES = 4, 200
SLOT_MIB = 0.76
"""Of a call's slot (docs/operations.md)."""
_UNSYNCED = 0x40  # adjtimex(2): STA_UNSYNC


def findings(media: MediaSettings) -> list[Finding]:
    """All of it."""
    return [_buffers(), _files(media), _slots(media), _synced(), _priority()]


def _buffers() -> Finding:
    try:
        most = int(Path("/proc/sys/net/core/rmem_max").read_text())
    except (OSError, ValueError):
        return Finding("sockets", "skip", "the kernel doesn't tell net.core.rmem_max")
    figures = {"rmem_max_bytes": most}
    if most < BUFFER:
        said = f"net.core.rmem_max is {most}: a moment's stand-still of many calls loses packets"
        return Finding("sockets", "warn", said, f"sysctl -w net.core.rmem_max={BUFFER}", figures)
    return Finding("sockets", "ok", f"net.core.rmem_max is {most}", "", figures)


def _files(media: MediaSettings) -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_BESIDES + FILES_PER_CALL * media.max_calls
    figures = {"files": soft, "needed": needed}
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return Finding("files", "ok", f"{soft} may be open", "", figures)
    said = f"{soft} may be open, {media.max_calls} calls can need {needed}"
    cure = f"LimitNOFILE={needed} in the service (ulimit -n), or a lower [media] max_calls"
    return Finding("files", "warn" if soft >= 1024 else "fail", said, cure, figures)


def _slots(media: MediaSettings) -> Finding:
    folder = Path(media.runtime_dir)
    place = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        if folder.exists():
            if (owner := folder.lstat().st_uid) != os.geteuid():
                said = f"{folder} is another user's (uid {owner}), so is the bridge probably"
                return Finding("slots", "warn", said, "check as the user that the bridge runs as")
            control.check_folder(folder)
        size = os.statvfs(place)
    except (MediaError, OSError) as error:
        said, _, cure = str(error).partition(": ")
        return Finding("slots", "fail", said, cure)
    if not os.access(place, os.W_OK):
        said = f"{place} can't be written by our user"
        return Finding("slots", "fail", said, "set [media] runtime_dir")
    free = size.f_bavail * size.f_frsize / 2**20
    needed = SLOT_MIB * media.max_calls
    figures = {"free_mib": round(free, 1), "needed_mib": round(needed, 1)}
    if (folder / control.SLOTS).exists():  # its room is taken already
        return Finding("slots", "ok", f"in {folder}", "", figures)
    if free < needed:
        said = f"{place} has {free:.0f} MiB, {media.max_calls} calls take {needed:.0f}"
        cure = "make it larger, or lower [media] max_calls"
        return Finding("slots", "fail", said, cure, figures)
    if _type_of(place) not in ("tmpfs", "ramfs"):
        said = f"{folder} is on a disk: packets come late whenever it is written to"
        return Finding("slots", "warn", said, "set [media] runtime_dir below /dev/shm", figures)
    return Finding(
        "slots", "ok", f"{needed:.0f} of {free:.0f} MiB in memory ({folder})", "", figures
    )


def _type_of(place: Path) -> str:
    """The file system's."""
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split()
        mount = mount.encode().decode("unicode_escape")
        inside = place == Path(mount) or Path(mount) in place.parents
        if inside and len(mount) >= len(best):
            best, kind = mount, name
    return kind


def _synced() -> Finding:
    buffer = ctypes.create_string_buffer(512)  # struct timex; modes = 0: only ask
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    status = int.from_bytes(buffer.raw[40:44], "little") if ctypes.sizeof(ctypes.c_long) == 8 else 0
    if state < 0:
        return Finding("time", "skip", "the kernel doesn't tell whether its clock is set")
    if status & _UNSYNCED:
        said = "nothing keeps this machine's clock right"
        return Finding("time", "warn", said, "run chrony or systemd-timesyncd")
    return Finding("time", "ok", "the clock is kept right")


def _priority() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    if os.geteuid() == 0 or soft >= 31:  # nice -11 is 31
        return Finding("priority", "ok", "the media process may raise its own")
    said = "the media process can't raise its priority: under load packets are late"
    cure = "LimitNICE=-15 in the service; for a container `ulimits: {nice: 35, rtprio: 1}`"
    return Finding("priority", "warn", said, cure)
