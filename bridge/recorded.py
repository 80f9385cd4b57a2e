"""A call that is recorded, as its worker sees it: begin, pause, go on.

The recorder is a process of its own (`bridge.recording`). All that a worker does is to leave it an
order, and marks in the slot from which frame on the call is recorded or not; both take microseconds
and neither can hold a call up. What was begun stands in the call's record, so an heir goes on with
it, paused or not: in the same file where it has the same slot, else in another part.

While the recording is paused the transcript says only that something was said (PCI DSS 3.2: what
may not be recorded may not be written down either), and so it does of words that come after a pause
but were said in it.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from bridge.agent import Agent
from bridge.media.base import Media, Slot
from bridge.pbx.base import Incoming
from bridge.recording import notes
from bridge.recording.notes import Notes
from bridge.sessions.base import Store
from bridge.transcript import Transcript

log = logging.getLogger(__name__)

KEYS_S = 2.0
"""Keys that may become the agent's `pause_keys` are held back for so long."""
_DAY_S = 86_400.0


class Recording:
    """One call's."""

    def __init__(
        self,
        agent: Agent,
        incoming: Incoming,
        slot: Slot,
        media: Media,
        store: Store,
        transcript: Transcript,
    ) -> None:
        """Nothing is recorded before `begin`; of an agent whose calls aren't, nothing ever is."""
        self._agent, self._incoming = agent, incoming
        self._slot, self._media, self._store, self._transcript = slot, media, store, transcript
        self._parts: list[str] = []
        self._started = self._since = 0.0
        self._pressed = ""
        self.wanted = agent.recording.enabled
        self.on = False
        """Whether what is said now is recorded."""

    def begin(self) -> None:
        """Record from now on."""
        if self.wanted:
            self._order(True)

    def take_up(self, told: str) -> None:
        """Go on with what another process began; `told` is `Record.recording`."""
        table: dict[str, Any] = json.loads(told) if told else {}
        self._parts, self._started = list(table.get("parts", ())), float(table.get("started", 0))
        on, since = bool(table.get("on", True)), float(table.get("since", 0))
        before = self._slot.recorded
        if before is not None:  # the slot knows best: the record may be a moment behind
            self.wanted = True
            self._set(before, since if before == on else time.time())
        elif self._parts or self.wanted:  # also where this agent stands in for another's
            self.wanted = True
            self._order(on, since)

    def pause(self) -> bool:
        """Leave out what is said from now on. Returns whether that is so: False, it is not
        recorded at all."""
        return self._turn(False)

    def resume(self) -> bool:
        """Go on. The same."""
        return self._turn(True)

    def keys(self, digit: str) -> tuple[str, bool]:
        """The caller pressed a key.

        Returns those that the agent is to hear of now, and whether others are held back: call
        `held_back` after `KEYS_S`, unless he goes on pressing.
        """
        asked = self._agent.recording.pause_keys
        if not (asked and self._parts):
            return digit, False
        pressed = self._pressed + digit
        if pressed == asked:
            self._pressed = ""
            self._turn(not self.on)
            return "", False
        # What no more can become those keys goes on to the agent.
        keep = next(
            n for n in range(len(pressed), -1, -1) if asked.startswith(pressed[-n:] * (n > 0))
        )
        self._pressed = pressed[len(pressed) - keep :]
        return pressed[: len(pressed) - keep], keep > 0

    def held_back(self) -> str:
        """Keys that were held back, and became nothing."""
        pressed, self._pressed = self._pressed, ""
        return pressed

    def _turn(self, on: bool) -> bool:
        if not self._parts:
            return False
        if on != self.on:
            self._transcript.note("recording goes on" if on else "recording paused")
            self._set(on, time.time())
            self._slot.record(on)
            self._note()
        return True

    def _set(self, on: bool, since: float) -> None:
        """Whether it is recorded; `since` a resume or a pause, 0: there was none."""
        self.on, self._since = on, since
        self._transcript.private = not on
        self._transcript.resumed = since if on else 0.0

    def _order(self, on: bool, since: float = 0.0) -> None:
        """A new file."""
        now, agent, incoming = time.time(), self._agent, self._incoming
        settings = agent.recording
        key = agent.recording_key
        path = notes.base(agent.recording_folder, incoming.call_id, agent.name, now).absolute()
        wanted = Notes(
            call_id=incoming.call_id,
            path=str(path),
            agent=agent.name,
            caller=incoming.caller_number,
            dialed=incoming.dialed,
            format=settings.format,
            key_file=str(key.absolute()) if key is not None else "",
            started=now,
            delete_at=now + settings.retention_days * _DAY_S if settings.retention_days else 0.0,
        )
        try:
            notes.order(self._media.runtime_dir, wanted)
        except OSError as error:
            log.error("the call is not recorded: %s", error.strerror or error)
            return
        if not notes.recorder_runs(self._media.runtime_dir):
            log.warning("nobody records the call as yet: `ari-bridge recorder` isn't running")
        self._parts.append(str(path))
        self._started = self._started or now
        self._slot.record(True)
        if not on:
            self._slot.record(False)
        self._set(on, since)
        self._note()

    def _note(self) -> None:
        started, since = round(self._started, 3), round(self._since, 3)
        table = {"parts": self._parts, "on": self.on, "started": started, "since": since}
        self._store.put(self._incoming.call_id, recording=json.dumps(table))
