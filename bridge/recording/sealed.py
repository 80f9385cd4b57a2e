"""Recordings that nobody can read without the key: AES-256-GCM, piece by piece.

The cipher is the library `cryptography`'s (extra `encrypt`). A file begins with a magic, the key's
name, a salt and the sample rate; each piece that follows stands for itself, so a file is whole at
every moment and whoever dies leaves at most one piece unfinished, which is cut off:

    head    "ARIBSEAL" | version u32 | rate u32 (0: no sound, any bytes) | key's name 8 | salt 16
    piece   length u32 | position u64 | nonce 12 | ciphertext, tag 16

A file's own key is derived from the operator's and the salt (HKDF-SHA256, RFC 5869), nonces are
random, and salt and position are authenticated with each piece: none can be moved, within a file or
between files. That pieces are missing at the end can't be told (the writer may have died there).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from bridge.errors import ConfigError, RecordingError

MAGIC = b"ARIBSEAL"
_HEAD = struct.Struct("<8sII8s16s")
_PIECE = struct.Struct("<IQ12s")
_TAG = 16
_VERSION = 1
_MOST_PIECE = 1 << 26


class Key:
    """The operator's key."""

    def __init__(self, secret: bytes) -> None:
        """Of 32 bytes."""
        assert len(secret) == 32
        self._secret = secret
        self.name = hashlib.sha256(b"name" + secret).digest()[:8]

    @classmethod
    def read(cls, path: Path) -> Key:
        """From a file that holds 32 bytes in base64.

        Raises:
            ConfigError: it can't be read, or holds something else.
        """
        cure = f"make one with `openssl rand -base64 32 > {path}` and `chmod 600` it"
        try:
            secret = base64.b64decode(path.read_bytes().strip(), validate=True)
        except OSError as error:
            raise ConfigError(f"the key {path} can't be read ({error.strerror}); {cure}") from error
        except binascii.Error as error:
            raise ConfigError(f"{path} is no key; {cure}") from error
        if len(secret) != 32:
            raise ConfigError(f"{path} is no key of 32 bytes; {cure}")
        return cls(secret)

    def cipher(self, salt: bytes) -> Cipher:
        """That of one file. Raises `ConfigError` if the library isn't installed."""
        return Cipher(self._secret, salt)


class Cipher:
    """Seals and opens the pieces of one file."""

    def __init__(self, secret: bytes, salt: bytes) -> None:
        """Of the operator's key and the file's salt."""
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        except ImportError as error:
            raise ConfigError(
                "recordings can't be encrypted: pip install 'ari-bridge[encrypt]'"
            ) from error
        key = HKDF(SHA256(), 32, salt, b"ari-bridge recording").derive(secret)
        self._aead, self._salt = AESGCM(key), salt

    def seal(self, position: int, data: bytes) -> bytes:
        """One piece, ready to be appended."""
        nonce = os.urandom(12)
        sealed = self._aead.encrypt(nonce, data, self._also(position))
        return _PIECE.pack(len(sealed), position, nonce) + sealed

    def open(self, position: int, nonce: bytes, sealed: bytes) -> bytes:
        """What it holds. Raises `RecordingError` if it isn't what was written."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aead.decrypt(nonce, sealed, self._also(position))
        except InvalidTag as error:
            raise RecordingError("a recording was changed after it was written") from error

    def _also(self, position: int) -> bytes:
        return self._salt + position.to_bytes(8, "little")


class SealedFile:
    """One file, open for writing; the same face as `WavFile`."""

    def __init__(self, path: Path, rate: int, key: Key) -> None:
        """Make it, or go on with one that is there. Raises `OSError`, `ValueError`,
        `ConfigError`."""
        self.rate = rate
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            found = os.pread(self._fd, _HEAD.size, 0)
            if len(found) < _HEAD.size:
                salt = os.urandom(16)
                head = _HEAD.pack(MAGIC, _VERSION, rate, key.name, salt)
                os.pwrite(self._fd, head, 0)
                self._end, self._pairs = _HEAD.size, 0
            else:
                head_rate, salt = _checked(found, key, path)
                if head_rate != rate:
                    raise ValueError(f"{path} is of another sample rate")
                self._end, self._pairs = self._last(path)
                os.ftruncate(self._fd, self._end)
            self._cipher = key.cipher(salt)
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def pairs(self) -> int:
        """How long it is, samples of both channels."""
        return self._pairs

    def write(self, at: int, data: bytes) -> None:
        """Append interleaved samples that lie at that position. Raises `OSError`."""
        piece = self._cipher.seal(at, data)
        view = memoryview(piece)
        while view:
            view = view[os.pwrite(self._fd, view, self._end + len(piece) - len(view)) :]
        self._end += len(piece)
        self._pairs = max(self._pairs, at + len(data) // 4)

    def close(self, pairs: int) -> None:
        """That long it is, silence at its end included. Raises `OSError`."""
        try:
            if pairs > self._pairs:
                self.write(pairs, b"")
        finally:
            os.close(self._fd)

    def _last(self, path: Path) -> tuple[int, int]:
        """Where whole pieces end, and how many samples they reach."""
        end, pairs = _HEAD.size, 0
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while end + _PIECE.size <= size:
                file.seek(end)
                length, position, _ = _PIECE.unpack(file.read(_PIECE.size))
                if length > _MOST_PIECE or end + _PIECE.size + length > size:
                    break
                end += _PIECE.size + length
                pairs = max(pairs, position + (length - _TAG) // 4)
        return end, pairs


def pieces(path: Path, key: Key) -> Iterator[tuple[int, bytes]]:
    """What a file holds, (position, data), as it was written.

    Raises:
        RecordingError: it was changed, or sealed with another key.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        _, salt = _checked(file.read(_HEAD.size), key, path)
        cipher = key.cipher(salt)
        while len(head := file.read(_PIECE.size)) == _PIECE.size:
            length, position, nonce = _PIECE.unpack(head)
            if length > _MOST_PIECE:
                raise RecordingError("a recording was changed after it was written")
            sealed = file.read(length)
            if len(sealed) < length:
                return  # its writer died, or writes it right now
            yield position, cipher.open(position, nonce, sealed)


def rate_of(path: Path, key: Key) -> int:
    """Its sample rate; 0 if it holds no samples. Raises as `pieces`."""
    with path.open("rb") as file:
        return _checked(file.read(_HEAD.size), key, path)[0]


def seal_bytes(path: Path, data: bytes, key: Key) -> None:
    """Write a sealed file of any bytes. Raises `OSError`."""
    salt, step = os.urandom(16), 1 << 20
    cipher = key.cipher(salt)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(_HEAD.pack(MAGIC, _VERSION, 0, key.name, salt))
        for at in range(0, len(data), step):
            file.write(cipher.seal(at, data[at : at + step]))


def _checked(head: bytes, key: Key, path: Path) -> tuple[int, bytes]:
    """Rate and salt of a head. Raises `RecordingError`."""
    if len(head) < _HEAD.size:
        raise RecordingError(f"{path} is not sealed")
    magic, version, rate, name, salt = _HEAD.unpack(head)
    if magic != MAGIC or version != _VERSION:
        raise RecordingError(f"{path} is not sealed, or by another version")
    if name != key.name:
        raise RecordingError(f"{path} was sealed with another key")
    return int(rate), bytes(salt)
