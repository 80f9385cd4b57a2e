"""The API's token: who has it may do everything that the API can.

ARI_BRIDGE_TOKEN      in the environment goes first,
[web] token_file      then a file of the operator's,
RUNTIME_DIR/api-token then one that is made at the first start, readable by our user only
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import stat
from pathlib import Path

from bridge.errors import ConfigError

PROTOCOL = "ari-bridge.token."
"""What a page's WebSocket names as a subprotocol, followed by the token in base64url."""
VARIABLE = "ARI_BRIDGE_TOKEN"
_FILE = "api-token"
_LEAST = 16


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
    try:
        mode, token = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        cure = "set [web] token_file" if token_file else "start 'ari-bridge web' first"
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
