"""What an operator says of his Asterisks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True)
class AsteriskSettings:
    """One Asterisk, and how patient to be with it."""

    name: str = ""
    """Tells several Asterisks apart; begins the ids of its calls. Needed where there are several:
    their own ids of channels may be the same."""
    url: str = "http://127.0.0.1:8088"
    """Of its HTTP server, without `/ari` (http.conf: bindaddr, bindport, prefix); `https://…` for
    its tlsbindaddr."""
    ca_file: str = ""
    """Who has signed its certificate (PEM), where the system doesn't know; relative to the
    configuration file. With `https` certificate and name are always checked."""
    username: str = "ari-bridge"
    """The section of ari.conf."""
    password: str = field(default="", repr=False)
    """Of that section."""
    app: str = "ari-bridge"
    """The Stasis application that the dialplan names."""
    media_transport: Literal["rtp", "websocket"] = "rtp"
    """How calls' audio travels between Asterisk and this host: plain RTP, or by TLS through `url`'s
    HTTPS server (chan_websocket), for a bridge that doesn't share Asterisk's host or network."""
    rtp_address: str = ""
    """Where Asterisk's RTP comes from, where it is not the address that Asterisk announces (NAT,
    containers); empty: what it announces."""
    request_timeout_s: float = 8.0
    """Longest wait for an answer of ARI's."""
    ping_s: float = 5.0
    """Between pings on the events WebSocket; half of it without an answer, and it is given up."""
    reconnect_first_s: float = 0.1
    """Between the first tries to reach it again, growing to `reconnect_most_s`."""
    reconnect_most_s: float = 2.0
    """Between the later ones."""
    media_timeout_s: float = 5.0
    """How long an external-media channel may take to come up (usual: 3 ms)."""
    move_timeout_s: float = 2.0
    """How long a channel may take from one worker to another (usual: 11 ms)."""
    release_timeout_s: float = 30.0
    """How long to go on trying to take away a call's things while Asterisk does not answer."""
    orphan_grace_s: float = 15.0
    """How long a thing of ours that belongs to no call is left alone."""
    sweep_s: float = 60.0
    """Between looks for such things."""
    max_call_s: int = 7200
    """The net when all of us are dead: Asterisk itself ends a call after this long."""

    def __post_init__(self) -> None:
        """Check what can be checked without asking.

        Raises:
            ValueError: with the cure.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'url' is '{self.url}'; it takes something like http://HOST:8088")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("'url' takes scheme, host and port only; see 'username', 'password'")
        if self.ca_file and parts.scheme != "https":
            raise ValueError("'ca_file' does nothing without https in 'url'")
        if self.media_transport == "websocket" and parts.scheme != "https":
            raise ValueError(
                f"media_transport = \"websocket\" takes an https:// 'url', not '{self.url}': "
                "tlsenable, tlsbindaddr and tlscertfile in Asterisk's http.conf give it one"
            )
        if not re.fullmatch(r"[A-Za-z0-9_]{0,20}", self.name):
            raise ValueError(f"'name' is '{self.name}'; it takes up to 20 letters and digits")
        if not self.app or any(c in self.app for c in ", \t"):
            raise ValueError(f"'app' is '{self.app}'; it takes a name without comma and space")
        for name, value in vars(self).items():
            if name.endswith("_s") and value <= 0:
                raise ValueError(f"'{name}' is {value}; it takes a number above 0")

    def call_of(self, channel_id: str) -> str:
        """The call's id in the bridge, of a caller's channel."""
        return f"{self.name}-{channel_id}" if self.name else channel_id

    def channel_of(self, call_id: str) -> str:
        """The caller's channel, of a call's id."""
        return call_id.removeprefix(f"{self.name}-") if self.name else call_id
