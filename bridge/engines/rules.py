"""The offline brain: intents, facts and fixed replies, so that what it says is always true.

Nothing is made up: every sentence stands in the agent file, with facts of the same file filled in.
An utterance that clearly means an intent is answered; one that may mean it is asked back ("Do you
want to know about our opening hours?"); anything else gets a fallback that says what can be asked.

    said                                      answer
    ----------------------------------------  -----------------------------------------------------
    yes or no, after asking back              the intent's reply, or "all right"
    a number (keyed in, or three digits and   looked up in the table of the intent that was asking,
    more spoken) that an intent looks up      or of the only one that looks numbers up; or its tool
                                              is used, and what that gave is said
    score >= SURE                             the intent's reply, and its tool
    a question of which the operator's        the sentences that do (`bridge.engines.excerpt`)
    documents speak
    score >= MAYBE                            asking back
    anything else                             the next fallback

It is pure but for the documents, which `think` asks for: `decide` is a function of what was said
and of its memory, which the cascade keeps. Facts are the file's; a variable that the dialplan
passes takes the place of the fact of its name, for that call (`of`).
"""

from __future__ import annotations

import copy
import difflib
import itertools
import re
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.engines import excerpt
from bridge.engines.base import Entry, Expect, Wants
from bridge.engines.english import number, only_number, spell, stem, words, yes_or_no
from bridge.engines.intents import Intent as Intent
from bridge.engines.intents import Lookup as Lookup
from bridge.engines.intents import Rules as Rules
from bridge.engines.matching import Matcher
from bridge.engines.parts import Do, Remember, Said, Say, Step
from bridge.errors import ConfigError

SURE = 0.615
"""From this score on an intent is answered."""

MAYBE = 0.46
"""From this score on it is asked back. Both are set by the paraphrases in the tests."""

MOST_FIXED = 50
"""Of a long table of numbers, only so many answers are rendered before anybody asks."""

