"""What the API's resources share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from bridge.config import Config
from bridge.sessions.reader import Reader


@dataclass
class Parts:
    """One web process'."""

    config: Config
    """The operator's; read anew on SIGHUP, so ask for it each time."""
    reader: Reader
    heavy: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """A whole recording is gone through: for one request at a time."""
