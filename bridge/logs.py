"""Log lines for people, on stderr, each with the id of the call that it is about.

The id travels in a context variable, so that code that knows nothing of calls logs it too.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

call_id: ContextVar[str] = ContextVar("call_id", default="-")

_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(call)s %(name)s: %(message)s"


def set_up(level: str) -> None:
    """Log to stderr from `level` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT, datefmt="%H:%M:%S"))
    handler.addFilter(_stamp)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _stamp(record: logging.LogRecord) -> bool:
    record.call = call_id.get()
    return True
