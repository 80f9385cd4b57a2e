"""Opus (RFC 6716, RFC 7587), by libopus through ctypes.

The library is the system's (`libopus.so.0`, Debian's libopus0, which gets its security updates),
else the one that the extra `opus` carries. The few functions used have been the same since 1.0.
Decoded at 16 kHz, mono: libopus does both itself, whatever was sent. Its RTP clock is always 48000
Hz (RFC 7587 4.1). Packets say themselves how long they are, in their first byte or two.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from ctypes import byref, c_int, c_int32, c_void_p
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16000
BIT_RATE = 32000
"""Of our encoder; a constant rate, so that packets have one size."""
_MOST_SAMPLES = 120 * SAMPLE_RATE // 1000  # RFC 6716 2.1.4: no packet is longer
_CONCEALED_STEP = SAMPLE_RATE // 400
_VOIP = 2048
_SET_BITRATE, _SET_VBR, _SET_COMPLEXITY = 4002, 4006, 4010
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


def spans(head: NDArray[np.uint8], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Samples at 16 kHz that packets stand for; 0 for what is no Opus packet.

    Args:
        head: (k, 2) their first two bytes; the second counts only where there is one.
        size: (k,) bytes.
    """
    first, second = head[:, 0].astype(np.int64), head[:, 1].astype(np.int64)
    frames = np.array([1, 2, 2, 0])[first & 3]
    frames = np.where(first & 3 == 3, np.where(size > 1, second & 0x3F, 0), frames)
    samples: NDArray[np.int64] = _FRAME_US[first >> 3] * frames * SAMPLE_RATE // 1_000_000
    samples[(samples > _MOST_SAMPLES) | (size < 1)] = 0
    return samples


class OpusCoder:
    """Decoders and encoders of all calls."""

    def __init__(self) -> None:
        """Nothing is made before its first frame."""
        self._decoders: dict[int, _State] = {}
        self._encoders: dict[int, _State] = {}

    def decode(
        self, calls: NDArray[np.intp], payload: NDArray[np.uint8], size: NDArray[np.int64]
    ) -> NDArray[np.int16]:
        """The next packets of calls, all of one length in time (see `spans`).

        Args:
            calls: (k,), each at most once.
            payload: (k, width) bytes, C-contiguous; what lies beyond a packet may be anything.
            size: (k,) bytes of each.

        Returns:
            (k, samples) int16 at 16 kHz; what libopus can't read is concealed.
        """
        head = np.zeros((1, 2), np.uint8)
        head[0, : payload.shape[1]] = payload[0, :2]
        samples = int(spans(head, size[:1])[0])
        out = np.zeros((len(calls), samples), np.int16)
        at, into = payload.ctypes.data, out.ctypes.data
        for row, (call, n) in enumerate(zip(calls.tolist(), size.tolist(), strict=True)):
            decoder = self._decoders.get(call)
            if decoder is None:
                decoder = self._decoders[call] = _decoder()
            packet, pcm = at + row * payload.strides[0], into + row * 2 * samples
            if _lib().opus_decode(decoder.state, packet, n, pcm, samples, 0) < 0:
                _lib().opus_decode(decoder.state, None, 0, pcm, samples, 0)
        return out

    def conceal(self, calls: NDArray[np.intp], samples: int) -> NDArray[np.int16] | None:
        """Made up by each call's decoder, which so goes on smoothly with what comes after.

        Args:
            calls: (k,), each at most once.
            samples: how many at 16 kHz.

        Returns:
            (k, samples) int16 at 16 kHz, silence for a call that nothing came from yet; None where
            `samples` is no length that libopus conceals: whole numbers of 2.5 ms, at most 120 ms.
        """
        if samples % _CONCEALED_STEP or samples > _MOST_SAMPLES:
            return None
        out = np.zeros((len(calls), samples), np.int16)
        for row, call in enumerate(calls.tolist()):
            if (decoder := self._decoders.get(call)) is not None:
                pcm = out.ctypes.data + row * 2 * samples
                _lib().opus_decode(decoder.state, None, 0, pcm, samples, 0)
        return out

    def encode(self, calls: NDArray[np.intp], pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
        """The next frames of calls, (k, samples) int16 at 16 kHz, as (k, bytes)."""
        samples = pcm.shape[1]
        size = BIT_RATE * samples // SAMPLE_RATE // 8
        pcm = np.ascontiguousarray(pcm)
        out = np.zeros((len(calls), size), np.uint8)
        for row, call in enumerate(calls.tolist()):
            encoder = self._encoders.get(call)
            if encoder is None:
                encoder = self._encoders[call] = _encoder()
            source, into = pcm.ctypes.data + row * 2 * samples, out.ctypes.data + row * size
            done = _lib().opus_encode(encoder.state, source, samples, into, size)
            if done != size:
                raise ValueError(f"libopus takes no frames of {samples} samples (said {done})")
        return out

    def reset(self, call: int) -> None:
        """A stream begins or has ended: forget what came before."""
        self._decoders.pop(call, None)
        self._encoders.pop(call, None)


class _State:
    """One coder of libopus, freed with this object."""

    def __init__(self, state: int, free: Callable[[c_void_p], None]) -> None:
        self.state, self._free = c_void_p(state), free

    def __del__(self) -> None:
        self._free(self.state)


def _lib() -> ctypes.CDLL:
    library = _library()
    assert library is not None, missing()
    return library


def _decoder() -> _State:
    failed = c_int()
    state = _lib().opus_decoder_create(SAMPLE_RATE, 1, byref(failed))
    if not state:
        raise MemoryError(f"libopus made no decoder ({failed.value})")
    return _State(state, _lib().opus_decoder_destroy)


def _encoder() -> _State:
    failed = c_int()
    state = _lib().opus_encoder_create(SAMPLE_RATE, 1, _VOIP, byref(failed))
    if not state:
        raise MemoryError(f"libopus made no encoder ({failed.value})")
    made = _State(state, _lib().opus_encoder_destroy)
    for request, value in ((_SET_BITRATE, BIT_RATE), (_SET_VBR, 0), (_SET_COMPLEXITY, _COMPLEXITY)):
        _lib().opus_encoder_ctl(made.state, request, c_int32(value))
    return made
