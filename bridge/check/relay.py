"""A relay inside the check: the same connections as calls' have, without a process of its own."""

from __future__ import annotations

from bridge.errors import PbxRefused
from bridge.pbx import certificate
from bridge.pbx.base import Address, Codec
from bridge.pbx.settings import AsteriskSettings

try:
    from bridge.relay import flow as flows
except ImportError:  # the extra isn't installed
    flows = None  # type: ignore[assignment]


class OwnRelay:
    """One Asterisk's: a `bridge.pbx.base.Relay`."""

    def __init__(self, settings: AsteriskSettings) -> None:
        self._settings = settings
        self._open: list[flows.Flow] = []
        self.media: Address = ("", 0)

    async def open(self, connection: str, to: Address, codec: Codec, port: int = 0) -> Address:
        """See `bridge.pbx.base.Relay`."""
        if flows is None:
            raise PbxRefused(
                "media_transport = \"websocket\" needs picows: pip install 'ari-bridge[websocket]'"
            )
        context, sock = certificate.tls(self._settings), flows.media_socket(to, port)
        flow = await flows.open_flow(self._settings, context, connection, codec, sock)
        self._open.append(flow)
        return flow.address

    def close(self) -> None:
        """End all of it."""
        for flow in self._open:
            flow.close()
