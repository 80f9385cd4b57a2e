"""The lightest bot there is: sends every message of audio back at once.

    python -m tests.bench.engines.bot FOLDER

Listens on loopback (prints its port): at /twilio as a bot written for Twilio, at /websocket as one
written for Asterisk's chan_websocket. Leaves a file in FOLDER for every call that reached it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
from pathlib import Path

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

FOLDER = Path(sys.argv[1])
_number = itertools.count()


class Echo(WSListener):
    """One call."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._started = False

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Audio goes back as it came: Twilio's names in a message to the bot hold one to it."""
        if frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type is WSMsgType.BINARY:
            transport.send(WSMsgType.BINARY, frame.get_payload_as_bytes())
        elif frame.msg_type is WSMsgType.TEXT:
            data = frame.get_payload_as_bytes()
            if data.startswith(b'{"event":"media"'):
                transport.send(WSMsgType.TEXT, data)
            elif not self._started:
                self._started = True
                (FOLDER / f"{next(_number)}.{self._kind}").touch()


def _listen(request: WSUpgradeRequest) -> WSListener:
    return Echo(request.path.decode().strip("/"))


async def main() -> None:
    """Until it is killed."""
    server = await ws_create_server(_listen, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
