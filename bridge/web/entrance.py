"""The API's port, and how many may be in at a time.

Theory of operation. Everybody who reaches the port gets a connection before he has named a token,
so their number is what bounds a stranger: one more than `[web] max_connections` is closed as soon
as it is accepted. Those in the middle of their TLS handshake count, and have ten seconds for it. A
connection that asks for nothing is closed after `IDLE_S`, by aiohttp.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import NoReturn

from aiohttp import web

log = logging.getLogger(__name__)

IDLE_S = 75.0
"""So long a connection may stay on which nothing is asked for (as nginx has it)."""
_HANDSHAKE_S = 10.0
_TELL_EACH_S = 60.0
_OUT_OF_FILES_S = 1.0
_BACKLOG = 128


class Entrance:
    """A listening port that lets so many in.

    Args:
        listener: what `listen` gave.
        trust: what speaks TLS, or None.
        most: connections at a time.
    """

    def __init__(self, listener: socket.socket, trust: ssl.SSLContext | None, most: int) -> None:
        self._listener, self._trust, self._most = listener, trust, most
        self._coming = 0  # in the middle of their handshake
        self._turned_away = 0
        self._tell_at = 0.0

    async def admit(self, server: web.Server) -> NoReturn:
        """Let them in, until cancelled; the listener is closed then."""
        loop = asyncio.get_running_loop()
        with self._listener:
            async with asyncio.TaskGroup() as group:
                while True:
                    try:
                        sock, _ = await loop.sock_accept(self._listener)
                    except OSError as error:  # he has gone again, or we are out of files
                        log.warning("the API can't take a connection: %s", error.strerror)
                        await asyncio.sleep(_OUT_OF_FILES_S)
                        continue
                    if self._coming + len(server.connections) < self._most:
                        self._coming += 1
                        group.create_task(self._greet(server, sock))
                    else:
                        sock.close()
                        self._tell(loop.time())
                    await asyncio.sleep(0)  # a crowd must not keep all others from their turn

    async def _greet(self, server: web.Server, sock: socket.socket) -> None:
        patience = _HANDSHAKE_S if self._trust else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                server, sock, ssl=self._trust, ssl_handshake_timeout=patience
            )
        except OSError as error:  # no TLS, or none that we speak: his affair
            log.debug("a connection to the API came to nothing: %s", error)
        finally:
            self._coming -= 1

    def _tell(self, now: float) -> None:
        self._turned_away += 1
        if now >= self._tell_at:
            log.warning(
                "turned %d away from the API, which has %d connections: if they are all yours, "
                "raise [web] max_connections",
                *(self._turned_away, self._most),
            )
            self._turned_away, self._tell_at = 0, now + _TELL_EACH_S


async def listen(address: str, port: int) -> socket.socket:
    """A port for `Entrance`; port 0: any that is free.

    Raises:
        OSError: it is taken, or the address isn't this host's.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # Where a name has both, who asks for 127.0.0.1 is to be heard.
    family, _, _, _, where = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.create_server(where[:2], family=family, backlog=_BACKLOG)
    listener.setblocking(False)
    return listener
