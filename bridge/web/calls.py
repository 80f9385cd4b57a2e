"""Resource: calls. Reads Redis, not any worker's memory."""

from __future__ import annotations

import time

from bridge.web.errors import not_found
from bridge.web.parts import Parts
from bridge.web.routes import Asked, Route
from bridge.web.shapes import Call, CallDetail, CallList, CallQuery, Worker, WorkerList


def routes(parts: Parts) -> list[Route]:
    """Of this resource."""
    calls = _Calls(parts)
    return [
        Route("GET", "/v1/calls", "List calls", calls.listed, query=CallQuery, gives=CallList),
        Route("GET", "/v1/calls/{id}", "Explain a call", calls.one, gives=CallDetail),
        Route("GET", "/v1/workers", "List workers", calls.workers, gives=WorkerList),
    ]


class _Calls:
    def __init__(self, parts: Parts) -> None:
        self._reader = parts.reader

    async def listed(self, asked: Asked) -> CallList:
        query: CallQuery = asked.query
        now = time.time()
        if query.live:
            records = await self._reader.live()
            if query.before is not None:
                records = [r for r in records if r.started < query.before]
            more = len(records) > query.limit
            records = records[: query.limit]
        else:
            records = await self._reader.latest(query.limit, query.before)
            more = len(records) == query.limit
        found = tuple(Call.of(record, now) for record in records)
        return CallList(found, found[-1].started if more and found else None)

    async def one(self, asked: Asked) -> CallDetail:
        call_id = asked.path["id"]
        record = await self._reader.load(call_id)
        if record is None:
            raise not_found(f"there is no call '{call_id}', or it ended too long ago")
        return CallDetail.all_of(record, await self._reader.transcript(call_id), time.time())

    async def workers(self, asked: Asked) -> WorkerList:
        members = await self._reader.members()
        ordered = sorted(members.values(), key=lambda m: m.started)
        return WorkerList(tuple(Worker.of(member) for member in ordered))
