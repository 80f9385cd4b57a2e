"""Resource: what goes on now, as server-sent events.

    Redis ──(one reader, every TICK_S, only while somebody looks)──▶ Feed ──▶ every viewer's queue
    slots' map of this host (read only) ──▶ levels ──────────────────┘

A viewer first gets everything, then what has changed since. However many look, Redis is asked once
and each message is made into text once. A viewer that doesn't keep up gets everything anew.

A message is a JSON object, of which what hasn't changed is left out:

    all      true: forget what you know
    calls    {id: what has changed of it}: see `_call`
    lines    {id: [line, …]}: what has been added to its transcript
    gone     [id, …]: calls that have ended
    levels   {id: [caller, agent]}: how loud, 0 to 100; only calls whose audio flows through this
             host, and for others none: the record doesn't tell it
    workers  [worker, …], whenever one has come, gone or changed
    away     why Redis can't be read now; empty when it can again, with everything anew
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from bridge.errors import StoreUnreachable
from bridge.sessions.model import LIVE, Line, Record, call_key, transcript_key
from bridge.web.levels import Levels
from bridge.web.parts import Parts
from bridge.web.routes import Asked, Route, drop, jsonable
from bridge.web.shapes import Call, Said, Worker

log = logging.getLogger(__name__)

TICK_S = 0.15
"""Between two looks at Redis: what is shown is on average half of it old."""
_RECORDS_PARTS = 5
"""So many ticks between two looks at a call's record, if its transcript hasn't grown meanwhile."""
_WORKERS_TICKS = 7
_BEHIND = 40
"""Messages that a viewer may be behind."""
_KEEPALIVE_S = 15.0
_STALLED_S = 30.0
"""A viewer that has taken nothing for so long isn't there any more, or never will."""
_SHORT = ("received", "lost", "loss_percent", "mos", "late_ms_p95", "concealed_ms", "caller")
"""What is shown of `Record.audio`."""


_FAULT = "a fault of the bridge: see the web process' log"


def routes(parts: Parts) -> list[Route]:
    """Of this resource."""
    feed = Feed(parts)
    return [Route("GET", "/v1/live", "Follow calls as they go on (events)", feed.follow)]


