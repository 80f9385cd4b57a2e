"""Calls that are over, as long as Redis keeps them (`[redis] keep_ended_s`): search, and erase.

The index knows calls by the time at which they began; everything else is looked at call by call,
newest first, a batch at a time. What one question looks at is bounded (`MOST_LOOKED`), and the
answer says where to go on.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sessions.model import (
    INDEX,
    LIVE,
    Line,
    Record,
    call_key,
    keys_key,
    rejoin_key,
    transcript_key,
)
from bridge.sessions.reader import Reader

MOST_LOOKED = 5000
_BATCH = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls; what is empty matches all. Texts match parts, whatever the case."""

    caller: str = ""
    agent: str = ""
    result: str = ""
    text: str = ""
    """Of what was said."""
    since: float | None = None
    """Begun at that time or later."""
    until: float | None = None
    """Begun before that time."""

    def fits(self, record: Record) -> bool:
        """Whether a record does, its transcript aside."""
        return (
            record.state == "ended"
            and self.caller.lower() in record.caller.lower()
            and self.agent in ("", record.agent)
            and self.result in ("", record.result)
        )

    def said(self, lines: list[Line]) -> bool:
        """Whether a transcript does."""
        asked = self.text.lower()
        return any(asked in line.text.lower() for line in lines)


class History:
    """On the API's reader. All raise `StoreUnreachable`."""

    def __init__(self, reader: Reader) -> None:
        """Ask through `reader`."""
        self._reader = reader

    async def search(self, wanted: Wanted, limit: int) -> tuple[list[Record], float | None]:
        """Calls that are over, the last begun first.

        Returns:
            So many at most, and what to give as `until` for those before; None: these are all.
        """
        found: list[Record] = []
        before, looked = wanted.until, 0
        while looked < MOST_LOOKED:
            highest = "+inf" if before is None else f"({before:.3f}"
            lowest = "-inf" if wanted.since is None else wanted.since
            rows: list[tuple[str, float]] = await self._reader.ask(
                self._reader.server.zrevrangebyscore(
                    INDEX, highest, lowest, 0, _BATCH, withscores=True
                )
            )
            if not rows:
                return found, None
            for record in await self._reader.records([call_id for call_id, _ in rows]):
                if wanted.fits(record) and await self._said(wanted, record):
                    found.append(record)
                    if len(found) == limit:
                        return found, record.started
            looked += len(rows)
            before = rows[-1][1]
        return found, before

    async def of_caller(self, number: str) -> list[Record]:
        """Every call of exactly that number, living ones too."""
        ids: list[str] = await self._reader.ask(self._reader.server.zrange(INDEX, 0, -1))
        found: list[Record] = []
        for at in range(0, len(ids), _BATCH):
            records = await self._reader.records(ids[at : at + _BATCH])
            found += [record for record in records if record.caller == number]
        return found

    async def erase(self, record: Record) -> None:
        """Forget one call that is over."""
        server, call_id = self._reader.server, record.call_id
        async with server.pipeline(transaction=False) as pipe:
            for key in (call_key(call_id), transcript_key(call_id), keys_key(call_id)):
                pipe.delete(key)
            pipe.delete(rejoin_key(record.agent, record.caller))
            pipe.hdel(LIVE, call_id)
            pipe.zrem(INDEX, call_id)
            await self._reader.ask(pipe.execute())

    async def _said(self, wanted: Wanted, record: Record) -> bool:
        if not wanted.text:
            return True
        return wanted.said(await self._reader.transcript(record.call_id))
