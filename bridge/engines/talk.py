"""What a language model reads in a cascade: the conversation, and what isn't speech in words."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.engines.base import Entry, Resume
from bridge.engines.parts import Said
from bridge.engines.prompt import Used

GO_ON = (
    "The line broke off behind these words. Go on where you stopped, without a word about it and "
    "without repeating anything; if all was said, say nothing."
)
SILENT = "The caller has said nothing for a while. Ask whether he is still there."
SILENT_TO_THE_END = "The caller still says nothing. Say goodbye: the call ends now."
"""What a model is told."""


def lines(said: Said) -> list[Entry]:
    """How it stands in a conversation."""
    match said:
        case Said("words", text):
            return [Entry("caller", text)]
        case Said("digits", text):
            return [Entry("dtmf", text)]
        case Said("silence", last=last):
            return [Entry("event", SILENT_TO_THE_END if last else SILENT)]
    return []  # a tool that failed stands there already


def as_given(history: Sequence[Entry], resume: Resume) -> list[Entry]:
    """The conversation, with all of a reply that was begun, heard or not."""
    if not resume.given:
        return list(history)
    whose = [e.role in ("caller", "dtmf") for e in history]
    asked = len(whose) - whose[::-1].index(True) if any(whose) else 0
    done = [e for e in history[asked:] if isinstance(e, Used)]
    text = " ".join(resume.given)
    if not text.endswith(resume.rest):
        text = f"{text} {resume.rest}"
    go_on = [] if done else [Entry("event", GO_ON)]
    return [*history[:asked], Entry("agent", text), *done, *go_on]
