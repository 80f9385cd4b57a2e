"""The table, and that each row's functions do what the row says."""

import numpy as np
import pytest

from bridge.audio import l16
from bridge.audio.codecs import BY_NUMBER, CODECS
from bridge.media.slots import DOWN_RATES, UP_RATES

ASTERISK_TAKES_BACK = {0, 8, 9, 10}


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
def test_a_row_is_sound(codec):
    assert BY_NUMBER[codec.number] is codec
    down = CODECS[codec.down or codec.name]
    assert down.payload_type in ASTERISK_TAKES_BACK
    assert min(codec.sample_rate, 16000) == down.sample_rate, "as wide down as up, if it can be"
    assert codec.sample_rate // 1000 in UP_RATES
    assert down.sample_rate // 1000 in DOWN_RATES


def test_numbers_are_never_given_to_another():
    # They stand in the shared map, which two versions of the program may read.
    pinned = {"PCMU": 1, "PCMA": 2, "L16": 3, "G722": 4, "L16/16000": 5, "L16/24000": 6, "OPUS": 7}
    assert {name: codec.number for name, codec in CODECS.items()} == pinned


def test_l16_is_big_endian():
    pcm = np.array([[1, -2, 256]], np.int16)
    assert l16.encode(pcm).tobytes() == b"\x00\x01\xff\xfe\x01\x00"
    assert (l16.decode(l16.encode(pcm)) == pcm).all()
    assert l16.decode(np.array([[0, 1, 9]], np.uint8)).tolist() == [[1]], "an odd byte is cut off"
