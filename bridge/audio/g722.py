"""G.722 at 64 kbit/s (ITU-T G.722), by the package `G722`, bit-exact with the ITU's vectors.

Sub-band ADPCM: 16 kHz samples in, 8 bits a pair of them out, and both ends adapt to what went
before. So every call has a coder of its own each way, made when it is first used and forgotten by
`reset`. A decoder that missed packets, or comes anew into a stream (a restarted process), needs
nothing but the stream itself: its step sizes leak towards the encoder's.

RFC 3551 4.5.2: the RTP clock is 8000 Hz although the audio is sampled at 16000, by an error of
history; one octet a clock unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from G722 import G722
except ImportError:  # said by `missing`, once for all
    G722 = None

SAMPLE_RATE = 16000
_BIT_RATE = 64000


def missing() -> str:
    """Why it can't be used, with the cure; empty if it can."""
    if G722 is None:
        return "G.722 needs the package G722: pip install G722"
    return ""


class G722Coder:
    """Decoders and encoders of all calls."""

    def __init__(self) -> None:
        """Nothing is made before its first frame."""
        self._decoders: dict[int, Any] = {}
        self._encoders: dict[int, Any] = {}

    def decode(
        self, calls: NDArray[np.intp], payload: NDArray[np.uint8], size: NDArray[np.int64]
    ) -> NDArray[np.int16]:
        """The next packets of calls, all of one size.

        Args:
            calls: (k,), each at most once.
            payload: (k, n) bytes.
            size: (k,), all n.

        Returns:
            (k, 2 n) int16 at 16 kHz.
        """
        out = np.empty((len(calls), 2 * payload.shape[1]), np.int16)
        for row, call in enumerate(calls.tolist()):
            decoder = self._decoders.get(call)
            if decoder is None:
                decoder = self._decoders[call] = G722(SAMPLE_RATE, _BIT_RATE)
            out[row] = decoder.decode(payload[row].tobytes())
        return out

    def encode(self, calls: NDArray[np.intp], pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
        """The next frames of calls, (k, 2 n) int16 at 16 kHz, as (k, n) bytes."""
        out = np.empty((len(calls), pcm.shape[1] // 2), np.uint8)
        for row, call in enumerate(calls.tolist()):
            encoder = self._encoders.get(call)
            if encoder is None:
                encoder = self._encoders[call] = G722(SAMPLE_RATE, _BIT_RATE)
            out[row] = np.frombuffer(encoder.encode(pcm[row]), np.uint8)
        return out

    def conceal(self, calls: NDArray[np.intp], samples: int) -> None:
        """Nothing of its own."""
        return

    def reset(self, call: int) -> None:
        """A stream begins or has ended: forget what came before."""
        self._decoders.pop(call, None)
        self._encoders.pop(call, None)
