"""What a phone sent and received in any codec, at 16 kHz, from its capture.

Decoded by the codecs' own libraries (G722, and libopus by its other binding), so that the judge
inherits nothing from what it judges. Packets are joined as they came: a phone that plays them one
after the other plays this.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import opuslib_next
from G722 import G722

from tests.lab.capture import TABLES, Pcm, RtpPacket
from tests.lab.speech import resample

RATE = 16000
_G722, _L16, _TELEPHONE_EVENT = 9, 10, 101
_DYNAMIC = 96  # the phones' Opus
_LONGEST = 120 * RATE // 1000


def sound(packets: Sequence[RtpPacket], *, sent: bool) -> Pcm:
    """One direction as 16 kHz samples."""
    ours = [p for p in packets if p.sent == sent and p.pt != _TELEPHONE_EVENT]
    [(kind, _)] = Counter(p.pt for p in ours).most_common(1)
    decode = _decoder(kind)
    return np.concatenate([decode(p.payload) for p in ours if p.pt == kind])


def numbers(packets: Sequence[RtpPacket]) -> list[int]:
    """Sequence numbers of what was received."""
    return [p.seq for p in packets if not p.sent and p.pt != _TELEPHONE_EVENT]


def _decoder(kind: int) -> Callable[[bytes], Pcm]:
    if kind in TABLES:
        return lambda b: resample(TABLES[kind][np.frombuffer(b, np.uint8)], 8000, RATE)
    if kind == _G722:
        g722 = G722(RATE, 64000)
        return lambda b: np.array(g722.decode(b), np.int16)
    if kind == _L16:
        return lambda b: resample(np.frombuffer(b, ">i2").astype(np.int16), 8000, RATE)
    assert kind >= _DYNAMIC, f"payload type {kind}"
    opus = opuslib_next.Decoder(RATE, 1)
    return lambda b: np.frombuffer(opus.decode(b, _LONGEST), "<i2")
