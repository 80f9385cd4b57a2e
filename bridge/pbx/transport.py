"""How audio travels between Asterisk and our media process: what an external-media channel is asked
for, and at which address its RTP then is for us."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, Protocol

from bridge.errors import PbxRefused
from bridge.pbx.base import Address, Codec, Relay
from bridge.pbx.names import FORMATS
from bridge.pbx.settings import AsteriskSettings

MODULE: Final = "chan_websocket.so"
CODECS: Final[AbstractSet[Codec]] = frozenset(("PCMU", "PCMA", "L16", "G722"))
"""Over a WebSocket Asterisk takes back the channel's own format alone; of the others we send
another one than we get."""
_UNKNOWN = re.compile(r" with (400|500|501) |names no connection")


class Transport(Protocol):
    """One of the two."""

    codecs: AbstractSet[Codec] | None
    """Those that it can carry; None: all."""

    @property
    def home(self) -> Address | None:
        """Where a channel's audio goes that takes the place of one that ended by itself, from the
        same address as before; None: that can't be done."""

    def request(self, to: Address, codec: Codec) -> dict[str, Any]:
        """What `channels.externalMedia` is asked for, to have audio sent to `to`."""

    async def address(
        self, made: Mapping[str, Any], to: Address, codec: Codec, port: int = 0
    ) -> Address:
        """Where the RTP of a channel that was made comes from.

        Args:
            made: ARI's answer.
            to: as in the request.
            codec: as in the request.
            port: where its predecessor's RTP came from; 0: there was none.

        Raises:
            PbxError: it can't be had, with the cure.
        """

    def refused(self, error: PbxRefused) -> PbxRefused:
        """What is to be said if the request was refused."""


class Rtp:
    """RTP, from host to host."""

    codecs: AbstractSet[Codec] | None = None
    home: Address | None = None

    def __init__(self, settings: AsteriskSettings) -> None:
        self._settings = settings

    def request(self, to: Address, codec: Codec) -> dict[str, Any]:
        """See `Transport`."""
        host = f"[{to[0]}]" if ":" in to[0] else to[0]
        return {"external_host": f"{host}:{to[1]}", "format": FORMATS[codec]}

    async def address(
        self, made: Mapping[str, Any], to: Address, codec: Codec, port: int = 0
    ) -> Address:
        """See `Transport`."""
        told = made["channelvars"]
        address = self._settings.rtp_address or told["UNICASTRTP_LOCAL_ADDRESS"]
        return address, int(told["UNICASTRTP_LOCAL_PORT"])

    def refused(self, error: PbxRefused) -> PbxRefused:
        """See `Transport`."""
        return error


class WebSocket:
    """By TLS: our relay connects to the channel (`bridge.relay`)."""

    codecs: AbstractSet[Codec] | None = CODECS

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    @property
    def home(self) -> Address | None:
        """See `Transport`."""
        return self._relay.media

    def request(self, to: Address, codec: Codec) -> dict[str, Any]:
        """See `Transport`."""
        return {
            "transport": "websocket",
            "encapsulation": "none",
            "connection_type": "server",
            "external_host": "INCOMING",
            "format": FORMATS[codec],
        }

    async def address(
        self, made: Mapping[str, Any], to: Address, codec: Codec, port: int = 0
    ) -> Address:
        """See `Transport`."""
        connection = made.get("channelvars", {}).get("MEDIA_WEBSOCKET_CONNECTION_ID")
        if not connection:
            raise self.refused(PbxRefused("Asterisk names no connection for audio"))
        return await self._relay.open(str(connection), to, codec, port)

    def refused(self, error: PbxRefused) -> PbxRefused:
        """See `Transport`."""
        if not _UNKNOWN.search(str(error)):
            return error
        return PbxRefused(
            f'{error}: media_transport = "websocket" needs {MODULE} running in Asterisk '
            "(20.16, 21.11, 22.6 or newer has it)"
        )


def transport_of(settings: AsteriskSettings, relay: Relay | None) -> Transport:
    """The one that an Asterisk is set to."""
    if settings.media_transport == "rtp":
        return Rtp(settings)
    if relay is None:
        raise ValueError("media_transport is websocket, and there is no relay")
    return WebSocket(relay)
