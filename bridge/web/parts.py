"""What the API's resources share."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.config import Config
from bridge.sessions.reader import Reader


@dataclass
class Parts:
    """One web process'."""

    config: Config
    """The operator's; read anew on SIGHUP, so ask for it each time."""
    reader: Reader
