"""Where the lab's programs are: on PATH where the host's own may serve, else in the private root.

`make setup` (tests/lab/setup.sh) unpacks Debian packages into the user's cache and links them as
`.lab`; `.lab/bin` has a wrapper per program, which starts it with the root's own libraries.

An Asterisk >= 20 or a Redis >= 5 on PATH is preferred: the lab then shows that the bridge works
with the very version that its user runs. Either way they get configurations of our own.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import re
import shutil
import socket
import struct
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / ".lab"

# program: (its version option, the lowest major version of the host's own that will do)
_FROM_PATH = {
    "asterisk": ("-V", 20),
    "redis-server": ("--version", 7),  # 6.2 would do
    "openssl": ("version", 1),
}
_SIOCGIFADDR = 0x8915  # linux/sockios.h
_ADMIN_PATH = os.pathsep.join(["/usr/local/sbin", "/usr/sbin", "/sbin"])


class LabError(Exception):
    """Something that the lab needs is missing or did not start; one line, with the cure."""


@functools.cache
def program(name: str) -> Path:
    """The executable called `name`, or LabError with the cure."""
    if name in _FROM_PATH:
        found = _on_path(name)
        if found is not None:
            return found
    wrapper = LAB / "bin" / name
    if not wrapper.exists():
        raise LabError(f"{name} is not set up: run 'make setup'")
    return wrapper


def is_private(executable: Path) -> bool:
    """Whether `executable` is one of the private root (and not the host's own)."""
    return executable.is_relative_to(LAB)


def system(path: str) -> Path:
    """A file of the private root by its path there, such as `usr/share/sip-tester`."""
    found = LAB / "sys" / path
    if not found.exists():
        raise LabError(f"{path} is not in the private root: run 'make setup'")
    return found


def _on_path(name: str) -> Path | None:
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), _ADMIN_PATH])
    found = shutil.which(name, path=search)
    if found is None:
        return None
    option, lowest = _FROM_PATH[name]
    return Path(found) if major_version(Path(found), option) >= lowest else None


def major_version(executable: Path, option: str) -> int:
    """The first number of what `executable option` prints, 0 if it does not run."""
    try:
        said = subprocess.run(
            [executable, option], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    number = re.search(r"\d+", said.stdout)
    return int(number.group()) if number else 0


# Below the ports that the kernel hands out by itself (ip_local_port_range): no outgoing
# connection takes a port between our look and its use.
_PORTS = range(10_000, 32_000)


def _ports() -> range:
    """Where to look: of several test processes side by side each has ports of its own."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    each = len(_PORTS) // processes
    first = _PORTS.start + int(name.removeprefix("gw")) * each
    return range(first, first + each)


def own_addresses() -> list[str]:
    """The IPv4 addresses of this machine's interfaces, but for loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has none
                asked = struct.pack("256s", name.encode())
                told = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, asked)
                found.append(socket.inet_ntoa(told[20:24]))
    return [address for address in found if not address.startswith("127.")]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    return free_range(1, kind)


def free_range(count: int, *kinds: socket.SocketKind, address: str = "127.0.0.1") -> int:
    """The first of `count` consecutive ports that were all free a moment ago, even where count > 1.

    RTP takes the even port of a pair and RTCP the odd one (RFC 3550 section 11).

    Args:
        count: how many.
        kinds: free for each of these; UDP unless told.
        address: where they are free.
    """
    ports = _ports()
    for _ in range(200):
        first = random.randrange(ports.start, ports.stop - count)
        first -= first % 2 if count > 1 else 0
        with contextlib.ExitStack() as probes:
            try:
                for kind in kinds or (socket.SOCK_DGRAM,):
                    for port in range(first, first + count):
                        probe = probes.enter_context(socket.socket(socket.AF_INET, kind))
                        probe.bind((address, port))
            except OSError:
                continue
            return first
    raise LabError(f"no {count} consecutive free ports on {address}: close what uses them")
