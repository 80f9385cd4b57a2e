"""Resource: what is recorded of a call: its sound, what is known of it, its waveforms.

Recordings are files of this host, or of a folder that hosts share: what another host has recorded
into a folder of its own, that host's API serves.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from bridge.errors import BridgeError, RecordingError
from bridge.recording import finish, sealed, wav
from bridge.recording.notes import Notes
from bridge.schema import LIMITS
from bridge.sessions.model import Record
from bridge.sessions.reader import Reader
from bridge.web.desk import Desk
from bridge.web.errors import Refused, not_found
from bridge.web.parts import Parts
from bridge.web.routes import Asked, Route

T = TypeVar("T")

KINDS = {"wav": "audio/wav", "opus": "audio/ogg", "mp3": "audio/mpeg"}


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
    """How fine at most; the answer says how fine they are."""

    per_s: int = field(default=20, metadata={LIMITS: {"minimum": 1, "maximum": 200}})
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


def routes(parts: Parts) -> list[Route]:
    """Of this resource."""
    them = Recordings(parts)
    call = "/v1/calls/{id}"
    return [
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
    ]


class Recordings:
    """Those that this host can reach."""

    def __init__(self, parts: Parts) -> None:
        """Nothing is read before it is asked for."""
        self._parts, self._reader = parts, parts.reader
        self._desk = Desk(parts)

    async def about(self, asked: Asked) -> Sound:
        return await about(await load(self._reader, asked), asked.query.part)

    async def sound(self, asked: Asked) -> web.StreamResponse:
        one = await notes_of(await load(self._reader, asked), asked.query.part)
        name = one.sound.removesuffix(".sealed")
        headers = {
            "Content-Type": kind(one),
            "Content-Disposition": f'inline; filename="{name}"',
            "Cache-Control": "no-store",
        }
        if not one.key_file:
            if not one.sound_file.is_file():
                raise not_found(f"the sound of this call is gone: {name}")
            return web.FileResponse(one.sound_file, headers=headers)
        async with self._parts.heavy:
            data = await off_loop(_opened, one)
            return _ranged(asked.request, data, headers)

    async def record(self, asked: Asked) -> None:
        order: RecordOrder = asked.body
        await self._desk.ask(asked.path["id"], "record", on=order.action == "resume")

    async def peaks(self, asked: Asked) -> Peaks:
        query: PeaksQuery = asked.query
        one = await notes_of(await load(self._reader, asked), query.part)
        async with self._parts.heavy:
            return await peaks(one, query.per_s)


async def load(reader: Reader, asked: Asked) -> Record:
    """The call that is asked for. Raises `Refused`."""
    call_id = asked.path["id"]
    record = await reader.load(call_id)
    if record is None:
        raise not_found(f"there is no call '{call_id}', or it ended too long ago")
    return record


async def notes_of(record: Record, part: int) -> Notes:
    """Of one part of its recording. Raises `Refused`."""
    parts = told(record)["parts"]
    if not 0 <= part < len(parts):
        have = f"there are {len(parts)} parts" if parts else "it is not recorded"
        raise not_found(f"call '{record.call_id}' has no recording {part}: {have}")
    return await off_loop(Notes.read, Path(parts[part] + ".json"))


def told(record: Record) -> Mapping[str, list[str]]:
    """What a call's record says of its recording."""
    table: Mapping[str, list[str]] = json.loads(record.recording or '{"parts": [], "on": false}')
    return table


async def about(record: Record, part: int) -> Sound:
    """What is known of one part of a call's recording. Raises `Refused`."""
    known = told(record)
    one = await notes_of(record, part)
    over = record.state == "ended" or part < len(known["parts"]) - 1
    return Sound(
        state="ended" if over else "recording" if known["on"] else "paused",
        started=one.started,
        parts=len(known["parts"]),
        format=Path(one.sound.removesuffix(".sealed")).suffix[1:] or one.format,
        rate=one.rate,
        duration_ms=await off_loop(_length_ms, one),
        pauses=tuple(one.pauses),
        lost=tuple(one.lost),
        encrypted=bool(one.key_file),
        fault=one.fault,
    )


async def peaks(one: Notes, per_s: int) -> Peaks:
    """Its waveforms; hold `Parts.heavy`. Raises `Refused`."""
    per_s, loud = await off_loop(_loud, one, per_s)
    return Peaks(per_s, tuple(loud[0].tolist()), tuple(loud[1].tolist()))


async def off_loop(work: Callable[..., T], *what: object) -> T:
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


def kind(one: Notes) -> str:
    """Its media type."""
    suffix = Path(one.sound.removesuffix(".sealed")).suffix[1:]
    return KINDS.get(suffix, "application/octet-stream")


def whole(one: Notes) -> bytes:
    """A sound, in clear, as a whole file. Raises `OSError`, `BridgeError`."""
    return _opened(one) if one.key_file else one.sound_file.read_bytes()


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
    fine = finish.fineness(one.rate, per_s)
    return fine, finish.peaks_of(one, fine)


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
