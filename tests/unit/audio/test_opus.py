"""Opus: lengths are read off the packets, loss is concealed, nothing that comes makes it raise."""

import ctypes

import numpy as np
import opuslib_next
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.audio import opus
from bridge.audio.opus import OpusCoder, spans

ONE = np.zeros(1, np.intp)
MS = 16


def tone(hz, seconds=1.0, level=8000):
    t = np.arange(int(16000 * seconds)) / 16000
    return np.rint(level * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def packets(pcm, call=0, coder=None):
    coder = coder or OpusCoder()
    return [coder.encode(np.array([call]), frame[None]) for frame in pcm.reshape(-1, 320)]


def decode(coder, packet, call=0):
    return coder.decode(np.array([call]), packet, np.array([packet.shape[1]]))[0]


def share_db(pcm, hz):
    """A tone's power beside all the rest."""
    power = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)))) ** 2
    at = round(hz * len(pcm) / 16000)
    own = power[at - 5 : at + 6].sum()
    return 10 * np.log10(own / (power.sum() - own))


@pytest.mark.parametrize("hz", [300, 1000, 3400, 5000, 7000])
def test_it_is_wide(hz):
    coder = OpusCoder()
    out = np.concatenate([decode(coder, p) for p in packets(tone(hz))])
    assert len(out) == 16000
    assert share_db(out[4000:], hz) > 20
    assert abs(20 * np.log10(out[4000:].std() / tone(hz).std())) < 1


@pytest.mark.parametrize("ms", [2.5, 5, 10, 20, 40, 60])
@pytest.mark.parametrize("channels", [1, 2])
def test_lengths_as_another_encoder_writes_them(ms, channels):
    """What a phone sends: 48 kHz, often stereo; 16 kHz mono comes out."""
    encoder = opuslib_next.Encoder(48000, channels, opuslib_next.APPLICATION_VOIP)
    n = int(48 * ms)
    pcm = np.repeat(np.rint(9000 * np.sin(np.arange(n) / 8)).astype("<i2"), channels)
    data = np.frombuffer(encoder.encode(pcm.tobytes(), n), np.uint8)[None]
    assert spans(data[:, :2], np.array([data.shape[1]])) == ms * MS
    assert len(decode(OpusCoder(), data)) == ms * MS


# RFC 6716 3.1 and 3.2: SILK 20 ms; CELT 2.5 ms twice; three frames of 20 ms; no count; 140 ms.
@pytest.mark.parametrize(
    ("head", "size", "ms"),
    [
        ((0x08, 0), 30, 20),
        ((0x81, 0), 30, 5),
        ((0x0B, 0x03), 30, 60),
        ((0x0B, 0x03), 1, 0),
        ((0x0B, 0x07), 30, 0),
        ((0x08, 0), 0, 0),
    ],
)
def test_spans(head, size, ms):
    assert spans(np.array([head], np.uint8), np.array([size])) == ms * MS


@given(st.binary(min_size=1, max_size=60))
def test_no_bytes_make_it_raise(data):
    payload = np.frombuffer(data, np.uint8)[None]
    head = np.zeros((1, 2), np.uint8)
    head[0, : min(2, len(data))] = payload[0, :2]
    [samples] = spans(head, np.array([len(data)]))
    out = OpusCoder().decode(ONE, payload, np.array([len(data)]))
    assert out.shape == (1, samples)


def test_rows_of_different_sizes_are_one_batch():
    long = packets(tone(500), 0)[10]
    encoder = opuslib_next.Encoder(16000, 1, opuslib_next.APPLICATION_VOIP)
    quiet = encoder.encode(np.zeros(320, "<i2").tobytes(), 320)
    both = np.full((2, long.shape[1]), 0xAA, np.uint8)  # beyond the short one: anything
    both[0] = long
    both[1, : len(quiet)] = np.frombuffer(quiet, np.uint8)
    coder = OpusCoder()
    out = coder.decode(np.array([4, 9]), both, np.array([long.shape[1], len(quiet)]))
    assert out.shape == (2, 320)
    assert np.abs(out[1]).max() < 10


def test_what_is_lost_goes_on_as_it_was():
    coder, sent = OpusCoder(), packets(tone(400))
    before = np.concatenate([decode(coder, p) for p in sent[:25]])
    made = coder.conceal(ONE, 320)[0]
    after = np.concatenate([decode(coder, p) for p in sent[26:]])
    assert share_db(made.astype(float), 400) > 10
    joined = np.concatenate([before[-320:], made, after[:320]]).astype(int)
    assert np.abs(np.diff(joined)).max() < 2 * np.abs(np.diff(before[4000:].astype(int))).max()
    assert coder.conceal(ONE, 321) is None, "no whole number of 2.5 ms"
    assert not coder.conceal(np.array([5]), 320).any(), "nothing came from that call yet"


def test_a_reset_call_begins_anew():
    coder, sent = OpusCoder(), packets(tone(400))
    first = [decode(coder, p).tolist() for p in sent[:5]]
    assert [decode(coder, p).tolist() for p in sent[:5]] != first
    coder.reset(0)
    assert [decode(coder, p).tolist() for p in sent[:5]] == first


def test_no_frames_that_it_can_not_encode():
    with pytest.raises(ValueError, match="321 samples"):
        OpusCoder().encode(ONE, np.zeros((1, 321), np.int16))


def _no_library(name):
    raise OSError(name)


def test_without_the_library_one_line_names_the_cure(monkeypatch):
    assert not opus.missing()
    opus._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", _no_library)
    try:
        assert opus.missing() == (
            "Opus needs libopus: apt install libopus0, or pip install 'ari-bridge[opus]'"
        )
    finally:
        opus._library.cache_clear()


def test_the_extras_library_serves_where_the_system_has_none(monkeypatch):
    real, asked = ctypes.CDLL, []

    def no_system(name):
        asked.append(name)
        if name == "libopus.so.0":
            raise OSError(name)
        return real(name)

    opus._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", no_system)
    try:
        assert not opus.missing()
        assert len(decode(OpusCoder(), packets(tone(400))[3])) == 320
        assert len(asked) == 2
    finally:
        opus._library.cache_clear()
