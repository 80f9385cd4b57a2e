"""What a vendor's audio is made of: G.711 or PCM16, at rates that may be other than the line's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bridge.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from bridge.engines.base import Pcm
from bridge.engines.rates import RateStream

_PCM = np.dtype("<i2")
_LAWS: dict[str, tuple[Callable[[Pcm], NDArray[np.uint8]], Callable[[NDArray[np.uint8]], Pcm]]] = {
    "pcmu": (encode_ulaw, decode_ulaw),
    "pcma": (encode_alaw, decode_alaw),
}


class Codec:
    """One connection's audio, both ways."""

    def __init__(self, name: Literal["pcmu", "pcma", "pcm"], line: int, up: int, down: int) -> None:
        """`line` is the engine's rate, `up` and `down` are the vendor's, Hz."""
        self._law = _LAWS.get(name)
        self._up = RateStream(line, up) if line != up else None
        self._rates = (down, line) if line != down else None
        self._down: RateStream | None = None
        self._item: str | None = None
        self._half = b""

    def encode(self, pcm: Pcm) -> bytes:
        """Caller audio; less than a block of the resampler's waits for more."""
        if self._up is not None:
            pcm = self._up.take(pcm)
        if self._law is not None:
            return self._law[0](pcm).tobytes()
        return pcm.astype(_PCM, copy=False).tobytes()

    def decode(self, data: bytes, item: str) -> Pcm:
        """More of the vendor's item, cut anywhere (within a sample, too)."""
        if item != self._item:
            self._item, self._half = item, b""
            self._down = RateStream(*self._rates) if self._rates else None
        if self._law is not None:
            pcm = self._law[1](np.frombuffer(data, np.uint8))
        else:
            data = self._half + data
            whole = len(data) & ~1
            self._half = data[whole:]
            pcm = np.frombuffer(data[:whole], _PCM).astype(np.int16, copy=False)
        return self._down.take(pcm) if self._down is not None else pcm
