"""The session store in Redis: written behind, in batches, never in a call's way.

`put` and `say` only note what is to be written (`bridge.sessions.outbox`); one task (`run`) sends
all that has gathered in one pipeline at a time. A batch whose answer got lost is sent again:
transcript lines carry rising stream ids, and one that Redis has is passed over.

Every write carries the fencing token with which we own the call. Redis refuses one that is lower
than the record's (another worker owns the call now: `on_lost` is told, and nothing more is written
of it). If Redis has come back empty, the record is written anew from the copy that is kept here.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import redis.asyncio
import redis.exceptions

from bridge.errors import StoreUnreachable
from bridge.sessions import server
from bridge.sessions.model import (
    CUT_OFF,
    FORM,
    INDEX,
    LIVE,
    RECORDS,
    Line,
    Record,
    call_key,
    keys_key,
    known_caller,
    rejoin_key,
    transcript_key,
)
from bridge.sessions.outbound import LIVE_CALLS
from bridge.sessions.outbox import Outbox, Pending
from bridge.sessions.settings import RedisSettings

log = logging.getLogger(__name__)

# One call's batch, atomically. A line whose id is not above the stream's last one was stored by an
# earlier try. KEYS: hash, stream. ARGV: ttl in s, fence (0: the call is new to us; refused if it
# goes on with another owner), 1 if the record may be missing, our name, number of fields, name,
# value, ..., then for each line: id, number of its fields, name, value, ... Gives what came of it
# (0 refused: another owner's; 1 written; 2 nothing written: the record is missing, send all of it)
# and the fence.
_WRITE = """
local fence = tonumber(ARGV[2])
local stored = tonumber(redis.call('HGET', KEYS[1], 'fence') or '0')
if fence == 0 then
  if stored > 0 then
    local now = redis.call('HMGET', KEYS[1], 'worker', 'state')
    if now[1] ~= ARGV[4] and now[2] ~= 'ended' then
      return {0, stored}
    end
  end
  fence = stored + 1
elseif stored > fence then
  return {0, stored}
elseif stored == 0 and ARGV[3] == '0' then
  return {2, fence}
