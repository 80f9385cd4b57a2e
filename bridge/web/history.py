"""Resource: what is over, and what is recorded. Search, transcripts, sound, erasure.

Recordings are files of this host, or of a folder that hosts share: what another host has recorded
into a folder of its own, that host's API serves.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from bridge.agent import recording_folders
from bridge.errors import BridgeError, RecordingError
from bridge.recording import finish, notes, sealed, wav
from bridge.recording.notes import Notes
from bridge.sessions import export
from bridge.sessions.export import Placed
from bridge.sessions.history import History, Wanted
from bridge.sessions.model import Line, Record
from bridge.web.desk import Desk
from bridge.web.errors import Refused, not_found
from bridge.web.parts import Parts
from bridge.web.routes import Asked, Route

log = logging.getLogger(__name__)

T = TypeVar("T")

KINDS = {"wav": "audio/wav", "opus": "audio/ogg", "mp3": "audio/mpeg"}


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
    limit: int = 50
    cursor: float | None = None

    def __post_init__(self) -> None:
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
class Sound:
    """A call's recording: the caller left, what he heard right. Spans are [from, to] in ms."""

    state: str
    """`recording`, `paused` or `ended`."""
    started: float
    parts: int
    """One, unless the call went from host to host."""
    format: str
    rate: int
    duration_ms: int
    pauses: tuple[tuple[int, int], ...]
    lost: tuple[tuple[int, int], ...]
    """What nobody could write down, such as on a full disk."""
    encrypted: bool
    fault: str


