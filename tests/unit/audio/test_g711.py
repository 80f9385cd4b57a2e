"""PCMU and PCMA against the ITU's tables."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bridge.audio import g711

ALL = np.arange(-32768, 32768, dtype=np.int16)
VECTORS = Path(__file__).parents[4] / "shared" / "data" / "itu_g711"


# Digests of all 65,536 codes and all 256 values, taken where the ITU's own vectors had been
# matched.
@pytest.mark.parametrize(
    ("encode", "digest"),
    [
        (g711.encode_ulaw, "90c29de505fb68e7"),
        (g711.encode_alaw, "38488f6fd710f468"),
    ],
)
def test_every_code(encode, digest):
    assert hashlib.sha256(encode(ALL).tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("decode", "digest"),
    [
        (g711.decode_ulaw, "3dab54339e520bb2"),
        (g711.decode_alaw, "e04788d110e58ff8"),
    ],
)
def test_every_value(decode, digest):
    values = decode(np.arange(256, dtype=np.uint8)).astype("<i2")
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == digest


# G.711 tables 1a to 2b: the ends, the middle, and the one's complement that tells ITU's from
# others.
@pytest.mark.parametrize(
    ("encode", "sample", "code"),
    [
        (g711.encode_ulaw, 0, 0xFF),
        (g711.encode_ulaw, -1, 0x7F),
        (g711.encode_ulaw, 32767, 0x80),
        (g711.encode_ulaw, -32768, 0x00),
        (g711.encode_alaw, 0, 0xD5),
        (g711.encode_alaw, -1, 0x55),
        (g711.encode_alaw, 32767, 0xAA),
        (g711.encode_alaw, -32768, 0x2A),
    ],
)
def test_known_codes(encode, sample, code):
    assert encode(np.array([sample], np.int16))[0] == code


@pytest.mark.parametrize(
    ("encode", "decode"),
    [(g711.encode_ulaw, g711.decode_ulaw), (g711.encode_alaw, g711.decode_alaw)],
)
def test_a_decoded_code_encodes_to_itself(encode, decode):
    codes = np.arange(256, dtype=np.uint8)
    back = encode(decode(codes))
    # PCMU has two zeros; both decode to 0, which is the positive one.
    assert (back == np.where((codes == 0x7F) & (back == 0xFF), 0xFF, codes)).all()


def test_shapes_are_kept():
    frames = np.zeros((3, 160), np.int16)
    assert g711.encode_ulaw(frames).shape == (3, 160)
    assert g711.decode_alaw(g711.encode_alaw(frames)).shape == (3, 160)


if VECTORS.is_dir():  # beside the checkout where it is at hand; the digests stand without it

    @pytest.mark.parametrize(
        ("law", "encode", "decode"),
        [("u", g711.encode_ulaw, g711.decode_ulaw), ("a", g711.encode_alaw, g711.decode_alaw)],
    )
    def test_itu_vectors(law, encode, decode):
        pcm = np.fromfile(VECTORS / "sweep.src", "<i2").astype(np.int16)
        code = np.fromfile(VECTORS / f"sweep-r.{law}", "<u2").astype(np.uint8)
        assert (encode(pcm) == code).all()
        back = np.fromfile(VECTORS / f"sweep-r.re{law}", "<i2")
        assert (decode(code) == back).all()