REPEAT = "repeat"
_REPEAT_EXAMPLES = (
    "can you repeat that",
    "say that again",
    "repeat please",
    "pardon",
    "what did you say",
    "i did not hear you",
    "i did not catch that",
    "could you say it once more",
)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the brain knows of a call."""

    asked_back: str = ""
    """The intent that a yes would mean,"""
    on_no: str = ""
    """and the one that a no would; "": none."""
    number_for: str = ""
    """The intent that waits for a number."""
    misses: int = 0
    last: str = ""
    """What it said last."""
    looking: tuple[str, str] = ("", "")
    """The intent whose tool is looking a number up, and that number."""


Find = Callable[[str], Awaitable[Sequence[Mapping[str, str]]]]
"""Gives what the documents say of something: `source`, `text` of each piece, the best first."""


class RulesBrain:
    """Answers from an agent file. One serves all calls of an agent."""

    def __init__(
        self,
        intents: Sequence[Intent],
        facts: Mapping[str, str],
        replies: Rules,
        where: str,
        find: Find | None = None,
    ) -> None:
        """Check and compile.

        Args:
            intents: what callers may want.
            facts: what texts may hold, by name.
            replies: for everything else.
            where: how to name the file's table in an error.
            find: searches the operator's documents.

        Raises:
            ConfigError: a text with a fact that isn't there, or two intents of one name.
        """
        self._replies, self._find = replies, find
        self.facts = facts
        self._intents = {intent.name: intent for intent in intents}
        if len(self._intents) < len(intents):
            raise ConfigError(f"{where}: two intents have the same name")
        self._check(where)
        examples = {intent.name: intent.examples for intent in intents}
        self._matcher = Matcher({REPEAT: _REPEAT_EXAMPLES, **examples})

    async def think(self, said: Said, memory: Any, history: Sequence[Entry]) -> AsyncIterator[Step]:
        """The steps of an answer."""
        steps = await self._read_out(said, memory or Memory())
        for step in steps or self.decide(said, memory or Memory()):
            if isinstance(step, Remember):
                yield _expected(step.memory)
            yield step

    def of(self, variables: Mapping[str, str]) -> RulesBrain:
        """The one for a call for which these were passed."""
        one = copy.copy(self)
        one.facts = {name: variables.get(name, value) for name, value in self.facts.items()}
        return one

    def waits_for(self, tool: str, memory: Any) -> bool:
        """Whether it wants to be told what that tool gave."""
        intent = self._intents.get(memory.looking[0]) if isinstance(memory, Memory) else None
        return intent is not None and intent.lookup is not None and intent.lookup.tool == tool

    def fixed(self) -> list[str]:
        """Every text that can be rendered in advance, questions' answers first."""
        texts = [i.reply for i in self._intents.values()]
        texts += [t for i in self._intents.values() for t in i.instead.values()]
        texts += [*self._replies.fallback, *self._replies.no_input, self._replies.no_input_end]
        texts += [self._replies.declined, self._replies.failed]
        texts += [self._ask_back(i) for i in self._intents.values() if i.about]
        texts += [i.failed for i in self._intents.values() if i.failed]
        texts += [i.announce for i in self._intents.values() if i.announce]
        return [self._fill(text) for text in texts] + self._found()

    def _found(self) -> list[str]:
        every = (
            self._fill(i.lookup.found, digits=spell(digits), value=value)
            for i in self._intents.values()
            if i.lookup
            for digits, value in i.lookup.table.items()
        )
        return list(itertools.islice(every, MOST_FIXED))

    def decide(self, said: Said, memory: Memory) -> list[Step]:
        """The steps of an answer, and what to remember of it."""
        if said.kind == "silence":
            return self._silence(said, memory)
        if said.kind in ("failed", "done") and self.waits_for(said.text, memory):
            return self._looked_up(said, memory)
        if said.kind == "failed":
            return self._failed(said.text, memory)
        if said.kind == "declined":
            return self._say(self._replies.declined, memory)
        if said.kind == "answered":
            return self._announce(said)
        digits = said.text if said.kind == "digits" else number(said.text)
        if digits and (intent := self._wants_number(said, memory)):
            return self._look_up(intent, digits, memory)
        if said.kind == "digits":
            return self._miss(memory)
        if memory.asked_back and (answer := yes_or_no(said.text)) is not None:
            meant = memory.asked_back if answer else memory.on_no
            if meant:
                return self._answer(self._intents[meant], said.text, memory)
            return self._say(self._replies.declined, replace(memory, asked_back="", on_no=""))
        return self._words(said.text, memory)

    def understands(self, text: str, memory: Any) -> float:
        """How well it could answer just this, 0 to 1: 1 is an answer, less is asking back."""
        memory = memory or Memory()
        digits = number(text)
        if digits and (intent := self._wants_number(Said("words", text), memory)):
            assert intent.lookup
            return float(bool(intent.lookup.tool) or digits in intent.lookup.table)
        if memory.asked_back and yes_or_no(text) is not None:
            return 1.0
        best = self._matcher.match(text)[0]
        return min(1.0, best.score / SURE) * self._matcher.wholly(best.intent, text)

    # Kinds of answers -----------------------------------------------------------------------------

    async def _read_out(self, said: Said, memory: Memory) -> list[Step]:
        """What the documents say, where no intent is sure to know; [] if they don't."""
        if self._find is None or said.kind != "words" or number(said.text):
            return []
        if memory.asked_back and yes_or_no(said.text) is not None:
            return []
        if self._matcher.match(said.text)[0].score >= SURE:
            return []
        found = await self._find(said.text)
        text = excerpt.answer(said.text, [(one["source"], one["text"]) for one in found])
        if not text:
            return []
        return [Say(text), Remember(replace(memory, asked_back="", on_no="", last=text))]

    def _words(self, text: str, memory: Memory) -> list[Step]:
        best = self._matcher.match(text)[0]
        if best.score >= SURE and best.intent in self._intents:
            return self._answer(self._intents[best.intent], text, memory)
        if best.score >= SURE:  # nobody's but ours
            return self._say(memory.last or self._replies.nothing_to_repeat, memory)
        if best.score >= MAYBE and best.intent in self._intents:
            intent = self._intents[best.intent]
            if intent.about and memory.asked_back != intent.name:
                return self._say(
                    self._ask_back(intent), replace(memory, asked_back=intent.name, on_no="")
                )
        return self._miss(memory)

    def _answer(self, intent: Intent, text: str, memory: Memory) -> list[Step]:
        heard = {stem(w) for w in words(text)}
        reply = next((r for word, r in intent.instead.items() if stem(word) in heard), intent.reply)
        number_for = intent.name if intent.lookup else ""
        after = Memory(intent.yes, intent.no, number_for=number_for, last=memory.last)
        said = self._say(reply, after)
        steps = [Wants(intent.name), *said]
        if intent.tool:
            transfer = {"extension": intent.extension} if intent.tool == "transfer" else {}
            steps.append(Do(intent.tool, {**intent.arguments, **transfer}))
        return steps

    def _wants_number(self, said: Said, memory: Memory) -> Intent | None:
        if memory.number_for:
            return self._intents[memory.number_for]
        able = [i for i in self._intents.values() if i.lookup]
        if said.kind == "digits" or only_number(said.text):
            return able[0] if len(able) == 1 else None
        best = self._matcher.match(said.text)[0]
        return next((i for i in able if i.name == best.intent and best.score >= MAYBE), None)

    def _look_up(self, intent: Intent, digits: str, memory: Memory) -> list[Step]:
        assert intent.lookup
        if intent.lookup.tool:
            after = replace(memory, number_for="", asked_back="", looking=(intent.name, digits))
            wait: list[Step] = [Say(self._fill(intent.lookup.wait))] if intent.lookup.wait else []
            return [
                *wait,
                Remember(after),
                Do(intent.lookup.tool, {intent.lookup.argument: digits}),
            ]
        value = intent.lookup.table.get(digits)
        text = intent.lookup.missing if value is None else intent.lookup.found
        # One that isn't there was misheard or mistyped: the next number is for the same intent.
        number_for = intent.name if value is None else ""
        after = Memory(number_for=number_for, last=memory.last)
        said = self._say(text, after, digits=spell(digits), value=value or "")
        return [Wants(intent.name), *said]

    def _looked_up(self, said: Said, memory: Memory) -> list[Step]:
        """What the tool gave, or that it gave nothing."""
        name, digits = memory.looking
        lookup = self._intents[name].lookup
        assert lookup
        after = Memory(number_for=name if said.kind == "failed" else "", last=memory.last)
        given = said.value if isinstance(said.value, Mapping) else {"value": said.value}
        values = _Values({str(key): _spoken(value) for key, value in given.items()})
        text = lookup.found if said.kind == "done" else lookup.missing
        spoken = text.format_map(_Values({**self.facts, **values, "digits": spell(digits)}))
        return [Say(spoken), Remember(replace(after, last=spoken))]

    def _miss(self, memory: Memory) -> list[Step]:
        texts = self._replies.fallback
        text = texts[min(memory.misses, len(texts) - 1)]
        return self._say(text, replace(memory, asked_back="", on_no="", misses=memory.misses + 1))

    def _silence(self, said: Said, memory: Memory) -> list[Step]:
        texts = self._replies.no_input
        if texts and not said.last:
            # Not worth repeating, and it leaves a question that was asked open.
            return [Say(self._fill(texts[min(said.count, len(texts)) - 1])), Remember(memory)]
        return [Say(self._fill(self._replies.no_input_end)), Do("hang_up")]

    def _announce(self, said: Said) -> list[Step]:
        """To whom a transfer has reached; it isn't the caller, so nothing is remembered."""
        if said.said and yes_or_no(said.said) is False:
            return [Do("take_back")]
        named = re.split(r"[ ,]", said.text)
        every = (i for i in self._intents.values() if i.tool == "transfer" and i.announce)
        intent = next((i for i in every if i.extension in named), None)
        text = intent.announce if intent else self._replies.announce
        return [Say(self._fill(text)), Do("connect")]

    def _failed(self, tool: str, memory: Memory) -> list[Step]:
        tool = "transfer" if tool == "connect" else tool
        intent = next((i for i in self._intents.values() if i.tool == tool and i.failed), None)
        return self._say(intent.failed if intent else self._replies.failed, memory)

    # Texts ----------------------------------------------------------------------------------------

    def _say(self, text: str, memory: Memory, **values: str) -> list[Step]:
        spoken = self._fill(text, **values)
        return [Say(spoken), Remember(replace(memory, last=spoken))]

    def _ask_back(self, intent: Intent) -> str:
        return self._replies.ask_back.replace("{about}", intent.about)

    def _fill(self, text: str, **values: str) -> str:
        return text.format_map({**self.facts, **values})

    def _check(self, where: str) -> None:
        for intent in self._intents.values():
            name = f"{where}: intent '{intent.name}'"
            for other in (intent.yes, intent.no):
                if other and other not in self._intents:
                    raise ConfigError(f"{name}: there is no intent '{other}'; {self._near(other)}")
            own = (intent.reply, intent.about, intent.failed, intent.announce)
            for text in (*own, *intent.instead.values()):
                self._check_text(text, (), name)
            if intent.lookup:
                self._check_text(intent.lookup.wait, (), name)
                for text in (intent.lookup.found, intent.lookup.missing):
                    self._check_text(text, ("digits", "value"), name, open_=intent.lookup.tool)
        replies = self._replies
        for text in (*replies.fallback, *replies.no_input, replies.no_input_end, replies.declined):
            self._check_text(text, (), f"{where}: replies")
        self._check_text(replies.ask_back, ("about",), f"{where}: replies")
        if not replies.fallback:
            raise ConfigError(f"{where}: replies: 'fallback' needs at least one text")

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._intents, n=1)
        return f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(self._intents)}"

    def _check_text(
        self, text: str, more: Sequence[str], where: str, open_: object = False
    ) -> None:
        """`open_`: it may have other names, which nobody knows before."""
        try:
            used = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
        except ValueError as error:
            raise ConfigError(f"{where}: {text!r}: {error}") from error
        known = [*self.facts, *more]
        for name in used:
            if name not in known and not open_:
                near = difflib.get_close_matches(name, known, n=1)
                cure = f"did you mean '{near[0]}'?" if near else f"facts: {', '.join(known)}"
                raise ConfigError(f"{where}: no fact '{name}' for {text!r}; {cure}")


class _Values(dict[str, str]):
    """What a tool's answer doesn't have is left out."""

    def __missing__(self, name: str) -> str:
        return ""


def _spoken(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else "" if value is None else str(value)


def _expected(memory: Memory) -> Expect:
    """What a caller is asked for by an answer that leaves that to remember."""
    if memory.number_for:
        return Expect("number")
    return Expect("yes-no" if memory.asked_back else "")
