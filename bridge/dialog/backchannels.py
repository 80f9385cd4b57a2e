"""What a listener says to show that he listens: it takes nobody's floor.

One list a language. A text is a backchannel if it holds nothing else, phrase by phrase, so that
"yeah, but wait" is none. Where the agent asks something that "yes" answers, none is ignored.
"""

from __future__ import annotations

import re
from enum import Enum

# As a recogniser writes them, its misspellings included ("so" for "oh"), and what it makes of a
# cough ("you").
BACKCHANNELS = {
    "en": """
        uh-huh, uh huh, uh-hu, aha, a-ha, huh, mhm, mhmm, mm, mmm, mm-hmm, mm-hm, mm hmm, mm hm, hm,
        hmm, hmmm, m-hm, um-hum, um-hmm, um hum, mm-mm, uh, uhh, um, umm, er, erm, ah, ahh, oh, ooh,
        yeah, yeah yeah, yep, yup, yes, ya, okay, ok, o.k, kay, alright, all right, right, sure,
        i see, got it, gotcha, of course, go on, good, great, nice, cool, fine, wow, really,
        exactly, true, i know, makes sense, so, you, perfect, lovely, absolutely, definitely,
        excellent, wonderful, i understand, understood, sounds good, that's right, that's good,
        that's fine, very good
        """,
    "de": """
        mhm, mm, hm, hmm, aha, ah, ach, oh, äh, ähm, ja, jo, jep, jaja, okay, ok, gut, schön, genau,
        richtig, klar, stimmt, ach so, alles klar, verstehe, ich verstehe, natürlich, na klar
        """,
    "fr": """
        mhm, mm, hm, hmm, ah, oh, euh, oui, ouais, d'accord, okay, ok, bien, très bien, je vois,
        voilà, exactement, bien sûr, tout à fait
        """,
    "es": """
        mhm, mm, hm, ajá, aja, ah, oh, eh, sí, si, claro, vale, bueno, bien, muy bien, okay, ok, ya,
        ya veo, entiendo, de acuerdo, exacto, por supuesto
        """,
}


# Single words with which one interrupts; whatever else was said, these are meant.
INTERRUPTIONS = {
    "en": """stop wait no nope hold hang halt don't excuse pardon sorry hello hey why but listen
        quiet enough moment second minute""",
    "de": "stopp stop halt warte warten nein moment entschuldigung hallo was warum aber hören ruhe",
    "fr": "stop arrêtez attendez attends non pardon excusez allô quoi pourquoi mais moment",
    "es": "alto para pare espere espera no perdón disculpe hola qué porqué pero momento",
}

CLEAR = 0.3
"""An engine that understood less than this (of 1) may have heard a hum as words."""
_FEW = 3
_LEAST_NASALS = 3
_PLAIN = 0.6
"""What is made of nasals has to be understood better to be words."""


class Weight(Enum):
    """What a text weighs against the agent that is speaking."""

    NOTHING = "nothing"
    BACKCHANNEL = "backchannel"
    WORD = "word"
    """One word that means something, or a few that the engine can do nothing with: they may be
    misheard as long as he speaks."""
    WORDS = "words"


def weigh(
    text: str,
    language: str,
    question: bool = False,
    understood: float | None = None,
    hum: bool = False,
) -> Weight:
    """What a text weighs.

    Recognisers make words of a hum ("That's what."). So a few words that the engine can do nothing
    with weigh no more than one, unless they are among `INTERRUPTIONS`, and nothing where they were
    made of nasals, as hums are ("An anthem."). What sounds like a hum is one, unless every word of
    it is meant ("No, no").

    Args:
        text: as transcribed.
        language: the agent's.
        question: the agent is asking what a mere "yes" answers.
        understood: how well the engine could answer just this, 0 to 1; None: it doesn't say.
        hum: it sounds like one.
    """
    words = _words(text)
    if not words:
        return Weight.NOTHING
    meant = _MEANT.get(language[:2], frozenset())
    if meant & set(words) and not (hum and set(words) - meant):
        return Weight.WORDS
    unclear = understood is not None and understood < CLEAR and len(words) <= _FEW
    if not question:
        listens = _only(tuple(words), _PHRASES.get(language[:2], frozenset()))
        dim = understood is not None and understood < _PLAIN and len(words) <= _FEW
        if hum or listens or (dim and _nasal("".join(words))):
            return Weight.BACKCHANNEL
    return Weight.WORD if len(words) == 1 or unclear else Weight.WORDS


def _nasal(letters: str) -> bool:
    """Whether what was spoken so holds little else than nasals and vowels."""
    sounds = letters.replace("th", "t").replace("nd", "n")
    consonants = re.sub(r"[^bcdfgjklmnpqrstvwxz]", "", sounds)
    nasals = len(re.findall("[mn]", consonants))
    return nasals >= _LEAST_NASALS and 3 * nasals >= 2 * len(consonants)


def _only(words: tuple[str, ...], phrases: frozenset[tuple[str, ...]]) -> bool:
    """Whether `words` are nothing but phrases, one after the other."""
    return (
        not words
        or (bool(_HUMMED.fullmatch(words[0])) and _only(words[1:], phrases))
        or any(
            words[:n] in phrases and _only(words[n:], phrases)
            for n in range(1, min(4, len(words)) + 1)
        )
    )


def _words(text: str) -> list[str]:
    stripped = (word.strip("'.-") for word in re.findall(r"[\w'.-]+", text.lower()))
    return [word for word in stripped if word]


_HUMMED = re.compile("[hmn-]+")
"""Written without a vowel ("mm-h"), in any language."""

_MEANT = {language: frozenset(words.split()) for language, words in INTERRUPTIONS.items()}
_PHRASES = {
    language: frozenset(tuple(_words(phrase)) for phrase in phrases.split(","))
    for language, phrases in BACKCHANNELS.items()
}