class Feed:
    """Reads Redis for all viewers of this process."""

    def __init__(self, parts: Parts) -> None:
        """Nothing is read before somebody looks."""
        self._reader, self._parts = parts.reader, parts
        self._viewers: set[asyncio.Queue[bytes]] = set()
        self._reading: asyncio.Task[None] | None = None
        self._forget()

    def _forget(self) -> None:
        self._levels = Levels(self._parts.config.media.runtime_dir)
        self._calls: dict[str, dict[str, Any]] = {}
        self._lines: dict[str, list[Said]] = {}
        self._last: dict[str, str] = {}
        """Of each call the last entry that was read of its transcript."""
        self._workers: list[Any] = []
        self._away = ""
        self._tick = 0

    # Viewers --------------------------------------------------------------------------------------

    async def follow(self, asked: Asked) -> web.StreamResponse:
        """One viewer, until it goes."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(asked.request)
        queue: asyncio.Queue[bytes] = asyncio.Queue(_BEHIND)
        if self._reading is None or self._reading.done():
            self._forget()
            self._reading = asyncio.create_task(self._read())
        queue.put_nowait(_event(self._everything()))
        self._viewers.add(queue)
        try:
            while True:
                try:
                    async with asyncio.timeout(_KEEPALIVE_S):
                        message = await queue.get()
                except TimeoutError:
                    message = b":\n\n"
                async with asyncio.timeout(_STALLED_S):
                    await response.write(message)
        except TimeoutError:
            drop(asked.request)
            return response
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            self._viewers.discard(queue)
            if not self._viewers and self._reading is not None:
                self._reading.cancel()
                self._reading = None

    def _everything(self) -> dict[str, Any]:
        return {
            "all": True,
            "calls": self._calls,
            "lines": {call_id: jsonable(lines) for call_id, lines in self._lines.items()},
            "levels": self._levels.told,
            "workers": self._workers,
            "away": self._away,
        }

    def _tell(self, message: Mapping[str, Any]) -> None:
        text, whole = _event(message), b""
        for queue in self._viewers:
            if not queue.full():
                queue.put_nowait(text)
                continue
            while not queue.empty():
                queue.get_nowait()
            whole = whole or _event(self._everything())
            queue.put_nowait(whole)

    # Redis ----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            try:
                if news := await self._news():
                    self._tell(news)
            except Exception:  # the feed's one boundary: it serves all viewers, and goes on
                if self._away != _FAULT:
                    log.exception("the live feed could not read what goes on")
                    self._away = _FAULT
                    self._tell({"away": _FAULT})
            self._tick += 1
            due = max(due + TICK_S, clock())
            await asyncio.sleep(due - clock())

    async def _news(self) -> dict[str, Any]:
        """What to tell all viewers."""
        try:
            news = await self._look()
            if self._away:
                self._away = ""
                news = self._everything()  # what was read just before it failed was never told
        except StoreUnreachable as error:
            news = {} if self._away else {"away": str(error)}
            self._away = str(error)
        if levels := self._levels.now(self._calls):
            news["levels"] = self._levels.told if "all" in news else levels
        return news

    async def _look(self) -> dict[str, Any]:
        """What has changed."""
        server, news = self._reader.server, dict[str, Any]()
        live: Mapping[str, str] = await self._reader.ask(server.hgetall(LIVE))  # type: ignore[arg-type]
        gone = [call_id for call_id in self._calls if call_id not in live]
        for call_id in gone:
            del self._calls[call_id]
            self._lines.pop(call_id, None)
            self._last.pop(call_id, None)
        if gone:
            news["gone"] = gone
        lines = await self._new_lines(live)
        if lines:
            news["lines"] = {call_id: jsonable(said) for call_id, said in lines.items()}
        turn = self._tick % _RECORDS_PARTS
        asked = [
            call_id
            for number, call_id in enumerate(live)
            if number % _RECORDS_PARTS == turn or call_id in lines or call_id not in self._calls
        ]
        if calls := await self._changed(asked):
            news["calls"] = calls
        if self._tick % _WORKERS_TICKS == 0:
            members = await self._reader.members()
            ordered = sorted(members.values(), key=lambda m: m.started)
            workers = [jsonable(Worker.of(member)) for member in ordered]
            if workers != self._workers:
                news["workers"] = self._workers = workers
        return news

    async def _new_lines(self, live: Iterable[str]) -> dict[str, list[Said]]:
        ids = list(live)
        async with self._reader.server.pipeline(transaction=False) as pipe:
            for call_id in ids:
                last = self._last.get(call_id)
                pipe.xrange(transcript_key(call_id), f"({last}" if last else "-")
            found = await self._reader.ask(pipe.execute()) if ids else []
        new: dict[str, list[Said]] = {}
        for call_id, entries in zip(ids, found, strict=True):
            if entries:
                self._last[call_id] = entries[-1][0]
                new[call_id] = [Said.of(Line.from_fields(fields)) for _, fields in entries]
                self._lines.setdefault(call_id, []).extend(new[call_id])
        return new

    async def _changed(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        """Of those calls, what differs from what is known."""
        async with self._reader.server.pipeline(transaction=False) as pipe:
            for call_id in ids:
                pipe.hgetall(call_key(call_id))
            rows: list[dict[str, str]] = await self._reader.ask(pipe.execute()) if ids else []
        changed, now = {}, time.time()
        for call_id, row in zip(ids, rows, strict=True):
            if not row:
                continue
            told = _call(Record.from_fields(row), now)
            known = self._calls.get(call_id, {})
            if differs := {name: v for name, v in told.items() if known.get(name, ...) != v}:
                changed[call_id] = differs
                self._calls[call_id] = told
        return changed


def _call(record: Record, now: float) -> dict[str, Any]:
    """What viewers are told of a call: `Call` but for what follows from the time, and more."""
    told: dict[str, Any] = jsonable(Call.of(record, now))
    del told["seconds"]
    audio: dict[str, Any] = json.loads(record.audio or "{}")
    return {
        **told,
        "codec": record.codec,
        "recorded": bool(record.recording),
        "latency": json.loads(record.latency or "[]"),
        "audio": {name: audio[name] for name in _SHORT if name in audio},
    }


def _event(message: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(message, separators=(",", ":")).encode() + b"\n\n"
