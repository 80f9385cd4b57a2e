"""WAV and sealed files: whole at every moment, and gone on with after a death."""

import base64
import os
import wave

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import ConfigError, RecordingError
from bridge.recording.sealed import Key, SealedFile, pieces, seal_bytes
from bridge.recording.wav import HEADER, PAIR, WavFile, header, rate_of

WRITES = st.lists(st.tuples(st.integers(0, 50), st.binary(min_size=4, max_size=80)), max_size=12)


def laid_out(writes):
    """Positions that only rise, with gaps, and the sound that they make."""
    at, placed, sound = 0, [], b""
    for gap, data in writes:
        data = data[: len(data) // PAIR * PAIR]
        at += gap
        placed.append((at, data))
        sound = sound.ljust(at * PAIR, b"\0") + data
        at += len(data) // PAIR
    return placed, sound


def content(path):
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (2, 2)
        return file.getframerate(), file.readframes(file.getnframes())


@settings(max_examples=50)
@given(WRITES, st.integers(0, 12))
def test_a_wav_is_whole_after_every_write_and_a_successor_goes_on(tmp_path_factory, writes, dies):
    path = tmp_path_factory.mktemp("wav") / "call.wav"
    placed, sound = laid_out(writes)
    file = WavFile(path, 8000)
    for number, (at, data) in enumerate(placed):
        if number == dies:  # without a word
            os.close(file._fd)
            file = WavFile(path, 8000)
        file.write(at, data)
        assert content(path) == (8000, sound[: file.pairs * PAIR])
    file.close(len(sound) // PAIR + 5)
    assert content(path) == (8000, sound + bytes(5 * PAIR))


def test_a_wav_of_another_rate_is_not_gone_on_with(tmp_path):
    WavFile(tmp_path / "a.wav", 8000).close(1)
    with pytest.raises(ValueError, match="another sample rate"):
        WavFile(tmp_path / "a.wav", 16000)
    assert rate_of((tmp_path / "a.wav").read_bytes()) == 8000


def test_a_wav_is_the_operators_alone_and_never_claims_too_much(tmp_path):
    WavFile(tmp_path / "a.wav", 8000).close(1)
    assert (tmp_path / "a.wav").stat().st_mode & 0o777 == 0o600
    assert len(header(8000, 2**40)) == HEADER


KEY = Key(bytes(range(32)))


@settings(max_examples=50)
@given(WRITES, st.integers(0, 12), st.integers(1, 60))
def test_a_sealed_file_gives_back_what_was_written(tmp_path_factory, writes, dies, torn):
    path = tmp_path_factory.mktemp("sealed") / "call.wav.sealed"
    placed, sound = laid_out(writes)
    file = SealedFile(path, 8000, KEY)
    for number, (at, data) in enumerate(placed):
        if number == dies:  # in the middle of a piece
            os.pwrite(file._fd, b"\x40" + os.urandom(torn), file._end)
            os.close(file._fd)
            pairs = file.pairs
            file = SealedFile(path, 8000, KEY)
            assert file.pairs == pairs
        file.write(at, data)
    file.close(len(sound) // PAIR + 5)
    found = bytearray((len(sound) // PAIR + 5) * PAIR)
    for at, data in pieces(path, KEY):
        found[at * PAIR : at * PAIR + len(data)] = data
    assert bytes(found) == sound + bytes(5 * PAIR)


def sealed(tmp_path):
    path = tmp_path / "a.sealed"
    file = SealedFile(path, 8000, KEY)
    for at in range(3):
        file.write(at * 25, b"card" * 25)
    file.close(75)
    return path


def test_nobody_reads_or_changes_it_without_the_key(tmp_path):
    path = sealed(tmp_path)
    whole = path.read_bytes()
    assert b"card" not in whole
    with pytest.raises(RecordingError, match="another key"):
        list(pieces(path, Key(bytes(32))))
    for at in range(44, len(whole), 17):
        changed = bytearray(whole)
        changed[at] ^= 1
        path.write_bytes(changed)
        try:
            found = list(pieces(path, KEY))
        except RecordingError:
            continue
        assert len(found) < 3, "a length that was changed cuts it off"


def test_pieces_cannot_be_moved_to_another_file(tmp_path):
    path, other = sealed(tmp_path), tmp_path / "b.sealed"
    SealedFile(other, 8000, KEY).close(0)
    other.write_bytes(other.read_bytes() + path.read_bytes()[40:])
    with pytest.raises(RecordingError, match="changed"):
        list(pieces(other, KEY))


def test_sealed_bytes(tmp_path):
    data = os.urandom(3 << 20)
    seal_bytes(tmp_path / "a", data, KEY)
    assert b"".join(piece for _, piece in pieces(tmp_path / "a", KEY)) == data


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(bytes(31)).decode(), "~" * 44])
def test_a_key_that_is_none_names_the_cure(tmp_path, text):
    (tmp_path / "key").write_text(text)
    with pytest.raises(ConfigError, match="openssl rand -base64 32"):
        Key.read(tmp_path / "key")
    with pytest.raises(ConfigError, match="openssl rand -base64 32"):
        Key.read(tmp_path / "none")


def test_a_key_as_openssl_writes_it(tmp_path):
    (tmp_path / "key").write_text(base64.b64encode(bytes(range(32))).decode() + "\n")
    assert Key.read(tmp_path / "key").name == KEY.name
