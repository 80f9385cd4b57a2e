"""Resource: calls. Reads Redis, not any worker's memory; what is to be done goes to the desk."""

from __future__ import annotations

import time

from aiohttp import web

from bridge.web.desk import Desk
from bridge.web.errors import Refused, not_found
from bridge.web.parts import Parts
from bridge.web.routes import Asked, Route, reply
from bridge.web.shapes import (
    Call,
    CallDetail,
    CallList,
    CallOrder,
    CallQuery,
    HangUpOrder,
    MuteOrder,
    SayOrder,
    TransferOrder,
    Worker,
    WorkerList,
)

ONE = "/v1/calls/{id}"


def routes(parts: Parts) -> list[Route]:
    """Of this resource."""
    calls = _Calls(parts)
    return [
        Route("GET", "/v1/calls", "List calls", calls.listed, query=CallQuery, gives=CallList),
        Route("GET", ONE, "Explain a call", calls.one, gives=CallDetail),
        Route(
            *("POST", "/v1/calls", "Call somebody", calls.place),
            takes=CallOrder,
            gives=Call,
            status=201,
        ),
        Route("POST", f"{ONE}/hangup", "Hang up", calls.hang_up, takes=HangUpOrder),
        Route("POST", f"{ONE}/transfer", "Transfer", calls.transfer, takes=TransferOrder),
        Route("POST", f"{ONE}/mute", "Silence the agent, or not", calls.mute, takes=MuteOrder),
        Route("POST", f"{ONE}/say", "Have the agent say this", calls.say, takes=SayOrder),
        Route("GET", "/v1/workers", "List workers", calls.workers, gives=WorkerList),
    ]


class _Calls:
    def __init__(self, parts: Parts) -> None:
        self._reader, self._desk = parts.reader, Desk(parts)

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

    async def place(self, asked: Asked) -> web.Response:
        order: CallOrder = asked.body
        key = asked.request.headers.get("Idempotency-Key", "") or order.idempotency_key
        if len(key) > 255:
            raise Refused(400, "bad-request", "an idempotency key has at most 255 letters")
        record, new = await self._desk.place(order, key)
        answer = reply(Call.of(record, time.time()), 201 if new else 200)
        answer.headers["Location"] = f"/v1/calls/{record.call_id}"
        return answer

    async def hang_up(self, asked: Asked) -> None:
        await self._desk.ask(asked.path["id"], "hang_up", reason=asked.body.reason)

    async def transfer(self, asked: Asked) -> None:
        await self._desk.ask(asked.path["id"], "transfer", to=asked.body.to)

    async def mute(self, asked: Asked) -> None:
        await self._desk.ask(asked.path["id"], "mute", on=asked.body.on)

    async def say(self, asked: Asked) -> None:
        await self._desk.ask(asked.path["id"], "say", text=asked.body.text)

    async def workers(self, asked: Asked) -> WorkerList:
        members = await self._reader.members()
        ordered = sorted(members.values(), key=lambda m: m.started)
        return WorkerList(tuple(Worker.of(member) for member in ordered))
