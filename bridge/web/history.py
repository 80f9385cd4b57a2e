"""Resource: what is over. Search, transcripts, erasure."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from bridge.agent import recording_folders
from bridge.recording import notes
from bridge.recording.notes import Notes
from bridge.schema import LIMITS
from bridge.sessions import export
from bridge.sessions.export import Placed
from bridge.sessions.history import History, Wanted
from bridge.sessions.model import Line, Record
from bridge.web import recordings
from bridge.web.parts import Parts
from bridge.web.routes import Asked, Route

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Summary:
    """One call that is over."""

    id: str
    caller: str
    dialed: str
    agent: str
    engine: str
    result: str
    reason: str
    started: float
    answered: float | None
    ended: float | None
    duration_s: float
    recording: bool
    """Whether it was recorded; its sound may be deleted by now."""

    @classmethod
    def of(cls, record: Record) -> Summary:
        """Of a record."""
        return cls(
            id=record.call_id,
            caller=record.caller,
            dialed=record.dialed,
            agent=record.agent,
            engine=record.engine,
            result=record.result,
            reason=record.reason,
            started=record.started,
            answered=record.answered or None,
            ended=record.ended or None,
            duration_s=round(max(0.0, (record.ended or record.started) - record.started), 3),
            recording=bool(record.recording),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Calls that are over, the last begun first."""

    calls: tuple[Summary, ...]
    next: float | None
    """What to give as `cursor` for those before; None: these are all."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which calls; parts of a number and of what was said do."""

    caller: str = ""
    agent: str = ""
    result: str = ""
    text: str = ""
    since: float | None = None
    until: float | None = None
    limit: int = field(default=50, metadata={LIMITS: {"minimum": 1, "maximum": 500}})
    cursor: float | None = None

    def __post_init__(self) -> None:
        for name in ("since", "until", "cursor"):
            if (at := getattr(self, name)) is not None and not math.isfinite(at):
                raise ValueError(f"'{name}' is {at}; it takes a time")
        if not 1 <= self.limit <= 500:
            raise ValueError(f"'limit' is {self.limit}; it takes 1 to 500")


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a call."""

    id: str
    zero: float
    """What the lines' ms count from: the recording's beginning, else the answer's."""
    lines: tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class Erased:
    """What was deleted."""

    calls: int
    recordings: int
    live: int
    """Calls of his that go on, and were left alone: ask again when they are over."""
    not_here: int
    """Recordings that this host doesn't have: deleted before, or another host's, whose API has to
    be asked, too."""


def routes(parts: Parts) -> list[Route]:
    """Of this resource."""
    them = _Routes(parts)
    call = "/v1/calls/{id}"
    return [
        Route(
            *("GET", "/v1/history", "Search calls that are over", them.search),
            query=Search,
            gives=Found,
        ),
        Route(
            *("GET", f"{call}/transcript.json", "What was said", them.transcript), gives=Transcript
        ),
        Route("GET", f"{call}/transcript.vtt", "The same as WebVTT", them.vtt),
        Route(
            *("DELETE", "/v1/callers/{id}", "Erase all of one caller", them.erase),
            gives=Erased,
        ),
    ]


class _Routes:
    def __init__(self, parts: Parts) -> None:
        self._parts, self._reader = parts, parts.reader

    async def search(self, asked: Asked) -> Found:
        q: Search = asked.query
        ends = [at for at in (q.until, q.cursor) if at is not None]
        wanted = Wanted(q.caller, q.agent, q.result, q.text, q.since, min(ends, default=None))
        records, before = await History(self._reader).search(wanted, q.limit)
        return Found(tuple(Summary.of(record) for record in records), before)

    async def transcript(self, asked: Asked) -> Transcript:
        record, lines = await self._call(asked)
        return Transcript(record.call_id, export.zero(record), export.place(record, lines))

    async def vtt(self, asked: Asked) -> web.Response:
        text = export.webvtt(export.place(*await self._call(asked)))
        return web.Response(text=text, content_type="text/vtt", charset="utf-8")

    async def erase(self, asked: Asked) -> Erased:
        number = asked.path["id"]
        history = History(self._reader)
        records = await history.of_caller(number)
        over = [record for record in records if record.state == "ended"]
        living = {record.call_id for record in records if record.state != "ended"}
        folders = recording_folders(Path(self._parts.config.agents.folder))
        runtime = Path(self._parts.config.media.runtime_dir)
        deleted, missing = await recordings.off_loop(
            _erase_recordings, folders, runtime, over, number, living
        )
        for record in over:
            await history.erase(record)
        log.info("erased a caller: %d calls, %d recordings", len(over), deleted)
        return Erased(len(over), deleted, len(living), missing)

    async def _call(self, asked: Asked) -> tuple[Record, list[Line]]:
        record = await recordings.load(self._reader, asked)
        return record, await self._reader.transcript(record.call_id)


def _erase_recordings(
    folders: set[Path], runtime: Path, over: list[Record], number: str, living: set[str]
) -> tuple[int, int]:
    """Those of his calls, and those that Redis knows no more: how many; how many aren't here."""
    found: dict[Path, Notes] = {}
    missing = 0
    for record in over:
        for part in recordings.told(record)["parts"]:
            file = Path(part + ".json")
            if file.is_file():
                found[file] = Notes.read(file)
            else:
                missing += 1
    for folder in folders:
        for one in notes.all_in(folder):
            if one.caller == number and one.call_id not in living:
                found[one.file] = one
    for one in found.values():
        notes.done(runtime, one)  # a recorder that comes back doesn't begin it anew
        notes.erase(one)
    return len(found), missing
