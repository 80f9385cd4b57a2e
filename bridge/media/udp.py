"""One UDP socket for all calls, a batch of datagrams a system call.

`recvmmsg` and `sendmmsg` through ctypes work on structures that numpy lays out once: a batch costs
one call, and no Python object a packet. Where the C library hasn't got them (`Portable`), a loop
over the socket does the same. Both carry IPv4. Errors of single datagrams (ECONNREFUSED and its
like, that an earlier datagram earned) are counted and passed over.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct

import numpy as np
from numpy.typing import NDArray

from bridge.errors import MediaError

BATCH = 512
ROOM = 2048
"""Bytes for a datagram: 60 ms of L16 at 16 kHz are 1932."""
_BUFFER = 4 << 20
_MSG_DONTWAIT, _MSG_TRUNC = 0x40, 0x20
_MTU_DISCOVER, _DONT_FRAGMENT = 10, 2  # linux/in.h
_AGAIN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS}

_MESSAGE = np.dtype(  # struct mmsghdr, 64-bit
    {
        "names": ["name", "namelen", "iov", "iovlen", "flags", "length"],
        "formats": ["u8", "u4", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 48, 56],
        "itemsize": 64,
    }
)
_VECTOR = np.dtype([("base", "u8"), ("length", "u8")])
_KEY = (1 << 48) - 1
_ADDRESS = np.dtype([("family", "u2"), ("port", ">u2"), ("ip", ">u4"), ("zero", "u8")])


def open_socket(address: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket.

    Raises:
        MediaError: the port is taken, or the address isn't this machine's.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    # Fits any path, so no router need cut it, and the kernel need not number the pieces.
    sock.setsockopt(socket.IPPROTO_IP, _MTU_DISCOVER, _DONT_FRAGMENT)
    sock.setblocking(False)
    try:
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            cure = "stop what uses it (`ss -lunp` shows it), or set another [media] port"
            raise MediaError(f"UDP port {port} on {address} is in use: {cure}") from error
        raise MediaError(
            f"can't bind UDP {address}:{port}: {error.strerror}; "
            "set [media] listen_address to an address of this machine"
        ) from error
    return sock


def ip_number(address: str) -> int:
    """An IPv4 address as a number. Raises `OSError` if it isn't one."""
    return int.from_bytes(socket.inet_aton(address), "big")


def key(ip: NDArray[np.integer], port: NDArray[np.integer]) -> NDArray[np.int64]:
    """One number an address, to look calls up by."""
    return port.astype(np.int64) << 32 | ip.astype(np.int64)


class Link:
    """Batches in and out of one socket, through recvmmsg and sendmmsg."""

    def __init__(self, sock: socket.socket, calls: int, room_out: int) -> None:
        """Receive into `buffer`; send rows of `out` (calls, room_out)."""
        self.socket = sock
        self.errors = 0
        self._fd = sock.fileno()
        # Rows apart by more than a power of two: else they'd all fall into the same cache lines.
        self.buffer = np.zeros((BATCH, ROOM + 64), np.uint8)[:, :ROOM]
        self._from = np.zeros(BATCH, _ADDRESS)
        self._in, self._vectors_in = _messages(self.buffer)
        self._in["name"] = _pointer(self._from) + np.arange(BATCH) * _ADDRESS.itemsize
        self._in["namelen"] = _ADDRESS.itemsize  # and of every datagram's that comes (IPv4)
        # Family, port and address as one big-endian number: `key`, below the family.
        self._sender = np.ndarray((BATCH,), ">i8", self._from, strides=(_ADDRESS.itemsize,))
        self.out = np.zeros((calls, room_out), np.uint8)
        self._to = np.zeros(calls, _ADDRESS)
        self._to["family"] = socket.AF_INET
        self._messages, self._vectors = _messages(self.out)
        self._messages["namelen"] = _ADDRESS.itemsize
        self._to_at = _pointer(self._to) + np.arange(calls) * _ADDRESS.itemsize
        library = ctypes.CDLL(None, use_errno=True)
        self._recvmmsg, self._sendmmsg = library.recvmmsg, library.sendmmsg
        self._in_at = ctypes.c_void_p(_pointer(self._in))
        self._out_at = _pointer(self._messages)
        self._length = self._in["length"]  # MSG_TRUNC: as it came, however little of it fitted

    def set_remote(self, call: int, ip: int, port: int) -> None:
        """Where a call's packets go."""
        self._to["ip"][call], self._to["port"][call] = ip, port

    def receive(self) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """Take up to `BATCH` datagrams into `buffer`.

        Returns:
            How many; their lengths (more than `ROOM` if cut off); their senders as `key`.
        """
        n = self._recvmmsg(self._fd, self._in_at, BATCH, _MSG_DONTWAIT | _MSG_TRUNC, None)
        if n <= 0:
            if n < 0 and ctypes.get_errno() not in _AGAIN:
                self.errors += 1
            n = 0
        return n, self._length[:n].astype(np.int64), self._sender[:n] & _KEY

    def send(self, calls: NDArray[np.intp], length: NDArray[np.integer] | int) -> int:
        """Send rows 0 ... k-1 of `out`, `length` bytes each, one to each of `calls`.

        Returns:
            How many left; the rest met a full socket buffer or an error.
        """
        k = len(calls)
        self._messages["name"][:k] = self._to_at[calls]
        self._vectors["length"][:k] = length
        at = left = 0
        while at < k:
            start = ctypes.c_void_p(self._out_at + at * _MESSAGE.itemsize)
            n = self._sendmmsg(self._fd, start, k - at, _MSG_DONTWAIT)
            if n > 0:
                at, left = at + n, left + n
                continue
            self.errors += 1
            if ctypes.get_errno() in _AGAIN:
                break
            at += 1  # the error is this datagram's
        return left


