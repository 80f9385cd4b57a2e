"""What the API takes and gives, as dataclasses: the names that its users know.

Times are seconds since 1970.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from bridge.schema import LIMITS
from bridge.sessions.base import Member
from bridge.sessions.model import Line, Record


@dataclass(frozen=True, slots=True)
class Call:
    """One call, under way or ended."""

    id: str
    direction: Literal["in", "out"]
    state: Literal["setup", "ringing", "talking", "ended"]
    agent: str
    engine: str
    caller: str
    """The number of who talks with the agent, whichever side has called."""
    caller_id: str
    """Of a call of ours: the number that was shown."""
    dialed: str
    pbx: str
    worker: str
    started: float
    answered: float | None
    ended: float | None
    seconds: float
    """From its begin to its end, or to now."""
    result: str
    """How it ended; empty while it goes on."""
    reason: str

    @classmethod
    def of(cls, record: Record, now: float) -> Call:
        """Of a record, at the time `now`."""
        over = record.ended or (record.started if record.state == "ended" else 0.0)
        return cls(
            id=record.call_id,
            direction=record.direction,
            state=record.state,
            agent=record.agent,
            engine=record.engine,
            caller=record.caller,
            caller_id=record.caller_id,
            dialed=record.dialed,
            pbx=record.pbx,
            worker=record.worker,
            started=record.started,
            answered=record.answered or None,
            ended=over or None,
            seconds=round(max(0.0, (over or now) - record.started), 3),
            result=record.result,
            reason=record.reason,
        )


@dataclass(frozen=True, slots=True)
class Said:
    """One line of a transcript; `heard_ms` and `cut` of the agent's only."""

    at: float
    role: Literal["caller", "agent", "dtmf", "event"]
    text: str
    heard_ms: int | None
    cut: bool

    @classmethod
    def of(cls, line: Line) -> Said:
        """As the transcript has it."""
        return cls(line.at, line.role, line.text, line.heard_ms, line.cut)


@dataclass(frozen=True, slots=True)
class CallDetail(Call):
    """One call with all that is known of it."""

    codec: str
    variables: tuple[str, ...]
    """What the dialplan (or who asked for the call) passed: `name=value`."""
    transcript: tuple[Said, ...]
    latency: tuple[Mapping[str, Any], ...]
    """Of each turn and interruption where its time went, ms."""
    audio: Mapping[str, Any]
    """How good the audio is, on both legs."""
    recording_parts: int
    """How many parts its recording has; 0: it isn't recorded."""

    @classmethod
    def all_of(cls, record: Record, lines: Iterable[Line], now: float) -> CallDetail:
        """Of a record and its transcript, at the time `now`."""
        call = Call.of(record, now)
        return cls(
            **{f.name: getattr(call, f.name) for f in fields(call)},
            codec=record.codec,
            variables=tuple(json.loads(record.variables or "[]")),
            transcript=tuple(Said.of(line) for line in lines),
            latency=tuple(json.loads(record.latency or "[]")),
            audio=json.loads(record.audio or "{}"),
            recording_parts=len(json.loads(record.recording or "{}").get("parts", ())),
        )


@dataclass(frozen=True, slots=True)
class CallList:
    """Calls, the last begun first."""

    calls: tuple[Call, ...]
    next: float | None
    """What to give as `before` for those that began earlier; None: these are all."""


@dataclass(frozen=True, slots=True)
class CallQuery:
    """Which calls."""

    live: bool = False
    """Only those that haven't ended."""
    limit: int = field(default=50, metadata={LIMITS: {"minimum": 1, "maximum": 500}})
    before: float | None = None
    """Only those that began before this time."""

    def __post_init__(self) -> None:
        if self.before is not None and not math.isfinite(self.before):
            raise ValueError(f"'before' is {self.before}; it takes a time")
        if not 1 <= self.limit <= 500:
            raise ValueError(f"'limit' is {self.limit}; it takes 1 to 500")


@dataclass(frozen=True, slots=True)
class CallOrder:
    """Whom to call, and who speaks."""

    to: str
    """A number or name that `[outbound] destinations` allows."""
    agent: str
    caller_id: str = ""
    """To be shown; one of `[outbound] caller_ids`, by default the first."""
    variables: dict[str, str] = field(default_factory=dict)
    """For the agent, and set on the channel."""
    timeout_s: int | None = None
    """So long it may ring; at most, and by default, `[outbound] ring_s`."""
    machine: Literal["", "hang-up", "tell"] = ""
    """If an answering machine answers: don't look for one, hang up, or tell the agent
    (variable `machine`)."""
    asterisk: str = ""
    """Which one calls, where there are several."""
    idempotency_key: str = ""
    """The same as the header `Idempotency-Key`: asked for twice with it, somebody is called once.
    Kept for a day."""


@dataclass(frozen=True, slots=True)
class TransferOrder:
    """Where a caller is to go on."""

    to: str = field(metadata={LIMITS: {"minLength": 1, "maxLength": 200}})
    """As the agent may transfer to."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.to) <= 200:
            raise ValueError("'to' takes 1 to 200 letters")


@dataclass(frozen=True, slots=True)
class MuteOrder:
    """Whether the agent is silenced."""

    on: bool = True


@dataclass(frozen=True, slots=True)
class SayOrder:
    """What the agent is to say."""

    text: str = field(metadata={LIMITS: {"minLength": 1, "maxLength": 1000, "pattern": r"[^\s]"}})

    def __post_init__(self) -> None:
        if not self.text.strip() or len(self.text) > 1000:
            raise ValueError("'text' takes 1 to 1000 letters")


@dataclass(frozen=True, slots=True)
class HangUpOrder:
    """Why a call is ended, for its record."""

    reason: str = field(default="hung up over the API", metadata={LIMITS: {"maxLength": 200}})

    def __post_init__(self) -> None:
        if len(self.reason) > 200:
            raise ValueError("'reason' takes at most 200 letters")


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process."""

    name: str
    alive: bool
    takes_calls: bool
    calls: int
    started: float
    host: str
    """Workers with the same one share a media process."""

    @classmethod
    def of(cls, member: Member) -> Worker:
        """Of what the registry knows."""
        return cls(
            *(member.name, member.alive, member.takes, member.load, member.started, member.place)
        )


@dataclass(frozen=True, slots=True)
class WorkerList:
    """Every worker that the registry knows."""

    workers: tuple[Worker, ...]
