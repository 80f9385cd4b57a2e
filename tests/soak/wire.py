"""The callers' one socket: a loopback address a caller, and the kernel's own time of each packet.

Caller n is 127.1.(n >> 8).(n & 255), all on one port, so that packets come and go in batches, a
system call each, and none of hundreds of callers costs a socket or a thread. A packet's time is
when it came to the socket (SO_TIMESTAMPNS), however late we look.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

FRAME = 160
HEADER = 12
BATCH = 512
_ROOM = 256
_BUFFER = 8 << 20
_SO_RCVBUFFORCE, _SO_BINDTODEVICE, _SO_TIMESTAMPNS, _IP_PKTINFO = 33, 25, 35, 8
_DONT_WAIT = 0x40
_FIRST = int(ipaddress.IPv4Address("127.1.0.0"))
_MESSAGE = np.dtype(  # struct mmsghdr, 64-bit
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "length"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
_VECTOR = np.dtype([("base", "u8"), ("length", "u8")])
_ADDRESS = np.dtype([("family", "u2"), ("port", ">u2"), ("ip", ">u4"), ("zero", "u8")])
_INFO = [("len", "u8"), ("level", "i4"), ("type", "i4"), ("ifindex", "u4"), ("spec", ">u4"),
         ("addr", ">u4"), ("pad", "u4")]  # fmt: skip
_TO = np.dtype(_INFO)
_FROM = np.dtype(
    [("stamp_len", "u8"), ("stamp_level", "i4"), ("stamp_type", "i4"), ("s", "i8"), ("ns", "i8"),
     *_INFO]
)  # fmt: skip
_RTP = np.dtype(
    [("v", "u1"), ("kind", "u1"), ("seq", ">u2"), ("ts", ">u4"), ("ssrc", ">u4")]
)  # RFC 3550 section 5.1

Ints = npt.NDArray[np.int64]


def address(caller: int) -> str:
    """Where a caller is."""
    return str(ipaddress.IPv4Address(_FIRST + caller))


class Wire:
    """A context manager."""

    def __enter__(self) -> Self:
        self._socket = sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # All of 127/8 takes "any address": so nobody but this host may reach it.
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, b"lo\0")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind(("0.0.0.0", 0))
        self.port: int = sock.getsockname()[1]
        self._inode = Path(f"/proc/self/fd/{sock.fileno()}").readlink().name[8:-1]
        self._in = np.zeros((BATCH, _ROOM), np.uint8)
        self._out = np.zeros((BATCH, HEADER + FRAME), np.uint8)
        self._stamps, self._source = np.zeros(BATCH, _FROM), np.zeros(BATCH, _TO)
        self._to = np.zeros(BATCH, _ADDRESS)
        self._to["family"] = socket.AF_INET
        self._source["len"], self._source["level"] = 28, socket.IPPROTO_IP
        self._source["type"] = _IP_PKTINFO
        self._received, self._vectors_in = _messages(self._in, self._stamps)
        self._sent, self._vectors_out = _messages(self._out, self._source)
        self._sent["name"] = _pointer(self._to) + np.arange(BATCH) * _ADDRESS.itemsize
        self._sent["namelen"] = _ADDRESS.itemsize
        library = ctypes.CDLL(None, use_errno=True)
        self._recvmmsg, self._sendmmsg = library.recvmmsg, library.sendmmsg
        self._received_at = ctypes.c_void_p(_pointer(self._received))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def receive(self) -> tuple[Ints, Ints, Ints, npt.NDArray[np.uint8]]:
        """A batch of what has come: whose, when (ns of the epoch), RTP's numbers, the payloads.

        Payloads are (n, FRAME) and stand until the next call. What isn't a frame of 20 ms PCMU is
        left out.
        """
        self._received["controllen"] = _FROM.itemsize
        n = self._recvmmsg(self._socket.fileno(), self._received_at, BATCH, _DONT_WAIT, None)
        n = max(0, n)
        stamps, header = self._stamps[:n], np.ndarray((n,), _RTP, self._in, strides=(_ROOM,))
        assert (stamps["stamp_type"] == _SO_TIMESTAMPNS).all()
        assert (stamps["type"] == _IP_PKTINFO).all()
        good = (self._received["length"][:n] == HEADER + FRAME) & (header["kind"] & 0x7F == 0)
        which = np.flatnonzero(good)
        at = stamps["s"][which] * 1_000_000_000 + stamps["ns"][which]
        callers = stamps["addr"][which].astype(np.int64) - _FIRST
        seq = header["seq"][which].astype(np.int64)
        return callers, at, seq, self._in[which, HEADER : HEADER + FRAME]

    def send(self, callers: Ints, ports: Ints, count: Ints, frames: npt.NDArray[np.uint8]) -> None:
        """Each of them sends his frame (n, FRAME), his `count`-th one, to that port of the PBX."""
        for first in range(0, len(callers), BATCH):
            part = slice(first, first + BATCH)
            self._send(callers[part], ports[part], count[part], frames[part])

    def _send(self, callers: Ints, ports: Ints, count: Ints, frames: npt.NDArray[np.uint8]) -> None:
        k = len(callers)
        header = np.ndarray((k,), _RTP, self._out, strides=(HEADER + FRAME,))
        header["v"], header["kind"] = 0x80, np.where(count == 0, 0x80, 0)
        header["seq"], header["ts"] = count & 0xFFFF, count * FRAME & 0xFFFFFFFF
        header["ssrc"] = 0x10000 + callers
        self._out[:k, HEADER:] = frames
        self._to["ip"][:k], self._to["port"][:k] = 0x7F000001, ports
        self._source["spec"][:k] = _FIRST + callers
        at = 0
        while at < k:
            start = ctypes.c_void_p(_pointer(self._sent) + at * _MESSAGE.itemsize)
            n = self._sendmmsg(self._socket.fileno(), start, k - at, _DONT_WAIT)
            at += n if n > 0 else 1  # an error is that datagram's alone

    def dropped(self) -> int:
        """Packets that the kernel had no room for: what was judged without them counts for
        nothing."""
        for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] == self._inode:
                return int(fields[-1])
        raise AssertionError("the socket isn't listed")


def _pointer(array: npt.NDArray[np.generic]) -> int:
    return int(array.ctypes.data)


def _messages(
    buffer: npt.NDArray[np.uint8], control: npt.NDArray[np.void]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
    """Message and vector structures over the rows of a buffer and their control messages."""
    n, room = buffer.shape
    vectors = np.zeros(n, _VECTOR)
    vectors["base"], vectors["length"] = _pointer(buffer) + np.arange(n) * room, room
    messages = np.zeros(n, _MESSAGE)
    messages["iov"] = _pointer(vectors) + np.arange(n) * _VECTOR.itemsize
    messages["iovlen"] = 1
    messages["control"] = _pointer(control) + np.arange(n) * control.itemsize
    messages["controllen"] = control.itemsize
    return messages, vectors