class Portable:
    """The same with one system call a datagram."""

    def __init__(self, sock: socket.socket, calls: int, room_out: int) -> None:
        """See `Link`."""
        self.socket, self.errors = sock, 0
        self.buffer = np.zeros((BATCH, ROOM), np.uint8)
        self.out = np.zeros((calls, room_out), np.uint8)
        self._remote: dict[int, tuple[str, int]] = {}
        self._spare = bytearray(65536)

    def set_remote(self, call: int, ip: int, port: int) -> None:
        """See `Link`."""
        self._remote[call] = (socket.inet_ntoa(struct.pack(">I", ip)), port)

    def receive(self) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """See `Link`."""
        lengths: list[int] = []
        senders: list[int] = []
        for _ in range(BATCH):  # errors count too: one that stays must not keep us here
            try:
                n, sender = self.socket.recvfrom_into(self._spare)
            except BlockingIOError:
                break
            except OSError:
                self.errors += 1
                continue
            kept = min(n, ROOM)
            self.buffer[len(lengths), :kept] = np.frombuffer(self._spare, np.uint8, kept)
            lengths.append(n)
            senders.append(sender[1] << 32 | ip_number(sender[0]))
        return len(lengths), np.array(lengths, np.int64), np.array(senders, np.int64)

    def send(self, calls: NDArray[np.intp], length: NDArray[np.integer] | int) -> int:
        """See `Link`."""
        left = 0
        for row, (call, size) in enumerate(
            zip(calls, np.broadcast_to(length, len(calls)), strict=True)
        ):
            try:
                self.socket.sendto(self.out[row, :size].tobytes(), self._remote[int(call)])
                left += 1
            except OSError:
                self.errors += 1
        return left


def make_link(sock: socket.socket, calls: int, room_out: int) -> Link | Portable:
    """The fastest that this machine has."""
    library = ctypes.CDLL(None)
    if hasattr(library, "recvmmsg") and ctypes.sizeof(ctypes.c_void_p) == 8:
        return Link(sock, calls, room_out)
    return Portable(sock, calls, room_out)


def _pointer(array: NDArray[np.generic]) -> int:
    return int(array.ctypes.data)


def _messages(buffer: NDArray[np.uint8]) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Message and vector structures over the rows of a buffer."""
    n, room = buffer.shape
    vectors = np.zeros(n, _VECTOR)
    vectors["base"] = _pointer(buffer) + np.arange(n) * buffer.strides[0]
    vectors["length"] = room
    messages = np.zeros(n, _MESSAGE)
    messages["iov"] = _pointer(vectors) + np.arange(n) * _VECTOR.itemsize
    messages["iovlen"] = 1
    return messages, vectors
