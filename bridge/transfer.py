"""A transfer: somebody is rung for the caller, who comes back to the agent if it comes to nothing.

    caller with the agent
      │ transfer
      ▼
    ringing      the caller is set aside (out of the mixing bridge, he hears ringing or music)
      │ └──────▶ busy, no answer, refused, failed: he is taken back; the engine is told why
      ▼ answered
    blind: connected at once       attended: talking, the agent and whom we rang
      │                              │ connect   └─▶ take_back, or that one hangs up: taken back
      ▼                              ▼
    both are in the dialplan, in a mixing bridge of its own: they need nothing of ours

What a worker's death leaves, and what its heir makes of it (`Leg.handles` say which it is; they are
durable before the PBX is asked for what follows):

    ringing      whoever is rung would find nobody: his channel goes. The tool had begun and had no
                 effect on a caller who is still here, so it runs again, and rings anew. Where the
                 API had asked for it, and no tool, he is taken back and the agent told
    answered     his channel comes over with the caller's. Blind: the tool runs again, and connects
                 them. Attended: the talk goes on, the agent's note says with whom
    connected    the caller has left Stasis(): there is nothing to take over, and both talk on

If whom we rang is gone by then, the caller is taken back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from bridge.engines.base import TALK_NOTE
from bridge.errors import BridgeError, PbxGone, PbxRefused, PbxUnreachable, ToolError
from bridge.pbx.base import Callee, Leg
from bridge.sessions.base import Store
from bridge.transcript import Transcript
from bridge.transfertable import Destination, TransferSettings

log = logging.getLogger(__name__)

DURABLE_S = 1.0
_TRIES, _TRY_S = 30, 0.5
"""How often the caller is taken back while the PBX doesn't answer."""

TALK = (
    "{name} has answered and hears you now; the caller does not, he waits. Say who calls and "
    "why, and ask whether to put him through. Then call connect, or take_back if it is no."
)
NOTED = "You talk to {name} now, for the caller, who waits. Call connect or take_back to end that."
BACK = "{name} is off the line. The caller hears you again: tell him."
LOST = "The transfer came to nothing: the ringing broke off. The caller hears you again: tell him."


class Transfer:
    """One call's."""

    def __init__(
        self,
        leg: Leg,
        settings: TransferSettings,
        transcript: Transcript,
        store: Store,
        notes: dict[str, str],
    ) -> None:
        """Nobody is rung yet.

        Args:
            leg: the caller's.
            settings: whom he may be transferred to.
            transcript: where it is written down.
            store: has to know how far it has got.
            notes: the agent's.
        """
        self.aside: Callable[[bool], None] = lambda on: None
        """Told when nobody is there to talk to (True), and when somebody is again."""
        self.tell: Callable[[str], None] = lambda text: None
        """Tells the engine what it didn't ask for."""
        self.give_up: Callable[[str], None] = lambda reason: None
        """Ends the call: the caller can't be taken back, and the dialplan is to have him."""
        self._leg, self._settings = leg, settings
        self._transcript, self._store, self._notes = transcript, store, notes
        self._lock = asyncio.Lock()

    @property
    def talks_to(self) -> str:
        """Whom the agent talks to instead of the caller; "": to the caller."""
        return self._notes.get(TALK_NOTE, "").removeprefix("You talk to ").partition(" now, ")[0]

    async def reach(self, name: str, there: Destination) -> str | None:
        """Ring him.

        Returns:
            What the engine is told: it talks to him now. None: he waits to be connected.

        Raises:
            PbxRefused: why he can't be had; the caller is taken back.
        """
        async with self._lock:
            self.aside(True)
            try:
                if self._leg.callee != "answered":
                    await self._ring(there)
                self._transcript.say("event", f"{name} has answered")
                if there.kind != "attended":
                    return None
                self._notes[TALK_NOTE] = NOTED.format(name=name)
                await self._leg.talk()
            except PbxGone:
                raise
            except Exception as error:
                await self._back()
                if isinstance(error, BridgeError):
                    raise PbxRefused(f"{name}: {error}") from error
                raise
            self.aside(False)
            return TALK.format(name=name)

    async def _ring(self, there: Destination) -> None:
        settings = self._settings
        callee = Callee(
            *(there.to, settings.context, settings.sip_endpoint, there.ring_s, settings.music)
        )
        await self._leg.ring(callee, self._noted)

    async def connect(self) -> None:
        """Put the two together, for good. If that fails, or takes too long: `back`."""
        async with self._lock:
            await self._leg.connect()

    async def back(self) -> None:
        """Take the caller back whom nobody could be put together with."""
        async with self._lock:
            await self._back()

    async def take_back(self) -> str:
        """The agent talks to the caller again; returns what the engine is told."""
        async with self._lock:
            if not self.talks_to:
                raise ToolError("the caller is here, and nobody else")
            name = self.talks_to
            await self._back()
            return BACK.format(name=name)

    async def callee_left(self) -> None:
        """He has hung up."""
        async with self._lock:
            if self.talks_to and self._leg.callee != "answered":
                text = BACK.format(name=self.talks_to)
                await self._back()
                self.tell(text)

    def took_up(self) -> None:
        """Another process' call: whether there is somebody to talk to."""
        if self._leg.callee and not self.talks_to:
            self.aside(True)

    async def resume(self, *, again: bool, replying: bool = False) -> None:
        """The engine is ready to go on with another process' call. `again`: the tool will run once
        more. `replying`: the engine will ask for that."""
        if not self.talks_to and self._leg.callee and not again:
            async with self._lock:
                await self._back()
            if not replying:
                self.tell(LOST)
        await self.callee_left()

    async def _back(self) -> None:
        """The caller is with the agent again, as soon as the PBX can be asked."""
        self._notes.pop(TALK_NOTE, None)
        self._transcript.say("event", "back with the caller")
        try:
            await self._take_back()
        except PbxGone:
            raise
        except BridgeError as error:
            self.give_up(f"the caller could not be taken back: {error}")
            raise
        finally:
            self.aside(False)
        self._put()

    async def _take_back(self) -> None:
        for last in (*[False] * _TRIES, True):
            try:
                await self._leg.take_back()
                return
            except PbxUnreachable as error:
                if last:
                    raise
                log.warning("the caller waits to be taken back: %s", error)
            await asyncio.sleep(_TRY_S)

    async def _noted(self) -> None:
        self._put()
        await self._store.written(self._leg.incoming.call_id, DURABLE_S)

    def _put(self) -> None:
        self._store.put(self._leg.incoming.call_id, **self._leg.handles)
