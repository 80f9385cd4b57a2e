"""Whether what a caller has said so far is a whole sentence: how long a silence ends his turn.

A fixed silence is either rude (it cuts in where a caller looks for a word) or slow (every answer
comes late). So the words decide, which the speech-to-text gives while the caller speaks:

    COMPLETE    a question, a request or a wish in which nothing is missing,   complete_silence_ms
                and the engine has an answer to just this
    UNSURE      no words yet, or nothing speaks for either: a statement,       end_silence_ms
                behind which the question often is still to come
    INCOMPLETE  it breaks off: "I would like to", "and", "uh", a number under  incomplete_silence_ms
                way, or a number was asked for

Language is English; of another language, and of an engine that gives no words, every turn is
`UNSURE`, which is the fixed silence that everybody has.

What is looked at is the end of the text (a recogniser's punctuation says little: it sets a full
stop behind everything), and for a few words what the sentence began with: "when do you open" is a
question, "when I came home" is half of a sentence; "what are you looking for" may end so, "I am
looking for" may not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from itertools import dropwhile, pairwise
from typing import Literal

from bridge.agent import TurnSettings

Expected = Literal["", "number", "yes-no"]
"""What the agent has asked for: nothing in particular, a number, or yes or no."""

HALF_UNDERSTOOD, UNDERSTOOD, WHOLLY = 0.65, 0.8, 0.95
"""From this on (0 to 1) an engine's own opinion counts as an answer to just these words: to a
question of some length, to another question or request, and to a few words that are neither ("gift
vouchers", "goodbye")."""


class Completeness(Enum):
    """How whole a turn is so far."""

    COMPLETE = "complete"
    UNSURE = "unsure"
    INCOMPLETE = "incomplete"


def end_silence_ms(
    settings: TurnSettings,
    text: str,
    expected: Expected = "",
    understood: float | None = None,
    language: str = "en",
) -> int:
    """Silence that ends a turn in which `text` was said so far; "" if no words are known.

    Args:
        settings: the agent's three thresholds.
        text: the turn's words, as transcribed.
        expected: what the agent has asked for.
        understood: how well the engine could answer just this, 0 to 1; None: it doesn't say.
        language: of the agent.
    """
    found = judge(text, expected, understood, language)
    if found is Completeness.COMPLETE:
        return settings.complete_silence_ms
    if found is Completeness.INCOMPLETE:
        return settings.incomplete_silence_ms
    return settings.end_silence_ms


def judge(
    text: str, expected: Expected = "", understood: float | None = None, language: str = "en"
) -> Completeness:
    """See `end_silence_ms`."""
    words = _WORD.findall(text.lower().replace("’", "'"))
    if expected == "number" and not _asks_instead(words):
        return Completeness.INCOMPLETE  # digits come in groups, with long pauses between them
    if not words or language != "en":
        return Completeness.UNSURE
    if _breaks_off(words, text.rstrip()):
        return Completeness.INCOMPLETE
    if _half(words):
        misheard = understood is not None and understood >= WHOLLY
        return Completeness.UNSURE if misheard else Completeness.INCOMPLETE
    if _open_ended(words, expected) or text.rstrip().endswith(","):
        return Completeness.UNSURE
    wants = _wants(words) or (expected == "yes-no" and not _ANSWERS.isdisjoint(words))
    if understood is None:
        whole = wants and len(words) >= _LEAST_WORDS
    elif len(words) <= _FEW:
        whole = understood >= (UNDERSTOOD if wants else WHOLLY)
    else:
        enough = HALF_UNDERSTOOD if _whole_question(words) else UNDERSTOOD
        whole = wants and understood >= enough
    return Completeness.COMPLETE if whole else Completeness.UNSURE


# What an English sentence doesn't end with --------------------------------------------------------

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*|\d+")

_LEAST_WORDS = 3
"""Fewer may be the beginning of anything, unless the engine knows better."""


_LEAST_QUESTION, _FEW = 4, 3


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEVER_LAST = _set("""
    a an the my your our their whose every
    and or but because although though whether unless than if
    i we they he she who's what's where's how's there's that's it's i'm you're we're they're
    i'd you'd we'd they'd i'll you'll we'll they'll i've you've we've they've let's
    uh uhm um umm er erm hm hmm mm eh
    very quite rather such
    into onto between during regarding concerning via per
    want wants wanted wanna gonna wonder wondering
""")
"""Whatever came before, more must follow."""

_MODALS = _set("can could may might will would shall should must")

_LAST_IN_QUESTIONS = _MODALS | _set("""
    to of in on at by for from with about as like
    is are was were am be been do does did have has had
    know tell say ask need get give speak talk looking trying going thinking calling talking
""")
"""May end a question ("where are you from", "what do you need"), or a question within a sentence
("tell me where you are"), but no plain statement."""

_LAST_IN_ANSWERS = _set(
    "do does did am is are was were can could will would should have has had know"
)
"""May end a short answer: "yes I am", "I don't know"."""

_QUESTION = _set("what where when who whom whose how why which what's where's how's who's")

_AUXILIARY = _set("""
    is are was were am do does did have has had can could may might will would shall should must
    isn't aren't wasn't don't doesn't didn't haven't hasn't can't couldn't won't wouldn't shouldn't
    about much many long late far often old soon time kind sort
""")
"""What follows a question word in a question (and in "how long", "what time")."""

_ASKING = _QUESTION | _set("""
    is are was were am do does did have has had can could may might will would shall should
    isn't aren't don't doesn't didn't haven't hasn't can't couldn't won't wouldn't
""")
"""What a question begins with."""

_BEFORE_VERB = _set("do does did can could would will have had should might may must if when")
"""Before "you", they want a verb behind it."""

_BEFORE_MORE = frozenset(
    ("tell me", "let me", "give me", "show me", "ask you", "want you", "like you", "need you")
)
"""Pairs of words that only a question ends with ("what can you tell me")."""

_CLAUSE = _set("if when because although though since while after before once as unless")
"""Begin a clause that needs another one behind it."""

_PRONOUN = _set("i you we they he she it my your the this that there someone somebody people")

_ALONE = _set("""
    hello hi hey good morning afternoon evening yes yeah yep no nope okay ok well so right please
    thanks thank you sorry excuse me now then actually oh ah sure alright listen look
""")
"""What people say before they say what they want."""

_REQUESTS = _set("""
    give tell show let put connect transfer send help repeat say speak talk explain check track read
    take bring find call cancel stop wait hold go come start
""")
"""What a request begins with."""

_WISHES = frozenset(("want", "need", "like", "wanna", "wish", "please", "wondering", "wanted"))
"""Of somebody who says what he wants ("I would like to …"), wherever in the sentence."""

_BEFORE_QUESTIONS = _set("until till at for from to by since in on with about")
"""Before a question word: "until when", "at what time"."""

_LEAVE = _set("thanks bye goodbye")
"""What a conversation ends with ("that is all, thank you")."""

_INVERTED = _set("is are do does did can could may will would shall should")
_SUBJECT = _set("i you we they it there")
"""An auxiliary before its subject: a question, also behind another clause."""

_ANSWERS = _set("yes yeah yep no nope sure correct exactly absolutely definitely")
"""What "yes" or "no" is among; "okay" and "right" as often begin something else."""

_DIGITS = _set("""
    zero oh one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty
    ninety hundred thousand double triple
""")

_BEFORE_TIMES = _set("at until till by after before past around from to about for on and the than")
"""Before a number that is a time, a date or an amount: then it may be whole."""


def _breaks_off(words: Sequence[str], text: str) -> bool:
    """Whether more must come."""
    last = words[-1]
    if last in _NEVER_LAST or text.endswith(("-", "–", "…", "...")):
        return True
    if last == "you" and len(words) > 1 and words[-2] in _BEFORE_VERB:
        return True
    if " ".join(words[-2:]) in _BEFORE_MORE:
        return not any(w in _QUESTION for w in words)
    if last in ("no", "some", "any", "this", "these", "those", "that", "more", "another") and (
        len(words) > 1 and words[-2] in _LAST_IN_QUESTIONS
    ):
        return last not in ("that", "this", "more")
    if last in _LAST_IN_QUESTIONS:
        return not _may_end(words)
    if last in _QUESTION:
        return len(words) > 1 and words[-2] not in ("you", "say", "know", "or", "and")
    return _number_under_way(words)


def _may_end(words: Sequence[str]) -> bool:
    """Whether a sentence may end with this auxiliary, preposition or verb."""
    asked = any(w in _QUESTION for w in words[:-2]) and not _statement_like(words)
    if asked and words[-1] not in _MODALS:
        return True
    if words[-1] == "like":
        return any(w in ("look", "looks", "sound", "sounds", "you") for w in words[-3:-1])
    answers = words[-1] in _LAST_IN_ANSWERS and len(words) <= 5
    return answers and any(w in ("yes", "no", "not", "don't", "yeah") for w in words)


def _statement_like(words: Sequence[str]) -> bool:
    """ "... what the": what follows the question word is only beginning."""
    at = max(i for i, w in enumerate(words) if w in _QUESTION)
    return len(words) - at <= 2


def _number_under_way(words: Sequence[str]) -> bool:
    """Whether the text names a number, or ends with spoken digits as in one."""
    if any(pair in (("number", "is"), ("number", "was")) for pair in pairwise(words)):
        return True
    if words[-1] in ("number", "numbers"):
        return words[0] not in _ASKING
    run = 0
    for word in reversed(words):
        if word not in _DIGITS and not word.isdigit():
            break
        run += 1
    if not run:
        return False
    if run == len(words):
        return True
    # "someone" and "anyone" are heard as two words, so one "one" says nothing.
    return run > 2 or (words[-1] != "one" and words[len(words) - run - 1] not in _BEFORE_TIMES)


def _whole_question(words: Sequence[str]) -> bool:
    """Whether it is a question of some length: whoever asks one waits for the answer."""
    first = next((w for w in words if w not in _ALONE), "")
    return first in _ASKING and len(words) >= _LEAST_QUESTION


def _asks_instead(words: Sequence[str]) -> bool:
    """Whether somebody who was asked for a number has a question himself."""
    return _whole_question(words) and not any(w in _DIGITS or w.isdigit() for w in words)


def _wants(words: Sequence[str]) -> bool:
    """Whether it is a question, a request or a wish: whoever only states something ("I have been
    waiting for two weeks") is mostly about to ask something."""
    said = list(dropwhile(lambda w: w in _ALONE or w in ("and", "but", "or"), words))
    if not said or said[0] in _ASKING or said[0] in _REQUESTS or _WISHES & set(said):
        return True
    if said[1:] and said[0] in _BEFORE_QUESTIONS and said[1] in _QUESTION:
        return True
    if said[-1] in _LEAVE or {("thank", "you"), ("looking", "for")} & set(pairwise(words)):
        return True
    return any(
        a in _INVERTED and b in _SUBJECT and before not in _PRONOUN
        for before, (a, b) in zip(said, pairwise(said[1:]), strict=False)
    )


def _half(words: Sequence[str]) -> bool:
    """Whether only a subordinate clause was said: "if I order today"."""
    first = words[0] if words[0] not in _ALONE or len(words) < 2 else words[1]
    if first not in _CLAUSE or len(words) > 8:
        return False
    second = words[list(words).index(first) + 1] if words[-1] != first else ""
    return second in _PRONOUN or not second


def _open_ended(words: Sequence[str], expected: Expected) -> bool:
    """Whether it is only what people say before they come to the point."""
    if expected == "yes-no" and not _ANSWERS.isdisjoint(words):
        return False
    return len(words) <= 4 and all(w in _ALONE for w in words)
