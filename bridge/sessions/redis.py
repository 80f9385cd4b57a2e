"""The session store in Redis: written behind, in batches, never in a call's way.

`put` and `say` only note what is to be written; one task (`run`) sends all that has gathered in one
pipeline at a time. If Redis is slow or away, what gathers is merged call by call (a field's last
value counts) and kept in order, up to `max_pending_lines` transcript lines; beyond that the oldest
lines of the call with the most are given up, with a line in the log. A batch whose answer got lost
is sent again: transcript lines carry rising stream ids, and one that Redis has is passed over.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass, field

import redis.asyncio
import redis.exceptions

from bridge.errors import StoreUnreachable
from bridge.sessions.model import FORM, INDEX, Line, Record, call_key, transcript_key

log = logging.getLogger(__name__)

# One call's batch, atomically. A line whose id is not above the stream's last one was stored by an
# earlier try. KEYS: hash, stream. ARGV: ttl in s (0: keep), number of fields, name, value, ...,
# then for each line: id, number of its fields, name, value, ...
_WRITE = """
local at = 3
local n = tonumber(ARGV[2])
if n > 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV, at, at + 2 * n - 1))
  at = at + 2 * n
end
local ms, seq = 0, 0
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
if last[1] then
  local a, b = string.match(last[1][1], '(%d+)-(%d+)')
  ms, seq = tonumber(a), tonumber(b)
end
while at <= #ARGV do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  local a, b = string.match(id, '(%d+)-(%d+)')
  a, b = tonumber(a), tonumber(b)
  if a > ms or (a == ms and b > seq) then
    redis.call('XADD', KEYS[2], id, unpack(ARGV, at + 2, at + 1 + 2 * count))
    ms, seq = a, b
  end
  at = at + 2 + 2 * count
