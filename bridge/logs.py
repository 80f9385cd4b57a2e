"""Log lines on stderr, for people or for programs, each with the id of the call that it is about.

    12:00:01.500 INFO    1763.4 bridge.call: call from 555 to 700          format = "text"
    {"at": "2026-11-23T12:00:01.500Z", "level": "info", "call": …}         format = "json"

The id travels in a context variable, so that code that knows nothing of calls logs it too. Every
line has it, those of a traceback as well; a line break in what a far end said begins no line of its
own.

No line holds a secret: what is known for one (`bridge.secrets`) is taken out of the finished line,
traceback and all, and so is what looks like one. Libraries log from `warning` on only: at `debug`
theirs hold whole messages, keys that callers press among them.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextvars import ContextVar
from typing import Literal

from bridge import secrets

call_id: ContextVar[str] = ContextVar("call_id", default="-")

OURS = "bridge"
"""Loggers whose level is the operator's."""
_TEXT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(call)s %(name)s: %(message)s"
_HIDDEN = "***"
_LOOKS_SECRET = re.compile(
    r"(?i)(\b(?:basic|bearer) +|[?&](?:api_?)?key=)[^\s@&\"']+"
    r"|(://[^\s/:@]*:)[^\s/@]+(?=@)"  # of a URL's login; not its port
)


def set_up(level: str, form: Literal["text", "json"] = "text") -> None:
    """Log to stderr; our own lines from `level` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if form == "json" else Text())
    handler.addFilter(_stamp)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.getLogger(OURS).setLevel(level.upper())


class Text(logging.Formatter):
    """For people."""

    def __init__(self) -> None:
        super().__init__(_TEXT, datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """A line, and each further one with the call's id before it."""
        call = getattr(record, "call", "-")
        return _clean(super().format(record)).replace("\n", f"\n             {call} | ")


class Json(logging.Formatter):
    """For programs: an object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        table = {
            "at": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "call": getattr(record, "call", "-"),
            "logger": record.name,
            "process": record.process,
            "message": _clean(record.getMessage()),
        }
        if record.exc_info:
            table["exception"] = _clean(self.formatException(record.exc_info))
        return json.dumps(table, ensure_ascii=False)


def _clean(text: str) -> str:
    """Without secrets."""
    for secret in sorted(secrets.known, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, _HIDDEN)
    return _LOOKS_SECRET.sub(lambda found: (found[1] or found[2]) + _HIDDEN, text)


def _stamp(record: logging.LogRecord) -> bool:
    record.call = call_id.get()
    return True