end
redis.call('HSET', KEYS[1], 'fence', fence)
local at = 6
local n = tonumber(ARGV[5])
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
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return {1, fence}
"""
_SHA = hashlib.sha1(_WRITE.encode(), usedforsecurity=False).hexdigest()
_REFUSED, _WRITTEN, _MISSING = 0, 1, 2


_MOST_RECORDS = 100_000
"""That wait for the webhook; of more, the oldest are given up."""
_KEYS_S = 10
"""A key that was passed on is of no use later."""
SOON_S = 0.05
"""Nobody waits for longer on the phone."""


class RedisStore:
    """`Store` on a Redis server."""

    def __init__(self, settings: RedisSettings, worker: str = "", *, tell: bool = False) -> None:
        """Nothing is connected before the first command; `worker` is our name.

        `tell`: calls that end go into the stream `RECORDS`, too.
        """
        self._tells = tell
        self.settings, self._worker = settings, worker
        self.version = ""
        self._redis = server.connect(settings.url, settings.timeout_s, settings.ca_file)
        self.on_lost: Callable[[str], None] = lambda call_id: None
        """Told of a call that another worker owns now."""
        self._box = Outbox(settings.max_pending_lines, settings.max_pending_calls)
        self._sending: dict[str, Pending] = {}
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._round = asyncio.Event()
        self._round_s = 0.0
        """What the last batch took."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Lock()
        self.up = True
        """Redis has answered our last write."""

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
        for task in self._tasks:
            task.cancel()
        await server.close(self._redis)

    # Writing --------------------------------------------------------------------------------------

    def begin(self, call_id: str) -> None:
        """See `Store.begin`."""
        self._box.begin(call_id)

    def adopt(self, record: Record, lines: list[Line]) -> None:
        """See `Store.adopt`."""
        self._box.adopt(record, lines)

    def put(self, call_id: str, **fields: str | float) -> None:
        """See `Store.put`."""
        self._box.put(call_id, fields)
        self._wake()

    def say(self, call_id: str, line: Line) -> None:
        """See `Store.say`."""
        self._box.say(call_id, line)
        self._wake()

    def forget(self, call_id: str) -> None:
        """See `Store.forget`."""
        self._box.forget(call_id)

    def refresh(self) -> None:
        """Write all of our calls again: Redis may have lost some of it."""
        for call_id in self._box.owned:
            self._box.refresh(call_id)
        self._wake()

    def _wake(self) -> None:
        if self._box.pending:
            self._news.set()
            self._idle.clear()

    async def run(self) -> None:
        """Write what gathers, until cancelled."""
        wait_s = 0.0
        while True:
            await self._news.wait()
            if wait_s:
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            self._news.clear()
            batch = self._sending = self._box.next_batch()
            began = time.monotonic()
            try:
                await self._send(batch)
            except (redis.exceptions.RedisError, OSError) as error:
                self._box.take_back(batch)
                self._wake()
                wait_s = min(2.0, max(0.05, wait_s * 2))
                if self.up:
                    why = str(error)  # the exception itself would keep its connection alive
                    log.warning("Redis at %s is away (%s); calls go on", self._where, why)
                self.up = False
                self._next_round()
                continue
            self._box.sent(batch)
            if not self.up:
                log.info("Redis is back: writing all that is remembered of living calls")
                self.refresh()  # it may have come back empty, or older than it was
            self.up, wait_s, self._round_s = True, 0.0, time.monotonic() - began
            if self._box.pending:
                self._news.set()
            else:
                self._idle.set()
            self._next_round()

    def _next_round(self) -> None:
        self._sending = {}
        self._round.set()
        self._round = asyncio.Event()

    async def written(self, call_id: str, timeout_s: float) -> bool:
        """See `Store.written`."""
        until = asyncio.get_running_loop().time() + timeout_s
        while self.up and (call_id in self._box.pending or call_id in self._sending):
            try:
                async with asyncio.timeout_at(until):
                    await self._round.wait()
            except TimeoutError:
                return False
        return self.up

    def owns(self, call_id: str) -> bool:
        """See `Store.owns`."""
        return call_id in self._box.owned

    def when_written(self, call_id: str, then: Callable[[], None]) -> None:
        """See `Store.when_written`."""
        if self._round_s >= SOON_S or not self.up:
            then()
            return
        self._soon(self._tell(call_id, then))

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, call_id: str, then: Callable[[], None]) -> None:
        if not await self.written(call_id, SOON_S):
            self._round_s = SOON_S  # until a batch is quick again
        then()

    async def flush(self, timeout_s: float) -> bool:
        """Wait until all is written (needs `run`); False if that took longer than `timeout_s`.

        All of it, when this returns: nothing has come in since.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self._idle.is_set():
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _send(self, batch: dict[str, Pending]) -> None:
        owned = self._box.owned
        batch = {call_id: p for call_id, p in batch.items() if call_id in owned}
        if not batch:
            return
        writes: list[tuple[list[str], list[str]]] = []
        for call_id, pending in batch.items():
            own = owned[call_id]
            fields = pending.fields
            ended = fields.get("state") == "ended"
            ttl = self.settings.keep_ended_s if ended else self.settings.keep_silent_s
            if fields:
                fields = {"v": FORM, "call_id": call_id, **fields}
            args = [str(ttl), str(own.fence), str(int(not own.stored)), self._worker]
            args += [str(len(fields)), *_flat(fields)]
            for stream_id, line in pending.lines:
                entry = line.fields()
                args += [stream_id, str(len(entry)), *_flat(entry)]
            keys = [call_key(call_id), transcript_key(call_id)]
            writes.append((keys, args))
        try:
            answers = await self._write(writes)
        except redis.exceptions.NoScriptError:  # a server that has just begun
            await self._redis.script_load(_WRITE)
            answers = await self._write(writes)
        written: dict[str, Pending] = {}
        for (call_id, pending), (answer, fence) in zip(batch.items(), answers, strict=True):
            if call_id not in owned:
                continue
            own = owned[call_id]
            if answer == _WRITTEN:
                own.fence, own.stored = fence, True
                written[call_id] = pending
            elif answer == _MISSING:
                log.warning("Redis has lost call %s: writing it again", call_id)
                own.stored = False
                self._box.refresh(call_id)
            else:
                log.warning("call %s is another worker's now", call_id)
                self.forget(call_id)
                self.on_lost(call_id)
        await self._index(written)

    async def _write(self, writes: list[tuple[list[str], list[str]]]) -> list[list[int]]:
        """Run the script for each of these, in one go; its answers."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for keys, args in writes:
                if server.is_cluster(self._redis):
                    pipe.eval(_WRITE, len(keys), *keys, *args)
                else:  # not a `Script`: its pipeline asks each time whether the server has it
                    pipe.evalsha(_SHA, len(keys), *keys, *args)
            answers: list[list[int]] = await pipe.execute()
        return answers

    async def _index(self, written: dict[str, Pending]) -> None:
        """Keep the lists of calls in line with what was written."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for call_id, pending in written.items():
                fields = pending.fields
                if "started" in fields:
                    pipe.zadd(INDEX, {call_id: float(fields["started"])})
                    oldest = float(fields["started"]) - self.settings.keep_ended_s
                    pipe.zremrangebyscore(INDEX, "-inf", oldest)
                if fields.get("state") == "ended":
                    pipe.hdel(LIVE, call_id)
                    if self._tells:
                        pipe.xadd(RECORDS, {"call_id": call_id}, maxlen=_MOST_RECORDS)
                    own = self._box.owned.pop(call_id, None)
                    if (own.fields if own is not None else fields).get("direction") == "out":
                        pipe.zrem(LIVE_CALLS, call_id)
                    self._index_rejoin(pipe, call_id, own.fields if own is not None else fields)
                elif "worker" in fields:
                    pipe.hset(LIVE, call_id, fields["worker"])
            if len(pipe):
                await pipe.execute()

    def _index_rejoin(
        self, pipe: redis.asyncio.client.Pipeline, call_id: str, fields: Mapping[str, str]
    ) -> None:
        """Let a caller whose line dropped find his conversation again."""
        seconds = int(fields.get("rejoin_s") or 0)
        caller = fields.get("caller", "")
        if seconds > 0 and known_caller(caller) and fields.get("result") in CUT_OFF:
            pipe.set(rejoin_key(fields.get("agent", ""), caller), call_id, ex=seconds)

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

    async def rejoin(self, agent: str, caller: str) -> tuple[Record, list[Line]] | None:
        """See `Store.rejoin`."""
        if not known_caller(caller):
            return None
        try:
            call_id = await self._redis.getdel(rejoin_key(agent, caller))
        except (redis.exceptions.RedisError, OSError) as error:
            raise StoreUnreachable(f"Redis at {self._where}: {error}") from error
        record = await self.load(call_id) if call_id else None
        return (record, await self.transcript(record.call_id)) if record is not None else None

    # Between two owners ---------------------------------------------------------------------------

    def pass_key(self, call_id: str, digit: str) -> None:
        """See `Store.pass_key`."""
        self._soon(self._pass_key(call_id, digit))

    async def _pass_key(self, call_id: str, digit: str) -> None:
        try:
            # One after the other: two connections of the pool may overtake each other.
            async with self._passing, self._redis.pipeline(transaction=False) as pipe:
                pipe.rpush(keys_key(call_id), digit)
                pipe.expire(keys_key(call_id), _KEYS_S)
                await pipe.execute()
        except (redis.exceptions.RedisError, OSError) as error:
            log.warning("call %s: a key is lost: %s", call_id, error)

    async def passed_keys(self, call_id: str) -> str:
        """See `Store.passed_keys`."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.lrange(keys_key(call_id), 0, -1)
                pipe.delete(keys_key(call_id))
                keys, _ = await pipe.execute()
        except (redis.exceptions.RedisError, OSError) as error:
            raise StoreUnreachable(f"Redis at {self._where}: {error}") from error
        return "".join(keys)

    @property
    def server(self) -> redis.asyncio.Redis:
        """The connection, for the leases on the same server."""
        return self._redis

    @property
    def _where(self) -> str:
        return server.where(self.settings.url)


def _flat(fields: dict[str, str]) -> list[str]:
    return [text for pair in fields.items() for text in pair]
