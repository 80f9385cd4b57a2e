"""Names: how we call what we make in Asterisk, and what Asterisk calls a codec.

Whatever we make for a call bears the id of the caller's channel and a token of the one `Leg` that
made it, so that it can be taken away by name even if Asterisk's answer to its making was lost, and
so that a later owner of the same call tells its own things from its predecessor's:

    mixing bridge            ari-bridge-<caller>-<token>
    external-media channel   ari-bridge-<caller>-<token>-<n>     n counts from 1
    somebody whom we rang    ari-bridge-<caller>-<token>-t<n>    for a transfer; its far end where
                             ari-bridge-<caller>-<token>-f<n>    it is a Local channel
    somebody listens         ari-bridge-<caller>-<token>-s<n>    snoop channel, external media (-l)
                             ari-bridge-<caller>-<token>-b<n>    and their mixing bridge
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Container
from dataclasses import dataclass

from bridge.pbx.base import Codec

PREFIX = "ari-bridge-"
_NAME = re.compile(
    re.escape(PREFIX) + r"(?P<caller>.+)-(?P<token>[0-9a-f]{6})(?:-(?P<kind>[tfslb]?)(?P<n>\d+))?"
)

FORMATS: dict[Codec, str] = {
    "PCMU": "ulaw",
    "PCMA": "alaw",
    "L16": "slin",
    "G722": "g722",
    "L16/16000": "slin16",
    "L16/24000": "slin24",
    "OPUS": "opus",
}
# Asterisk's names of callers' codecs: which of ours is best for external media, which next best.
_WIDE: tuple[Codec, ...] = ("L16/16000", "G722")
_CODECS: dict[str, tuple[Codec, ...]] = {
    "ulaw": ("PCMU",),
    "alaw": ("PCMA",),
    "slin": ("L16",),
    "g722": ("G722",),
    "opus": ("OPUS", *_WIDE),
    **dict.fromkeys(("slin16", "slin24", "slin32", "slin44", "slin48"), _WIDE),
    **dict.fromkeys(("speex16", "speex32", "silk16", "silk24", "siren7", "siren14", "g719"), _WIDE),
}


@dataclass(frozen=True, slots=True)
class Name:
    """What a name says: whose a mixing bridge or a channel is."""

    caller: str
    """Id of the caller's channel."""
    token: str
    n: int | None = None
    """Of a channel; None for the call's mixing bridge."""
    kind: str = ""
    """`t`: somebody whom we rang, `f`: the far end of that; `s`, `l`, `b`: somebody listens; else
    external media."""

    @property
    def is_bridge(self) -> bool:
        """Whether a mixing bridge has such a name."""
        return self.n is None or self.kind == "b"

    def __str__(self) -> str:
        tail = "" if self.n is None else f"-{self.kind}{self.n}"
        return f"{PREFIX}{self.caller}-{self.token}{tail}"


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
    return Name(match["caller"], match["token"], None if n is None else int(n), match["kind"] or "")


def codec_of(native_formats: str, usable: Container[str]) -> Codec:
    """The codec for external media of a caller whose native formats are these.

    Args:
        native_formats: as `CHANNEL(audionativeformat)` gives them: `(ulaw)`, `(alaw|ulaw)`.
        usable: names of the codecs that we have the libraries for.

    Returns:
        The caller's own codec where we can take it, so that Asterisk passes packets through
        unchanged; else what keeps his band's width; else PCMU, which Asterisk can make of anything.
    """
    for name in native_formats.strip().strip("()").split("|"):
        for codec in _CODECS.get(name, ()):
            if codec in usable:
                return codec
    return "PCMU"
