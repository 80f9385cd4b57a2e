"""What all hosts together know of calls of our own: how many there are, and which were asked for.

    ari-bridge:{outbound}:live      zset    calls under way, by when they were asked for (ms)
    ari-bridge:{outbound}:minute    zset    those asked for within the last minute
    ari-bridge:{outbound}:key:HASH  string  the call that was asked for with an idempotency key
    ari-bridge:{CALL}:placed        string  the worker that calls; set once, before anything rings

`reserve` counts, refuses and remembers in one script, so that two hosts together never exceed a
cap. Who has asked may die at any moment: a call that was reserved and never begun is forgotten
after `GRACE_S`, and the same request, made again, places it then. `place` lets one worker call,
once: whoever asks again, and however the first one died, the phone doesn't ring twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis.asyncio

from bridge.sessions.model import PREFIX, call_key

LIVE_CALLS, _MINUTE, _KEY = (f"{PREFIX}:{{outbound}}:{name}" for name in ("live", "minute", "key"))
GRACE_S = 20.0
KEEP_S = 24 * 3600

# KEYS: live, minute, key. ARGV: call, fingerprint of the request, most calls, most a minute, how
# long the key is kept (s; 0: there is none). Gives what came of it, and the known call's id and
# fingerprint, or how long to wait (ms), or what time it is (ms).
_RESERVE = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if tonumber(ARGV[5]) > 0 then
  local known = redis.call('GET', KEYS[3])
  if known then
    local at = string.find(known, ' ', 1, true)
    return {'known', string.sub(known, 1, at - 1), string.sub(known, at + 1)}
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 60000)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return {'calls', '', tostring(now)}
end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then
  local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  return {'rate', '', tostring(math.ceil(first[2] + 60000 - now))}
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('PEXPIRE', KEYS[2], 60000)
if tonumber(ARGV[5]) > 0 then
  redis.call('SET', KEYS[3], ARGV[1] .. ' ' .. ARGV[2], 'EX', ARGV[5])
end
return {'reserved', ARGV[1], ARGV[2]}
"""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What came of a reservation."""

    what: Literal["reserved", "known", "calls", "rate"]
    """`known`: that key was used before; `calls`, `rate`: a cap is reached."""
    call_id: str = ""
    fingerprint: str = ""
    wait_s: float = 0.0


class OutboundBook:
    """Raises what redis-py raises."""

    def __init__(self, server: redis.asyncio.Redis) -> None:
        """`server` decodes answers."""
        self._server = server

    async def reserve(
        self, call_id: str, key: str, fingerprint: str, max_calls: int, max_per_minute: int
    ) -> Reserved:
        """Count a call that is about to be asked for; a cap that only the dead fill gives way."""
        for last in (False, True):
            what, known, more = await self._server.eval(  # type: ignore[misc]
                *(_RESERVE, 3, LIVE_CALLS, _MINUTE, _key(key)),
                *(call_id, fingerprint, str(max_calls), str(max_per_minute)),
                str(KEEP_S if key else 0),
            )
            if what != "calls" or last or not await self._forget_the_dead(float(more)):
                break
        if what == "rate":
            return Reserved("rate", wait_s=float(more) / 1000)
        return Reserved(what, known, more if what != "calls" else "")

    async def give_up(self, call_id: str, key: str) -> None:
        """It was never asked for after all: the same key may be used again."""
        await self._server.zrem(LIVE_CALLS, call_id)
        if key:
            await self._server.delete(_key(key))

    async def place(self, call_id: str, worker: str) -> bool:
        """Whether that worker may call: the first one may, once."""
        name = f"{PREFIX}:{{{call_id}}}:placed"
        return bool(await self._server.set(name, worker, nx=True, ex=KEEP_S))

    async def _forget_the_dead(self, now_ms: float) -> bool:
        """Take off what counts and isn't under way any more: their workers died without a word."""
        counted: Sequence[Any] = await self._server.zrange(LIVE_CALLS, 0, -1, withscores=True)
        dead = []
        for call_id, at_ms in counted:
            state: Any = await self._server.hget(call_key(call_id), "state")  # type: ignore[misc]
            if state == "ended" or (state is None and now_ms - at_ms > GRACE_S * 1000):
                dead.append(call_id)
        if dead:
            await self._server.zrem(LIVE_CALLS, *dead)
        return bool(dead)


def _key(text: str) -> str:
    return f"{_KEY}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"
