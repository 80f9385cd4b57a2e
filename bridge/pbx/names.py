"""Names: how we call what we make in Asterisk, and what Asterisk calls a codec.

Whatever we make for a call bears the call's id and a token of the one `Leg` that made it, so that
it can be taken away by name even if Asterisk's answer to its making was lost, and so that a later
owner of the same call tells its own things from its predecessor's:

    mixing bridge            ari-bridge-<call id>-<token>
    external-media channel   ari-bridge-<call id>-<token>-<n>     n counts from 1
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from bridge.pbx.base import Codec

PREFIX = "ari-bridge-"
_NAME = re.compile(re.escape(PREFIX) + r"(?P<call>.+)-(?P<token>[0-9a-f]{6})(?:-(?P<n>\d+))?")

# The formats that external media takes back over RTP whatever was asked for: static payload types
# only, so L16 is `slin` (8 kHz, payload type 10).
FORMATS: dict[Codec, str] = {"PCMU": "ulaw", "PCMA": "alaw", "L16": "slin"}
_CODECS: dict[str, Codec] = {"ulaw": "PCMU", "alaw": "PCMA"}


@dataclass(frozen=True, slots=True)
class Name:
    """What a name says: whose a mixing bridge or an external-media channel is."""

    call_id: str
    token: str
    n: int | None = None
    """Of an external-media channel; None for a mixing bridge."""

    def __str__(self) -> str:
        tail = "" if self.n is None else f"-{self.n}"
        return f"{PREFIX}{self.call_id}-{self.token}{tail}"


def app_of(door: str, worker: str) -> str:
    """The Stasis application of one worker; `door` is the one that the dialplan names."""
    return f"{door}-{worker}"


def new_token() -> str:
    """A token for a new leg: six hexadecimal digits."""
    return secrets.token_hex(3)


def parse_name(text: str) -> Name | None:
    """Whose it is, or None if it is none of ours."""
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    n = match["n"]
    return Name(match["call"], match["token"], None if n is None else int(n))


def codec_of(native_formats: str) -> Codec:
    """The codec for external media of a caller whose native formats are these.

    Args:
        native_formats: as `CHANNEL(audionativeformat)` gives them: `(ulaw)`, `(alaw|ulaw)`.

    Returns:
        The caller's own codec where external media carries it both ways, so that Asterisk passes
        packets through unchanged; else PCMU, which Asterisk then transcodes.
    """
    for name in native_formats.strip().strip("()").split("|"):
        if name in _CODECS:
            return _CODECS[name]
    return "PCMU"
