"""Reads what Redis knows of calls and workers, for those who own none of them: the API.

It holds nothing in memory, so it knows as much after a crash as before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

import redis.asyncio
import redis.exceptions

from bridge.errors import StoreUnreachable
from bridge.sessions import server
from bridge.sessions.base import Member
from bridge.sessions.lease import read_members
from bridge.sessions.model import INDEX, LIVE, Line, Record, call_key, transcript_key
from bridge.sessions.settings import RedisSettings

T = TypeVar("T")


class Reader:
    """One connection pool to the operator's Redis. All raise `StoreUnreachable`."""

    def __init__(self, settings: RedisSettings) -> None:
        """Nothing is connected before the first question."""
        self._settings = settings
        self.server: redis.asyncio.Redis = server.connect(
            settings.url, settings.timeout_s, settings.ca_file
        )

    async def close(self) -> None:
        """Close the connections."""
        await server.close(self.server)

    async def load(self, call_id: str) -> Record | None:
        """A call's record, if it is still stored."""
        fields = await self.ask(self.server.hgetall(call_key(call_id)))  # type: ignore[arg-type]
        return Record.from_fields(fields) if fields else None

    async def transcript(self, call_id: str) -> list[Line]:
        """A call's transcript so far."""
        entries = await self.ask(self.server.xrange(transcript_key(call_id)))
        return [Line.from_fields(entry) for _, entry in entries]

    async def latest(self, limit: int, before: float | None = None) -> list[Record]:
        """Calls that are stored, the last begun first; those begun before a time, if one is given.

        Fewer than `limit` may come though there are more: a call that has just expired is no more.
        """
        highest = "+inf" if before is None else f"({before:.3f}"
        ids = await self.ask(self.server.zrevrangebyscore(INDEX, highest, "-inf", 0, limit))
        return await self.records(ids)

    async def live(self) -> list[Record]:
        """Calls that haven't ended, the last begun first."""
        owners: Mapping[str, str] = await self.ask(self.server.hgetall(LIVE))  # type: ignore[arg-type]
        found = [r for r in await self.records(list(owners)) if r.state != "ended"]
        return sorted(found, key=lambda r: r.started, reverse=True)

    async def records(self, ids: Sequence[str]) -> list[Record]:
        """Of those calls that are stored, in this order."""
        async with self.server.pipeline(transaction=False) as pipe:
            for call_id in ids:
                pipe.hgetall(call_key(call_id))
            rows: list[dict[str, str]] = await self.ask(pipe.execute()) if ids else []
        return [Record.from_fields(fields) for fields in rows if fields]

    async def members(self) -> Mapping[str, Member]:
        """Workers, by name."""
        return await self.ask(read_members(self.server))

    async def ask(self, question: Awaitable[T]) -> T:
        """Put any question to Redis; its failures become ours."""
        try:
            return await question
        except (redis.exceptions.RedisError, OSError) as error:
            where = server.where(self._settings.url)
            raise StoreUnreachable(f"Redis at {where} does not answer: {error}") from error