end
if tonumber(ARGV[1]) > 0 then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
"""


@dataclass(frozen=True)
class RedisSettings:
    """Where sessions are kept."""

    url: str = "redis://127.0.0.1:6379/0"
    timeout_s: float = 2.0
    """Longest wait for an answer."""
    keep_ended_s: int = 7 * 24 * 3600
    """How long a call that ended stays."""
    keep_silent_s: int = 24 * 3600
    """How long a call stays that nobody writes to any more (its worker is gone for good)."""
    max_pending_lines: int = 10_000
    """Transcript lines kept in memory while Redis is away."""

    def __post_init__(self) -> None:
        """Check what can be checked without asking."""
        try:
            redis.connection.parse_url(self.url)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise ValueError(
                f"'url' can't be used ({error}); it takes something like redis://HOST:6379/0"
            ) from error
        if self.timeout_s <= 0:
            raise ValueError(f"'timeout_s' is {self.timeout_s}; it takes a number above 0")


@dataclass(slots=True)
class _Pending:
    fields: dict[str, str] = field(default_factory=dict)
    lines: deque[tuple[str, Line]] = field(default_factory=deque)


class RedisStore:
    """`Store` on a Redis server."""

    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self.version = ""
        self._redis = redis.asyncio.Redis.from_url(
            settings.url,
            decode_responses=True,
            encoding_errors="replace",  # an engine's text may hold half a surrogate pair
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
        )
        self._write = self._redis.register_script(_WRITE)
        self._pending: dict[str, _Pending] = {}
        self._last_id: dict[str, tuple[int, int]] = {}
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._up = True

    async def connect(self) -> None:
        """Reach Redis once. Raises `StoreUnreachable` with the cure."""
        try:
            info = await self._redis.info("server")
        except redis.exceptions.AuthenticationError as error:
            raise StoreUnreachable(
                f"Redis at {self._where} refuses us ({error}); check user and password in redis.url"
            ) from error
        except (redis.exceptions.RedisError, OSError) as error:
            raise StoreUnreachable(
                f"Redis at {self._where} does not answer ({error}); start it or set redis.url"
            ) from error
        self.version = str(info["redis_version"])

    async def close(self) -> None:
        """Close the connections; what is pending is not waited for (see `flush`)."""
        await self._redis.aclose()

    # Writing --------------------------------------------------------------------------------------

    def put(self, call_id: str, **fields: str | float) -> None:
        """See `Store.put`."""
        self._of(call_id).fields.update({name: _text(value) for name, value in fields.items()})

    def say(self, call_id: str, line: Line) -> None:
        """See `Store.say`."""
        lines = self._of(call_id).lines
        ms, seq = int(line.at * 1000), 0
        last = self._last_id.get(call_id, (0, 0))
        if (ms, seq) <= last:  # ids must rise, even when the wall clock steps back
            ms, seq = last[0], last[1] + 1
        self._last_id[call_id] = (ms, seq)
        lines.append((f"{ms}-{seq}", line))
        if sum(len(p.lines) for p in self._pending.values()) > self.settings.max_pending_lines:
            longest = max(self._pending.values(), key=lambda p: len(p.lines))
            longest.lines.popleft()
            log.error("Redis has been away too long: giving up the oldest transcript lines")

    async def run(self) -> None:
        """Write what gathers, until cancelled."""
        wait_s = 0.0
        while True:
            await self._news.wait()
            if wait_s:
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            batch, self._pending = self._pending, {}
            self._news.clear()
            try:
                await self._send(batch)
            except (redis.exceptions.RedisError, OSError) as error:
                self._take_back(batch)
                wait_s = min(2.0, max(0.05, wait_s * 2))
                if self._up:
                    log.warning("Redis at %s is away (%s); calls go on", self._where, error)
                self._up = False
                continue
            if not self._up:
                log.info("Redis is back; all records are written")
            self._up, wait_s = True, 0.0
            if not self._pending:
                self._idle.set()

    async def flush(self, timeout_s: float) -> bool:
        """Wait until all is written (needs `run`); False if that took longer than `timeout_s`."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def _of(self, call_id: str) -> _Pending:
        self._news.set()
        self._idle.clear()
        return self._pending.setdefault(call_id, _Pending())

    async def _send(self, batch: dict[str, _Pending]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for call_id, pending in batch.items():
                fields = pending.fields
                ended = fields.get("state") == "ended"
                ttl = self.settings.keep_ended_s if ended else self.settings.keep_silent_s
                if fields:
                    fields = {"v": FORM, "call_id": call_id, **fields}
                args: list[str] = [str(ttl), str(len(fields)), *_flat(fields)]
                for stream_id, line in pending.lines:
                    entry = line.fields()
                    args += [stream_id, str(len(entry)), *_flat(entry)]
                keys = [call_key(call_id), transcript_key(call_id)]
                await self._write(keys=keys, args=args, client=pipe)
                if "started" in fields:
                    pipe.zadd(INDEX, {call_id: float(fields["started"])})
                    oldest = float(fields["started"]) - self.settings.keep_ended_s
                    pipe.zremrangebyscore(INDEX, "-inf", oldest)
                if ended:
                    self._last_id.pop(call_id, None)
            await pipe.execute()

    def _take_back(self, batch: dict[str, _Pending]) -> None:
        for call_id, newer in self._pending.items():
            older = batch.setdefault(call_id, _Pending())
            older.fields |= newer.fields
            older.lines.extend(newer.lines)
        self._pending = batch
        self._news.set()

    # Reading --------------------------------------------------------------------------------------

    async def load(self, call_id: str) -> Record | None:
        """See `Store.load`."""
        try:
            fields: dict[str, str] = await self._redis.hgetall(call_key(call_id))  # type: ignore[misc]
        except (redis.exceptions.RedisError, OSError) as error:
            raise StoreUnreachable(f"Redis at {self._where}: {error}") from error
        return Record.from_fields(fields) if fields else None

    async def transcript(self, call_id: str) -> list[Line]:
        """See `Store.transcript`."""
        try:
            entries = await self._redis.xrange(transcript_key(call_id))
        except (redis.exceptions.RedisError, OSError) as error:
            raise StoreUnreachable(f"Redis at {self._where}: {error}") from error
        return [Line.from_fields(entry) for _, entry in entries]

    @property
    def _where(self) -> str:
        """The URL without its password."""
        return self.settings.url.rpartition("@")[2].removeprefix("redis://")


def _text(value: str | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _flat(fields: dict[str, str]) -> list[str]:
    return [text for pair in fields.items() for text in pair]
