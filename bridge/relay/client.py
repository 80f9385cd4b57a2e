"""A worker's way to the relay of its host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bridge.errors import PbxError, PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx.base import Address, Codec

SOCKET: Final = "relay.sock"
SUCCESSOR_S: Final = 3.0
"""How long the relay may be away before a request is given up."""
ANSWER_S: Final = 12.0
"""The relay itself gives up sooner, unless it hangs."""
_AGAIN_S: Final = 0.02
_KINDS: dict[str, type[PbxError]] = {"gone": PbxGone, "unreachable": PbxUnreachable}


class RelayClient:
    """One Asterisk's: a `bridge.pbx.base.Relay`."""

    def __init__(self, runtime: Path, pbx: str, media: Callable[[], Address]) -> None:
        """For the Asterisk of that name; `media`: where the media process of this host is."""
        self._path, self._pbx, self._media = runtime / SOCKET, pbx, media

    @property
    def media(self) -> Address:
        """Where the media process of this host is."""
        return self._media()

    async def open(self, connection: str, to: Address, codec: Codec, port: int = 0) -> Address:
        """Have a channel's audio brought to `to`, and back: see `bridge.pbx.base.Relay`."""
        request = {
            "pbx": self._pbx,
            "connection": connection,
            "codec": codec,
            "to": list(to),
            "port": port,
        }
        answer = await self._ask(request)
        if "error" in answer:
            raise _KINDS.get(answer["error"], PbxRefused)(answer["message"])
        host, number = answer["address"]
        return str(host), int(number)

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await self._reach()
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            async with asyncio.timeout(ANSWER_S):
                line = await reader.readline()
            answer: dict[str, Any] = json.loads(line)
        except TimeoutError as error:
            raise PbxUnreachable(f"the relay did not answer within {ANSWER_S:g} s") from error
        except (OSError, ValueError) as error:
            raise PbxUnreachable("the relay ended before it answered") from error
        finally:
            writer.close()
        return answer

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        until = loop.time() + SUCCESSOR_S
        while True:
            try:
                return await asyncio.open_unix_connection(self._path)
            except OSError as error:
                if loop.time() > until:
                    raise PbxUnreachable(
                        f"no relay at {self._path}: start `ari-bridge relay`, with the same "
                        "bridge.toml"
                    ) from error
            await asyncio.sleep(_AGAIN_S)


def relay_serves(runtime: Path) -> bool:
    """Whether a relay serves this directory."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        try:
            probe.connect(str(runtime / SOCKET))
        except OSError:
            return False
    return True
