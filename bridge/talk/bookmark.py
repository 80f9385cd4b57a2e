"""How far a call's conversation has got, for whoever has to take it up: gathered, and written down.

Theory of operation. The parts of the call know it themselves (what is queued and heard, which tools
are open, the caller's last words) and are asked for it. It is written only if it says something
else than the last time; most of a call's time nothing has changed, which `stale` tells cheaply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bridge.dialog.playout import Playout
from bridge.dialog.turns import Turns
from bridge.recall import noted_items
from bridge.sessions.progress import Progress
from bridge.talk.answer import Answer
from bridge.talk.presence import Presence
from bridge.talk.words import CallerWords
from bridge.tools import Tools
from bridge.transcript import Transcript


class Bookmark:
    """One call's."""

    def __init__(
        self,
        playout: Playout,
        turns: Turns,
        words: CallerWords,
        answer: Answer,
        presence: Presence,
        tools: Tools,
        transcript: Transcript,
        put: Callable[[str], None],
    ) -> None:
        """Ask these; `put` takes `Progress` as text."""
        self._playout, self._turns, self._words, self._answer = playout, turns, words, answer
        self._presence, self._tools, self._transcript = presence, tools, transcript
        self._put = put
        self.extra: Mapping[str, Any] = {}
        """What the engine itself wants kept."""
        self._unknown: Mapping[str, Any] = {}
        self._noted = Progress()

    def take_up(self, progress: Progress) -> None:
        """Keep what nobody of ours knows."""
        self.extra, self._unknown = progress.extra, progress.unknown

    @property
    def grows(self) -> bool:
        """Whether audio that changes nothing else makes it say something else: what was heard of
        words, an item of which it doesn't know, or that he speaks no more."""
        item = self._noted.last_item != self._playout.last_item
        return item or self._playout.worded or self._words.passed

    @property
    def stale(self) -> bool:
        """Whether audio alone has made it say something else."""
        playout, noted = self._playout, self._noted
        if noted.last_item != playout.last_item or self._words.passed:
            return True
        return noted.items != noted_items(playout.open_items())

    def write(self) -> None:
        """Write it down, if it says something else than the last time."""
        playout, words, answer, tools = self._playout, self._words, self._answer, self._tools
        words.forget()
        progress = Progress(
            items=noted_items(playout.open_items()),
            last_item=playout.last_item,
            tools=tools.open(),
            replying=answer.replying,
            given=answer.given,
            caller=self._transcript.caller_text,
            turn=self._turns.turn,
            since_ms=words.since_ms,
            unanswered=words.unanswered,
            answered_ms=words.answered_ms,
            held=self._presence.on_hold,
            muted=answer.muted,
            extra=self.extra,
            done=tools.done,
            asked=tools.asked,
            notes=dict(tools.notes),
            unknown=self._unknown,
        )
        if progress != self._noted:
            self._noted = progress
            self._put(progress.to_text())
