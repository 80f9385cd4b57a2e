"""G.722: the library is bit-exact with the ITU, every call has a coder of its own."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bridge.audio import g722
from bridge.audio.g722 import G722Coder

VECTORS = Path(__file__).parents[4] / "shared" / "data" / "itu_g722"
ONE = np.zeros(1, np.intp)


def sweep(seconds=1.0):
    """100 to 7000 Hz."""
    t = np.arange(int(16000 * seconds)) / 16000
    phase = 2 * np.pi * (100 * t + 6900 * t * t / (2 * seconds))
    return np.rint(12000 * np.sin(phase)).astype(np.int16)


def encode(coder, pcm, call=0):
    frames = pcm.reshape(-1, 320)
    return np.concatenate([coder.encode(np.array([call]), f[None])[0] for f in frames])


def decode(coder, payload, call=0, size=160):
    size_ = np.array([size])
    packets = payload.reshape(-1, size)
    return np.concatenate([coder.decode(np.array([call]), p[None], size_)[0] for p in packets])


# Digests taken where the ITU's own vectors had been matched.
def test_every_bit():
    coder = G722Coder()
    codes = encode(coder, sweep())
    assert hashlib.sha256(codes.tobytes()).hexdigest()[:16] == "0fa273a5d264c361"
    back = decode(coder, codes)
    assert hashlib.sha256(back.astype("<i2").tobytes()).hexdigest()[:16] == "f4cc2c5abe5276a2"


@pytest.mark.parametrize("hz", [300, 1000, 3400, 5000, 6800])
def test_it_is_wide(hz):
    t = np.arange(16000) / 16000
    tone = np.rint(8000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)
    coder = G722Coder()
    out = decode(coder, encode(coder, tone))[8000:]
    power = np.abs(np.fft.rfft(out * np.hanning(8000))) ** 2
    near = power[hz // 2 - 3 : hz // 2 + 4].sum()
    assert 10 * np.log10(near / (power.sum() - near)) > 20
    assert abs(20 * np.log10(out.std() / tone.std())) < 0.5


def test_calls_are_apart_and_packets_of_any_size_are_one_stream():
    coder, alone = G722Coder(), G722Coder()
    loud, quiet = sweep(), (sweep() // 50).astype(np.int16)
    together = [
        coder.encode(np.array([3, 7]), np.stack([a, b]))
        for a, b in zip(loud.reshape(-1, 320), quiet.reshape(-1, 320), strict=True)
    ]
    codes = np.concatenate([pair[0] for pair in together])
    assert (codes == encode(alone, loud)).all()
    assert (decode(coder, codes, 3, 80) == decode(alone, codes, 0, 400)).all()


def test_a_reset_call_begins_anew():
    coder = G722Coder()
    first = encode(coder, sweep())
    assert (encode(coder, sweep()) != first).any(), "it remembers"
    coder.reset(0)
    assert (encode(coder, sweep()) == first).all()
    coder.reset(5)  # of a call that it never saw


@pytest.mark.parametrize("what", ["lost packet", "fresh decoder"])
def test_it_finds_back_into_a_stream(what):
    """After a hole, and for a decoder that comes anew into the stream: 100 ms later it is right."""
    pcm = sweep()
    codes = encode(G722Coder(), pcm)
    whole = decode(G722Coder(), codes)
    coder, at = G722Coder(), 25 * 160
    if what == "lost packet":
        decode(coder, codes[: at - 160])
    out, want = decode(coder, codes[at:]), whole[2 * at :]
    error, signal = (out - want.astype(float))[1600:].std(), want[1600:].std()
    assert 20 * np.log10(signal / error) > 20


def test_any_bytes_are_audio():
    rng = np.random.default_rng(1)
    garbage = rng.integers(0, 256, (1, 400)).astype(np.uint8)
    assert G722Coder().decode(ONE, garbage, np.array([400])).shape == (1, 800)


def test_without_the_package_one_line_names_the_cure(monkeypatch):
    assert not g722.missing()
    monkeypatch.setattr(g722, "G722", None)
    assert g722.missing() == "G.722 needs the package G722: pip install G722"


if VECTORS.is_dir():  # beside the checkout where it is at hand; the digests stand without it

    def test_itu_vectors():
        pcm = np.fromfile(VECTORS / "inpsp.bin", "<i2").astype(np.int16)
        code = np.fromfile(VECTORS / "codspw.cod", "<u2").astype(np.uint8)
        back = np.fromfile(VECTORS / "outsp1.bin", "<i2")
        size = np.array([len(code)])
        assert (G722Coder().encode(ONE, pcm[None])[0] == code).all()
        assert (G722Coder().decode(ONE, code[None], size)[0] == back).all()