@dataclass(frozen=True, slots=True)
class RecordOrder:
    """What is to become of a recording that goes on."""

    action: Literal["pause", "resume"]


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a recording."""

    part: int = 0


@dataclass(frozen=True, slots=True)
class PeaksQuery:
    """How fine."""

    per_s: int = 20
    part: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.per_s <= 200:
            raise ValueError(f"'per_s' is {self.per_s}; it takes 1 to 200")


@dataclass(frozen=True, slots=True)
class Peaks:
    """How loud both sides were: the loudest sample of each piece, 0 to 255."""

    per_s: int
    caller: tuple[int, ...]
    agent: tuple[int, ...]


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
        Route("GET", f"{call}/recording", "A call's sound", them.sound, query=Part),
        Route(
            *("POST", f"{call}/recording", "Pause or resume recording", them.record),
            takes=RecordOrder,
        ),
        Route(
            *("GET", f"{call}/recording.json", "What is known of it", them.about),
            query=Part,
            gives=Sound,
        ),
        Route(
            *("GET", f"{call}/peaks", "Its waveforms", them.peaks), query=PeaksQuery, gives=Peaks
        ),
        Route(
            *("DELETE", "/v1/callers/{id}", "Erase all of one caller", them.erase),
            gives=Erased,
        ),
    ]


class _Routes:
    def __init__(self, parts: Parts) -> None:
        self._parts, self._reader = parts, parts.reader
        self._desk = Desk(parts)
        self._heavy = asyncio.Semaphore(1)
        """A whole recording is gone through: for one request at a time."""

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

    async def about(self, asked: Asked) -> Sound:
        record, part = await self._record(asked), asked.query.part
        told = _told(record)
        one = await self._notes(record, part)
        over = record.state == "ended" or part < len(told["parts"]) - 1
        return Sound(
            state="ended" if over else "recording" if told["on"] else "paused",
            started=one.started,
            parts=len(told["parts"]),
            format=Path(one.sound.removesuffix(".sealed")).suffix[1:] or one.format,
            rate=one.rate,
            duration_ms=await _off_loop(_length_ms, one),
            pauses=tuple(one.pauses),
            lost=tuple(one.lost),
            encrypted=bool(one.key_file),
            fault=one.fault,
        )

    async def sound(self, asked: Asked) -> web.StreamResponse:
        one = await self._notes(await self._record(asked), asked.query.part)
        name = one.sound.removesuffix(".sealed")
        kind = KINDS.get(Path(name).suffix[1:], "application/octet-stream")
        headers = {
            "Content-Type": kind,
            "Content-Disposition": f'inline; filename="{name}"',
            "Cache-Control": "no-store",
        }
        if not one.key_file:
            if not one.sound_file.is_file():
                raise not_found(f"the sound of this call is gone: {name}")
            return web.FileResponse(one.sound_file, headers=headers)
        async with self._heavy:
            data = await _off_loop(_opened, one)
            return _ranged(asked.request, data, headers)

    async def record(self, asked: Asked) -> None:
        order: RecordOrder = asked.body
        await self._desk.ask(asked.path["id"], "record", on=order.action == "resume")

    async def peaks(self, asked: Asked) -> Peaks:
        query: PeaksQuery = asked.query
        one = await self._notes(await self._record(asked), query.part)
        async with self._heavy:
            per_s, loud = await _off_loop(_loud, one, query.per_s)
        return Peaks(per_s, tuple(loud[0].tolist()), tuple(loud[1].tolist()))

    async def erase(self, asked: Asked) -> Erased:
        number = asked.path["id"]
        history = History(self._reader)
        records = await history.of_caller(number)
        over = [record for record in records if record.state == "ended"]
        living = {record.call_id for record in records if record.state != "ended"}
        folders = recording_folders(Path(self._parts.config.agents.folder))
        runtime = Path(self._parts.config.media.runtime_dir)
        deleted, missing = await _off_loop(
            _erase_recordings, folders, runtime, over, number, living
        )
        for record in over:
            await history.erase(record)
        log.info("erased a caller: %d calls, %d recordings", len(over), deleted)
        return Erased(len(over), deleted, len(living), missing)

    async def _record(self, asked: Asked) -> Record:
        call_id = asked.path["id"]
        record = await self._reader.load(call_id)
        if record is None:
            raise not_found(f"there is no call '{call_id}', or it ended too long ago")
        return record

    async def _call(self, asked: Asked) -> tuple[Record, list[Line]]:
        record = await self._record(asked)
        return record, await self._reader.transcript(record.call_id)

    async def _notes(self, record: Record, part: int) -> Notes:
        parts = _told(record)["parts"]
        if not 0 <= part < len(parts):
            have = f"there are {len(parts)} parts" if parts else "it is not recorded"
            raise not_found(f"call '{record.call_id}' has no recording {part}: {have}")
        return await _off_loop(Notes.read, Path(parts[part] + ".json"))


def _told(record: Record) -> Mapping[str, list[str]]:
    table: Mapping[str, list[str]] = json.loads(record.recording or '{"parts": [], "on": false}')
    return table


async def _off_loop(work: Callable[..., T], *what: object) -> T:
    """Files, in a thread; what is wrong with them is an answer."""
    try:
        return await asyncio.to_thread(work, *what)
    except RecordingError as error:
        raise not_found(str(error)) from error
    except FileNotFoundError as error:
        raise not_found("the sound of this call is gone") from error
    except (BridgeError, OSError) as error:
        raise Refused(500, "recording", str(error)) from error


def _length_ms(one: Notes) -> int:
    """How long it is by now."""
    if one.state != "recording":
        return one.duration_ms
    if one.key_file:
        return max(0, round((time.time() - one.started) * 1000))
    pairs = max(0, one.sound_file.stat().st_size - wav.HEADER) // wav.PAIR
    return pairs * 1000 // one.rate


def _opened(one: Notes) -> bytes:
    """A sealed sound, in clear, as a whole file."""
    if one.sound.endswith(".wav.sealed"):
        return b"".join(finish.wav(one))
    key = sealed.Key.read(Path(one.key_file))
    return b"".join(piece for _, piece in sealed.pieces(one.sound_file, key))


def _loud(one: Notes, per_s: int) -> tuple[int, NDArray[np.uint8]]:
    if one.peaks:
        both = [
            np.frombuffer(base64.b64decode(one.peaks[side]), np.uint8)
            for side in ("caller", "agent")
        ]
        return int(one.peaks["per_s"]), np.array(both)
    return per_s, finish.peaks_of(one, per_s)


def _erase_recordings(
    folders: set[Path], runtime: Path, over: list[Record], number: str, living: set[str]
) -> tuple[int, int]:
    """Those of his calls, and those that Redis knows no more: how many; how many aren't here."""
    found: dict[Path, Notes] = {}
    missing = 0
    for record in over:
        for part in _told(record)["parts"]:
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


def _ranged(request: web.Request, data: bytes, headers: dict[str, str]) -> web.Response:
    """Data that may be asked for in parts (RFC 9110, 14)."""
    headers["Accept-Ranges"] = "bytes"
    try:
        span = request.http_range
    except ValueError as error:
        raise Refused(416, "bad-range", str(error)) from None
    if span.start is None and span.stop is None:
        return web.Response(body=data, headers=headers)
    begin, end, _ = span.indices(len(data))
    if begin >= end:
        raise Refused(416, "bad-range", f"there are {len(data)} bytes")
    headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
    return web.Response(status=206, body=data[begin:end], headers=headers)
