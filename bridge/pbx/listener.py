"""The events WebSocket of one Stasis application: opened, read, and opened again for ever.

    run ─▶ connect ─▶ events WebSocket ─▶ event filter ─▶ reconcile ─▶ on_up(True) ─▶ read events
     ▲                                                                                   │ lost
     └────────────── on_up(False), backoff ◀──────────────────────────────────────────────┘

The WebSocket is read by one loop that never waits: what it reads goes to `on_event` at once.

That a WebSocket is open doesn't mean that its application is active. Where the one before it dies
in the same moment (a network that comes back to life), Asterisk may clear away after that one and
shut the application that is the new one's by now; callers are turned away then, and nobody is told.
So an event of our own is sent through Asterisk a few times after each opening; if it doesn't come
back, another WebSocket is opened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import aiohttp

from bridge.errors import PbxError, PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx.ari import Ari
from bridge.pbx.backoff import Backoff
from bridge.pbx.events import ECHO, TYPES, AriEvent, Echo, Replaced, parse
from bridge.pbx.settings import AsteriskSettings

log = logging.getLogger(__name__)

_ECHOES_S = (0.2, 1.0, 3.0)
"""How long after its opening, and after each other, that is tried."""
_ECHO_S = 2.0
"""Within so much it has to come back (usual: 2 ms)."""


class Taken(Exception):
    """The application's name belongs to another WebSocket now."""


class Listener:
    """One application's events."""

    def __init__(
        self,
        ari: Ari,
        settings: AsteriskSettings,
        app: str,
        on_event: Callable[[AriEvent], None],
        reconcile: Callable[[], Awaitable[None]],
        on_up: Callable[[bool], None],
    ) -> None:
        """Nothing happens before `run`.

        Args:
            ari: opened here if it isn't yet.
            settings: patience.
            app: the application's name.
            on_event: told of each event; must not block.
            reconcile: brings what we know in line with what there is, before any event is read.
            on_up: told when events flow (True), and when they don't (False).
        """
        self.app = app
        self._ari, self._settings = ari, settings
        self._on_event, self._reconcile, self._on_up = on_event, reconcile, on_up
        self._served = False
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._echo = asyncio.Event()

    async def reconnect(self) -> None:
        """Close the WebSocket; `run` opens another."""
        if self._socket is not None:
            await self._socket.close()

    async def run(self) -> None:
        """Serve until cancelled. Raises `Taken`."""
        settings = self._settings
        clock = asyncio.get_running_loop().time
        backoff = Backoff(settings.reconnect_first_s, settings.reconnect_most_s)
        told = ""
        while True:
            began, self._served = clock(), False
            try:
                if not self._ari.is_open:
                    await self._ari.open()
                await self._serve()
                reason = f"Asterisk at {settings.url} closed the events WebSocket of '{self.app}'"
            except (PbxUnreachable, PbxRefused, PbxGone) as error:
                reason = str(error)
            if self._served:
                told = ""
                if clock() - began > settings.reconnect_most_s:  # else it would be a busy loop
                    backoff.reset()
            if reason != told:  # once, not at every try
                log.warning("%s; trying again", reason)
                told = reason
            await asyncio.sleep(backoff.next_s())

    async def _serve(self) -> None:
        """One connection, from its opening to its end."""
        socket = self._socket = await self._ari.events(self.app)
        try:
            await self._ari.call(
                "applications.filter",
                applicationName=self.app,
                filter={"allowed": [{"type": name} for name in TYPES]},
            )
            await self._reconcile()
            self._served = True
            self._on_up(True)
            checking = asyncio.create_task(self._check(socket), name=f"echo of {self.app}")
            try:
                await self._read(socket)
            finally:
                checking.cancel()
            self._on_up(False)  # it went, not we: nothing of the kind where we stop or are replaced
        finally:
            await socket.close()

    async def _check(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Find out whether our application's events do come by that WebSocket; else close it."""
        for wait_s in _ECHOES_S:
            await asyncio.sleep(wait_s)
            self._echo.clear()
            try:
                await self._ari.call(
                    "events.userEvent", eventName=ECHO, application=self.app, ok=(404,)
                )
            except PbxError:
                continue  # Asterisk's HTTP is away: the WebSocket's ping finds out what is with it
            try:
                async with asyncio.timeout(_ECHO_S):
                    await self._echo.wait()
            except TimeoutError:
                log.warning("application '%s' gets no events: connecting again", self.app)
                await socket.close()
                return

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue  # an ERROR is followed by the end
            try:
                event = parse(message.data)
            except ValueError as error:
                log.warning("Asterisk sent an event that can't be understood: %s", error)
                continue
            if isinstance(event, Replaced):
                raise Taken
            if isinstance(event, Echo):
                self._echo.set()
            elif event is not None:
                self._on_event(event)
