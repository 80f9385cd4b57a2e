"""What a cascade knows of its call: the conversation as it was heard, and what its brain keeps.

An answer that is begun before its turn is over may be taken back: `mark` before it, `take_back`
when it is. What the caller has heard meanwhile, and what was done, stays: no withdrawal undoes it.

What a brain has put off is the one thing that can't be thought anew from the conversation, so it is
kept with the session (`state`), from the question whether to go on until the answer to that is
over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.engines.base import Entry
from bridge.engines.english import yes_or_no
from bridge.engines.parts import Brain, Do, Remember, Said, Say, Step
from bridge.engines.prompt import Used

MAX_HISTORY = 200
_LATER = "later"


class Memory:
    """One call's."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.brains: Any = None
        """The brain's own memory; None at first, and of a model."""
        self.history: list[Entry] = []
        """The conversation, the oldest line first; the last `MAX_HISTORY` of it."""
        self.rejoining = False
        """The caller, who is back, hasn't said yet whether to go on."""
        self.later: list[Step] = []
        """What the brain had still to say and do when its answer became too long."""
        self.state: Mapping[str, Any] = {}
        """What a successor has to know of that."""
        self._before: tuple[Any, list[Entry]] | None = None

    def remember(self, entry: Entry) -> None:
        """Another line."""
        self.history.append(entry)
        del self.history[:-MAX_HISTORY]

    def keep(self, brains: Any) -> None:
        """What the brain wants to know at its next answer."""
        self.brains = brains

    def put_off(self, steps: list[Step]) -> Mapping[str, Any]:
        """That is for when the caller wants to hear more. Returns the new `state`."""
        self.later = steps
        self.state = {_LATER: [_noted(step) for step in steps]} if steps else {}
        return self.state

    def asked(self) -> None:
        """The caller has said whether he wants to, and is being answered."""
        self.later = []

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Another process' `state`."""
        self.state = state
        self.later = [_step(one) for one in state.get(_LATER, ())]

    def rejoined(self) -> None:
        """The caller has said it."""
        self.rejoining = False

    def forget(self) -> None:
        """He wants to begin anew."""
        self.brains, self.history = None, []

    def mark(self) -> None:
        """What comes now may be taken back."""
        self._before = self.brains, list(self.history)

    def stand(self) -> None:
        """What comes now can't be."""
        self._before = None

    def take_back(self) -> None:
        """As it was at `mark`, but for what was heard and done."""
        if self._before is None:
            return
        self.brains, before = self._before
        known = {id(entry) for entry in before}
        since = [
            entry
            for entry in self.history
            if id(entry) not in known and (entry.role == "agent" or isinstance(entry, Used))
        ]
        self.history = (before + since)[-MAX_HISTORY:]
        self._before = None

    async def recall(self, brain: Brain, history: Sequence[Entry], question: str) -> None:
        """Think the caller's lines through again, for what the brain makes of them: not what he
        said to the `question` whether to go on, for that was none of its own."""
        for n, entry in enumerate(history):
            if entry.role in ("caller", "dtmf"):
                said = Said("words" if entry.role == "caller" else "digits", entry.text)
                if n and history[n - 1] == Entry("agent", question):
                    match yes_or_no(entry.text):
                        case True:
                            continue
                        case False:
                            said = Said("declined")
                async for step in brain.think(said, self.brains, history[:n]):
                    if isinstance(step, Remember):
                        self.brains = step.memory


def _noted(step: Step) -> dict[str, Any]:
    """As JSON has it."""
    match step:
        case Say(text):
            return {"say": text}
        case Do(name, arguments):
            return {"do": name, "with": dict(arguments)}
    raise TypeError(f"{type(step).__name__} is not put off")


def _step(noted: Mapping[str, Any]) -> Step:
    return Do(noted["do"], noted["with"]) if "do" in noted else Say(noted["say"])
