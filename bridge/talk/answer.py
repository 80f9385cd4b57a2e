"""What the agent says to the caller, or owes him, and what becomes of it when he cuts it short.

Theory of operation. A *reply* is owed from the end of the caller's turn until the engine says that
this is all. Its items are begun one by one (whoever takes the call up must not say them again), its
tools run when all before them has been heard. Whoever interrupts it drops what isn't played yet,
and the tools that haven't begun. While something is owed and nothing is to be heard, a filler is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import bridge.engines.base as engines
from bridge.dialog.turns import State, Turns
from bridge.filler import Filler
from bridge.mouth import Mouth
from bridge.sessions.model import BARGE_IN
from bridge.talk.words import CallerWords
from bridge.tools import Tools
from bridge.transcript import Transcript


class Answer:
    """One call's."""

    def __init__(
        self,
        mouth: Mouth,
        turns: Turns,
        words: CallerWords,
        tools: Tools,
        transcript: Transcript,
        filler: Filler,
        note: Callable[[], None],
    ) -> None:
        """Speak by `mouth`, and act by `tools`.

        Args:
            mouth: the agent's audio.
            turns: who has the floor.
            words: the caller's, which it answers.
            tools: what it does.
            transcript: where it is written down that it was cut short.
            filler: what bridges a long wait for it.
            note: writes down how far the call has got.
        """
        self._mouth, self._turns, self._words, self._tools = mouth, turns, words, tools
        self._transcript, self._filler, self._note = transcript, filler, note
        self.replying = False
        """Whether the engine hasn't said all that it has to say."""
        self.muted = False
        """Nothing of the agent is to be heard."""
        self.begun = asyncio.Event()
        """The engine has given its first audio, or has nothing to say."""
        self._given: list[tuple[int, str]] = []

    def take_up(self, resume: engines.Resume, *, muted: bool) -> None:
        """Go on with what another process began."""
        self.replying, self.muted = resume.replying, muted
        self._given = [(0, text) for text in resume.given] if resume.replying else []

    @property
    def given(self) -> tuple[tuple[int, str], ...]:
        """Items that the engine began in the present reply, and their texts."""
        return tuple(self._given)

    def reply(self, on: bool) -> None:
        """A reply of the engine's begins or is over."""
        self.replying = on
        if not on:
            self._words.settled()
        self._given.clear()
        self._note()

    def text(self, item: int, text: str) -> None:
        """More of what an item says."""
        if not self._mouth.playout.text(item, text):
            return  # it was dropped
        self.replying = True
        self._words.settled()
        if self._given and self._given[-1][0] == item:
            self._given[-1] = (item, self._given[-1][1] + text)
        else:
            self._given.append((item, text))
        self._note()

    def next_tool(self) -> None:
        """Run one that waits for all before it to be heard, if it has been."""
        if not self._mouth.playing:
            self._tools.next()

    # Cut short ------------------------------------------------------------------------------------

    def interrupted(self) -> None:
        """The caller has cut it short."""
        self._transcript.say("event", BARGE_IN)
        self._end()

    def cut(self) -> None:
        """What the agent is saying is over, and not because of the caller."""
        if self._mouth.playing or self.replying:
            self._turns.interrupted()
            self._end()

    def withdrawn(self) -> None:
        """The caller speaks on, so that it is no answer any more."""
        self._drop()
        self.reply(False)

    def _end(self) -> None:
        self._drop()
        self._tools.over()
        self.reply(False)

    def _drop(self) -> None:
        """What isn't played yet never will be."""
        self._mouth.drop()
        self._tools.cancel()

    # Waited for -----------------------------------------------------------------------------------

    def due(self, since_ms: int) -> None:
        """The caller is silent since then, and may wait for something."""
        self._filler.silent_since(since_ms)

    def bridge(self, now_ms: int) -> bool:
        """Bridge a long wait; whether none is near."""
        mouth = self._mouth
        silent = (mouth.idle or mouth.silent) and not self.muted
        clip = self._filler.due(now_ms, silent and not mouth.held and self._owed)
        if clip is not None:
            mouth.fill(clip)
        return self._filler.rests

    @property
    def _owed(self) -> bool:
        """Whether the caller waits for something."""
        turns = self._turns
        if turns.state is State.THINKING:
            return True
        # The answer to keys is no turn's, so the floor stays the caller's until he hears it.
        if self.replying and turns.state is State.LISTENING and not turns.caller_speaks:
            return True
        return any(tool.begun for tool in self._tools.open())
