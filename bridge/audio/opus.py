"""Opus (RFC 6716, RFC 7587), by libopus through ctypes.

The library is the system's (`libopus.so.0`, Debian's libopus0, which gets its security updates), else
the one that the extra `opus` carries. Only six of its functions are used, and they have been the
same since 1.0. Decoded at 16 kHz, mono: libopus does both itself, whatever was sent. Its RTP clock
is always 48000 Hz (RFC 7587 4.1). Packets say themselves how long they are, in their first byte or two.
"""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes import POINTER, byref, c_int, c_int16, c_int32, c_ubyte, c_void_p
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16000
BIT_RATE = 32000
"""Of our encoder; a constant rate, so that packets have one size."""
FRAME_MS = 20
_MOST_SAMPLES = 120 * SAMPLE_RATE // 1000  # RFC 6716 2.1.4: no packet is longer
_VOIP = 2048
_RESET_STATE, _SET_BITRATE, _SET_VBR, _SET_COMPLEXITY = 4028, 4002, 4006, 4010
_COMPLEXITY = 5

# RFC 6716 table 2: microseconds of a frame, by the upper five bits of the first byte.
_FRAME_US = np.array(
    [10000, 20000, 40000, 60000] * 3 + [10000, 20000] * 2 + [2500, 5000, 10000, 20000] * 4, np.int64
)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    names = ["libopus.so.0"]
    package = importlib.util.find_spec("opuslib_next")
    if package is not None and package.origin:
        names.append(str(Path(package.origin).parent / "_native" / "libopus.so"))
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        for maker in (library.opus_decoder_create, library.opus_encoder_create):
            maker.restype = c_void_p
        for function in ("decode", "encode", "decoder_ctl", "encoder_ctl"):
            getattr(library, f"opus_{function}").restype = c_int
        for end in (library.opus_decoder_destroy, library.opus_encoder_destroy):
            end.argtypes, end.restype = [c_void_p], None
        library.opus_decode.argtypes = [c_void_p, c_void_p, c_int32, c_void_p, c_int, c_int]
        library.opus_encode.argtypes = [c_void_p, c_void_p, c_int, c_void_p, c_int32]
        return library
    return None


def missing() -> str:
    """Why it can't be used, with the cure; empty if it can."""
    if _library() is None:
        return "Opus needs libopus: apt install libopus0, or pip install 'ari-bridge[opus]'"
    return ""
