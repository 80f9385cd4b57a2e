"""The engine of the calls through Asterisk: notes when frames come, and echoes them.

The bridge finds it as any engine of others, by an entry point; `pbx.py` writes one. What was noted
is written at the end of each call into the folder that the agent file names.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bridge.agent import Agent
from bridge.engines.base import Audio, CallEvent, Context, Pcm, PerCall, Shared
from bridge.settings import build

PIECE_MS = 200
LEAD_MS = 400


@dataclass(frozen=True)
class BenchSettings:
    """The table `[bench]` of its agent file."""

    folder: str = ""
    """Where a call's notes go."""


class BenchEngine:
    """One call."""

    rate: int = 16_000
    turns: Literal["bridge", "engine"] = "engine"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context: Context | None = None
        self._item = 0
        self._waiting: list[Pcm] = []
        self._samples = 0
        self._lead = self.rate * LEAD_MS // 1000
        self._at: list[tuple[int, int, int, int]] = []
        self._pcm: list[Pcm] = []

    async def start(self, context: Context) -> None:
        """Begin to listen, and leave a file that says so."""
        self._context, self._item = context, context.new_item()
        (self._folder / f"{context.call_id}.started").touch()

    def hear(self, at_ms: int, pcm: Pcm) -> None:
        """Note when, and say it again in pieces as the demo's voice does."""
        frames = len(pcm) * 50 // self.rate
        self._at.append((time.monotonic_ns(), at_ms, frames, time.thread_time_ns()))
        self._pcm.append(pcm.copy())
        self._waiting.append(pcm)
        self._samples += len(pcm)
        if self._samples >= max(self._lead, self.rate * PIECE_MS // 1000) and self._context:
            self._context.emit(Audio(self._item, np.concatenate(self._waiting)))
            self._waiting.clear()
            self._samples = self._lead = 0

    def notify(self, event: CallEvent) -> None:
        """Nothing matters."""

    async def close(self) -> None:
        """Write what was noted."""
        if self._context is not None and self._at:
            np.savez(
                self._folder / f"{self._context.call_id}.npz",
                at=np.array(self._at, np.int64),
                pcm=np.concatenate(self._pcm),
            )
            self._context = None


def provider(agent: Agent, shared: Shared) -> PerCall:
    """The registry's entrance."""
    settings = build(BenchSettings, agent.options, f"agents/{agent.name}.toml: [bench]")
    return PerCall(lambda: BenchEngine(Path(settings.folder)))
