"""A transcript for others: each line with its place in the sound, and as WebVTT. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.sessions.model import Line, Record, Role

_LEAST_MS = 500
"""How long a line is shown whose length isn't known."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One line of a transcript; ms count from `zero`."""

    at: float
    """When it was certain, seconds since 1970."""
    role: Role
    text: str
    heard_ms: int | None
    cut: bool
    begin_ms: int
    end_ms: int


def zero(record: Record) -> float:
    """What times of a call count from: its recording's beginning, else the answer's."""
    told = json.loads(record.recording) if record.recording else {}
    return float(told.get("started") or record.answered or record.started)


def place(record: Record, lines: Iterable[Line]) -> tuple[Placed, ...]:
    """Where each line lies."""
    start = zero(record)

    def ms(at: float) -> int:
        return max(0, round((at - start) * 1000))

    return tuple(
        Placed(
            *(s.at, s.role, s.text, s.heard_ms, s.cut),
            begin_ms=ms(s.begin or s.at),
            end_ms=max(ms(s.end or s.at), ms(s.begin or s.at)),
        )
        for s in lines
    )


def webvtt(lines: Iterable[Placed]) -> str:
    """As WebVTT (W3C): a cue a line of caller or agent, with the voice's name; in order."""
    spoken = sorted((s for s in lines if s.role in ("caller", "agent") and s.text), key=_begin)
    cues = [
        f"{_time(s.begin_ms)} --> {_time(max(s.end_ms, s.begin_ms + _LEAST_MS))}\n"
        f"<v {s.role.capitalize()}>{_escaped(s.text)}{' —' if s.cut else ''}\n"
        for s in spoken
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _begin(line: Placed) -> int:
    return line.begin_ms


def _time(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"


def _escaped(text: str) -> str:
    plain = " ".join(text.split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
