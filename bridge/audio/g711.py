"""PCMU and PCMA (ITU-T G.711), bit-exact with the ITU's own vectors.

Both laws are pure functions of one sample, so each is two tables: 65,536 codes for the encoder and
256 values for the decoder, built once from the definition. The oracles differ in the encoder: ITU
takes the magnitude of a negative sample by one's complement (`~x`), others by `-x`, which moves 127
to 992 of the 65,536 codes; this is ITU's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ULAW_SILENCE = 0xFF
ALAW_SILENCE = 0xD5

_ALL = np.arange(-32768, 32768, dtype=np.int32)
_BIAS = 33  # G.711 table 2: decision values of 14-bit magnitudes are shifted by this
_CLIP = 0x1FFF


def _exponent(magnitude: NDArray[np.int32]) -> NDArray[np.int32]:
    """Index of the highest bit set; 0 for 0 and 1."""
    _, exponent = np.frexp(np.maximum(magnitude, 1).astype(np.float64))
    return exponent.astype(np.int32) - 1


def _by_pattern(codes: NDArray[np.int32]) -> NDArray[np.uint8]:
    """From the order -32768 ... 32767 to that of the samples' bit patterns, 0 ... 0xFFFF."""
    return np.roll(codes, 32768).astype(np.uint8)


def _ulaw_encoder() -> NDArray[np.uint8]:
    magnitude = np.minimum((np.where(_ALL < 0, ~_ALL, _ALL) >> 2) + _BIAS, _CLIP)
    segment = _exponent(magnitude) - 5
    mantissa = (magnitude >> (segment + 1)) & 0xF
    sign = np.where(_ALL < 0, 0x80, 0)
    return _by_pattern(0xFF ^ (sign | segment << 4 | mantissa))


def _alaw_encoder() -> NDArray[np.uint8]:
    magnitude = np.where(_ALL < 0, ~_ALL, _ALL) >> 4
    segment = np.maximum(_exponent(magnitude) - 3, 0)
    mantissa = (magnitude >> np.maximum(segment - 1, 0)) & 0xF
    sign = np.where(_ALL < 0, 0, 0x80)
    return _by_pattern((sign | segment << 4 | mantissa) ^ 0x55)


def _ulaw_decoder() -> NDArray[np.int16]:
    code = np.arange(256) ^ 0xFF
    magnitude = ((((code & 0xF) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_decoder() -> NDArray[np.int16]:
    code = np.arange(256) ^ 0x55
    segment = (code >> 4) & 7
    low = ((code & 0xF) << 4) + 8
    magnitude = np.where(segment > 0, (low + 0x100) << np.maximum(segment - 1, 0), low)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


_ULAW_OF, _ALAW_OF = _ulaw_encoder(), _alaw_encoder()
_ULAW_TO, _ALAW_TO = _ulaw_decoder(), _alaw_decoder()


def encode_ulaw(pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
    """PCMU of int16 samples; same shape."""
    return _ULAW_OF.take(pcm.view(np.uint16))


def decode_ulaw(payload: NDArray[np.uint8]) -> NDArray[np.int16]:
    """int16 samples of PCMU; same shape."""
    return _ULAW_TO.take(payload)


def encode_alaw(pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
    """PCMA of int16 samples; same shape."""
    return _ALAW_OF.take(pcm.view(np.uint16))


def decode_alaw(payload: NDArray[np.uint8]) -> NDArray[np.int16]:
    """int16 samples of PCMA; same shape."""
    return _ALAW_TO.take(payload)
