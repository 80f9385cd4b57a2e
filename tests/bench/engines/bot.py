"""The lightest bot there is: sends every message of audio back at once, unless it is silence.

Silence is what makes utterances of it, as every bot's speech is: each begins with nothing waiting.

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
_SILENCE = b"/" * 200  # of a frame's 214 characters: PCMU's zero is 0xFF


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
            data = frame.get_payload_as_bytes()
            if data.count(0) < len(data):
                transport.send(WSMsgType.BINARY, data)
        elif frame.msg_type is WSMsgType.TEXT:
            data = frame.get_payload_as_bytes()
            if data.startswith(b'{"event":"media"'):
                if _SILENCE not in data:
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
