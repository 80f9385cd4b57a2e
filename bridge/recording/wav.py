"""A WAV file that is whole at every moment: 16 bits, two channels, written at positions.

Where nothing was written the file has a hole, which reads as silence and takes no space. Sizes in
the header follow the data, so a player takes the file as it is while the call goes on, and a writer
that dies leaves one that can be played. Beyond 4 GB (37 hours at 8 kHz) the sizes stay at their
highest, which players take for "to the end of the file".
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

HEADER = 44
CHANNELS, WIDTH = 2, 2
PAIR = CHANNELS * WIDTH
"""Bytes of one sample of both channels."""
_MOST = 0xFFFFFFFF


def header(rate: int, data_bytes: int) -> bytes:
    """The first 44 bytes (RIFF, Multimedia Programming Interface 1.0, chapter 3)."""
    riff, data = min(data_bytes + HEADER - 8, _MOST), min(data_bytes, _MOST)
    about = struct.pack("<HHIIHH", 1, CHANNELS, rate, rate * PAIR, PAIR, 8 * WIDTH)
    return b"".join(
        (
            struct.pack("<4sI4s", b"RIFF", riff, b"WAVE"),
            struct.pack("<4sI", b"fmt ", len(about)),
            about,
            struct.pack("<4sI", b"data", data),
        )
    )


def rate_of(head: bytes) -> int:
    """The sample rate in such a header. Raises `ValueError` if it is none of ours."""
    if len(head) < HEADER or head[:4] != b"RIFF" or head[36:40] != b"data":
        raise ValueError("not a WAV file of ours")
    rate: int = struct.unpack_from("<I", head, 24)[0]
    return rate


class WavFile:
    """One file, open for writing."""

    def __init__(self, path: Path, rate: int) -> None:
        """Make it, or go on with one that is there. Raises `OSError`, `ValueError`."""
        self.rate = rate
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(self._fd).st_size
            if size >= HEADER:
                if rate_of(os.pread(self._fd, HEADER, 0)) != rate:
                    raise ValueError(f"{path} is of another sample rate")
            else:
                size = HEADER
            self._bytes = size - HEADER
            self._note()
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def pairs(self) -> int:
        """How long it is, samples of both channels."""
        return self._bytes // PAIR

    def write(self, at: int, data: bytes) -> None:
        """Put interleaved samples at that position. Raises `OSError`."""
        view = memoryview(data)
        while view:
            view = view[os.pwrite(self._fd, view, HEADER + at * PAIR + len(data) - len(view)) :]
        self._bytes = max(self._bytes, at * PAIR + len(data))
        self._note()

    def close(self, pairs: int) -> None:
        """That long it is, silence at its end included. Raises `OSError`."""
        try:
            if pairs * PAIR > self._bytes:
                self._bytes = pairs * PAIR
                os.ftruncate(self._fd, HEADER + self._bytes)
                self._note()
        finally:
            os.close(self._fd)

    def _note(self) -> None:
        os.pwrite(self._fd, header(self.rate, self._bytes), 0)
