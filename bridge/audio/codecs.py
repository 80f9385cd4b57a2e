"""The table of codecs: one row each. Adding one is one file and one row here.

`payload_type` is what Asterisk puts on its external media (tried on 22.10). Whatever was asked for,
it takes back static payload types only: 0, 8, 9, and 10, which it reads as L16 at 8 kHz. So a codec
that it would not take back names in `down` what goes the other way: who comes up wide-band goes
down as G.722.

Codecs that remember a stream (G.722, Opus) have a coder for each call; the others a function for
all.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.audio import g711, g722, l16, opus


class Coder(Protocol):
    """A codec at work, for many calls at once."""

    def decode(
        self, calls: NDArray[np.intp], payload: NDArray[np.uint8], size: NDArray[np.int64]
    ) -> NDArray[np.int16]:
        """The next packets, one a call, (k, width) bytes, of which `size` (k,) are theirs.

        All stand for the same number of samples (`Codec.samples`); so many come out, (k, samples).
        """

    def encode(self, calls: NDArray[np.intp], pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
        """The next frames, one a call: (k, samples) int16 → (k, bytes)."""

    def conceal(self, calls: NDArray[np.intp], samples: int) -> NDArray[np.int16] | None:
        """What a lost packet may have been, (k, samples); None: it can't tell, others have to."""

    def reset(self, call: int) -> None:
        """A stream begins or has ended: forget what came before."""


class _Stateless:
    def __init__(
        self,
        decode: Callable[[NDArray[np.uint8]], NDArray[np.int16]],
        encode: Callable[[NDArray[np.int16]], NDArray[np.uint8]],
    ) -> None:
        self._decode, self._encode = decode, encode

    def decode(
        self, calls: NDArray[np.intp], payload: NDArray[np.uint8], size: NDArray[np.int64]
    ) -> NDArray[np.int16]:
        return self._decode(payload)

    def encode(self, calls: NDArray[np.intp], pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
        return self._encode(pcm)

    def conceal(self, calls: NDArray[np.intp], samples: int) -> None:
        return None

    def reset(self, call: int) -> None:
        pass


def _nothing_missing() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Codec:
    """What the plane must know of a codec."""

    name: str
    number: int
    """Its number in the shared map: never given to another."""
    payload_type: int
    sample_rate: int
    """Hz, of the PCM that it stands for."""
    clock_rate: int
    """Hz, of its RTP timestamps."""
    bytes_per_ms: int
    """0: its packets vary, and say themselves how long they are (`spans`)."""
    make: Callable[[], Coder]
    """A coder for any number of calls; only where `missing` says nothing."""
    down: str = ""
    """Codec of the other direction, if not itself."""
    spans: Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.int64]] | None = None
    """(k, 2) first bytes and (k,) sizes → (k,) samples."""
    missing: Callable[[], str] = _nothing_missing
    """Why it can't be used here, in a line with the cure; empty if it can."""
    impairment: float = 0.0
    """Ie of the E-model: what the codec by itself takes from the rating."""
    robustness: float = 25.1
    """Bpl of the E-model: how well losses are hidden. ITU-T G.113 Appendix I gives 25.1 for G.711
    with the concealment of its Appendix I. All others are concealed in the same manner, or by
    libopus: that they do as well is an assumption."""


_G711U = partial(_Stateless, g711.decode_ulaw, g711.encode_ulaw)
_G711A = partial(_Stateless, g711.decode_alaw, g711.encode_alaw)
_L16 = partial(_Stateless, l16.decode, l16.encode)
_OPUS = opus.OpusCoder

CODECS: dict[str, Codec] = {
    c.name: c
    for c in (
        Codec("PCMU", 1, 0, 8000, 8000, 8, _G711U),
        Codec("PCMA", 2, 8, 8000, 8000, 8, _G711A),
        Codec("L16", 3, 10, 8000, 8000, 16, _L16),
        # Ie by G.113 Appendix IV: 13 at 64 kbit/s. Nobody gives one for Opus; we assume G.722's.
        Codec("G722", 4, 9, 16000, 8000, 8, g722.G722Coder, "", None, g722.missing, 13.0),
        Codec("L16/16000", 5, 118, 16000, 16000, 32, _L16, "G722"),
        Codec("L16/24000", 6, 123, 24000, 24000, 48, _L16, "G722"),
        Codec("OPUS", 7, 107, 16000, 48000, 0, _OPUS, "G722", opus.spans, opus.missing, 13.0),
    )
}
BY_NUMBER: dict[int, Codec] = {c.number: c for c in CODECS.values()}


def down(codec: Codec) -> Codec:
    """What goes the other way."""
    return CODECS[codec.down or codec.name]


def missing(name: str) -> str:
    """Why a codec can't be used here, both ways, in a line with the cure; empty if it can."""
    codec = CODECS[name]
    return codec.missing() or down(codec).missing()


def missing_libraries() -> list[str]:
    """What is missing here, a line each with the cure."""
    return sorted({why for codec in CODECS.values() if (why := codec.missing())})


def usable() -> AbstractSet[str]:
    """Names of the codecs that can be used here."""
    return frozenset(name for name in CODECS if not missing(name))
