"""The API's tokens: one for who may do everything that the API can, one for who may only look.

ARI_BRIDGE_TOKEN      in the environment goes first,
[web] token_file      then a file of the operator's,
RUNTIME_DIR/api-token then one that is made at the first start, readable by our user only

ARI_BRIDGE_READ_TOKEN, [web] read_token_file    who has this one may only look; none is made
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bridge import secrets as known
from bridge.errors import ConfigError

Role = Literal["read", "operate"]
"""What a token allows: to look, or to do everything."""

PROTOCOL = "ari-bridge.token."
"""What a page's WebSocket names as a subprotocol, followed by the token in base64url."""
VARIABLE, READ_VARIABLE = "ARI_BRIDGE_TOKEN", "ARI_BRIDGE_READ_TOKEN"
_FILE = "api-token"
_LEAST = 16


@dataclass(frozen=True, slots=True)
class Tokens:
    """Those that hold here."""

    operate: str = field(repr=False)
    read: str = field(default="", repr=False)
    """Empty: there is none."""

    def role(self, given: str) -> Role | None:
        """What who names that token may do; the time it takes doesn't tell how much is right."""
        named = given.encode(errors="replace")  # bytes that aren't UTF-8 come as surrogates
        operates = hmac.compare_digest(named, self.operate.encode())
        reads = bool(self.read) and hmac.compare_digest(named, self.read.encode())
        return "operate" if operates else "read" if reads else None


def read_tokens(token_file: str, read_token_file: str, runtime_dir: str) -> Tokens:
    """Both; the first is made if there is none. Raises `ConfigError`: as `read_token`."""
    operate = read_token(token_file, runtime_dir, make=True)
    read = os.environ.get(READ_VARIABLE, "").strip()
    if read:
        read = _checked(read, f"the environment variable {READ_VARIABLE}")
    elif read_token_file:
        read = _of(Path(read_token_file), "set [web] read_token_file")
    if read == operate:
        raise ConfigError(
            f"the token that may only look is the other one, too: give {READ_VARIABLE}, or [web] "
            "read_token_file, one of its own"
        )
    return Tokens(operate, read)


def read_token(token_file: str, runtime_dir: str, *, make: bool = False) -> str:
    """The token that holds here.

    Args:
        token_file: the operator's; empty for none.
        runtime_dir: where one is made.
        make: make one if there is none.

    Raises:
        ConfigError: there is none, it is too short, or others may read its file.
    """
    if token := os.environ.get(VARIABLE, "").strip():
        return _checked(token, f"the environment variable {VARIABLE}")
    path = Path(token_file) if token_file else Path(runtime_dir) / _FILE
    if make and not token_file:
        _make(path)
    return _of(path, "set [web] token_file" if token_file else "start 'ari-bridge web' first")


def _of(path: Path, cure: str) -> str:
    try:
        mode, token = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"no token for the API: {path} can't be read ({error}); {cure}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"others may read the API's token in {path}: chmod 600 it")
    return _checked(token, str(path))


def token_in(protocols: str) -> str:
    """The token among a WebSocket's subprotocols; empty if there is none."""
    for name in protocols.split(","):
        if name.strip().startswith(PROTOCOL):
            text = name.strip().removeprefix(PROTOCOL)
            with contextlib.suppress(ValueError):  # not ASCII, not base64, not UTF-8
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    return ""


def _checked(token: str, where: str) -> str:
    if len(token) < _LEAST or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{where} holds no token for the API; it takes {_LEAST} or more letters and digits, "
            "such as `openssl rand -hex 32` gives"
        )
    known.keep(token)
    return token


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            return
        # Whole or not at all, and the first of two who make one at the same time wins.
        fresh = path.with_name(f".{_FILE}.{secrets.token_hex(4)}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(fresh)
        fresh.unlink()
    except OSError as error:
        raise ConfigError(
            f"no token for the API could be made in {path.parent} ({error.strerror}): "
            "set [web] token_file"
        ) from error
