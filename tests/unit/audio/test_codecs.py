"""The table, and that each row's functions do what the row says."""

import numpy as np
import pytest

from bridge.audio import g722, l16
from bridge.audio.codecs import BY_NUMBER, CODECS, missing, missing_libraries, usable
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


def test_what_is_missing_says_so_and_what_goes_down_with_it(monkeypatch):
    assert usable() == set(CODECS)
    assert missing_libraries() == []
    monkeypatch.setattr(g722, "G722", None)
    assert "pip install G722" in missing("G722")
    assert missing("L16/16000") == missing("OPUS") == missing("G722"), "they go down as G.722"
    assert usable() == {"PCMU", "PCMA", "L16"}
    assert missing_libraries() == [missing("G722")]


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
def test_what_is_encoded_is_decoded(codec):
    rate, calls = codec.sample_rate, np.array([2, 5])
    t = np.arange(rate) / rate
    tones = [np.rint(8000 * np.sin(2 * np.pi * hz * t)).astype(np.int16) for hz in (440, 880)]
    coder, out = codec.make(), []
    for frame in np.stack(tones).reshape(2, -1, rate // 50).swapaxes(0, 1):
        payload = coder.encode(calls, frame)
        size = np.full(2, payload.shape[1])
        if codec.spans is None:
            assert payload.shape[1] == 20 * codec.bytes_per_ms
        else:
            assert (codec.spans(payload[:, :2], size) == rate // 50).all()
        out.append(coder.decode(calls, payload, size))
    for pcm, hz in zip(np.concatenate(out, axis=1), (440, 880), strict=True):
        power = np.abs(np.fft.rfft(pcm[rate // 2 :] * np.hanning(rate // 2))) ** 2
        assert abs(2 * int(power.argmax()) - hz) <= 2
        assert 20 * np.log10(pcm[rate // 2 :].std() * np.sqrt(2) / 8000) == pytest.approx(0, abs=1)
