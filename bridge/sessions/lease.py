"""Leases in Redis, with fencing tokens: the front door, each worker, each call.

    ari-bridge:{workers}:until   zset  each worker, by when its lease ends (ms, Redis' own time)
    ari-bridge:{workers}:about   hash  each worker, what it says of itself (JSON)
    ari-bridge:{workers}:door    hash  who holds the front door, until when, and the token

One script, `_BEAT`, renews all of a worker's leases and tells it who else is there, in one round
trip. A call's lease has no time of its own: it lasts as long as its owner's, and what a call's
record holds (`worker`, `fence`) says who that is. So a thousand calls cost no renewals.

Dead is who is known to be: a worker whose socket to the media process ended, or who is dead by the
rule of `bridge.sessions.members` in front of somebody who has seen Redis answer in time for as
long. So nobody loses a lease because Redis was slow or away; and a beat that a frozen Redis carries
out only when it goes on takes nothing from anybody, because it says by when it was meant to
arrive. A worker that was itself held up (`SIGSTOP`, a suspended machine) notices that when it goes
on: `sure` then holds back what it wants to do, until Redis has said which calls are still its own,
or is found to be away (then owners keep their calls).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import redis.asyncio
import redis.exceptions

from bridge.errors import StoreUnreachable
from bridge.sessions.base import Member
from bridge.sessions.members import TTL_S, dead, member, next_look_s
from bridge.sessions.model import LIVE, PREFIX, Record, call_key

log = logging.getLogger(__name__)

SLOW_S = 0.5
"""An answer that took longer makes all that it says of others doubtful."""
SLEPT_S = 1.0
"""Held up for longer than this, a worker makes sure of its calls before it does anything."""
_TICK_S = 0.1

_UNTIL, _ABOUT, _DOOR = (f"{PREFIX}:{{workers}}:{name}" for name in ("until", "about", "door"))

# KEYS: until, about, door. ARGV: name, ttl in ms, about, 1 if it would hold the front door, 1 if it
# may take it from a holder whose lease has run out, by when this was meant to arrive (ms, 0: no
# matter), 1 if it may take it where nothing is known of it (one that was left is anybody's). Gives:
# by when our own lease was to end so far (ms; 0: there was none), the door's holder, its token, the
# time in ms, then for each worker: name, ms that are left of its lease, about.
_BEAT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local known = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
local door = redis.call('HMGET', KEYS[3], 'holder', 'until', 'fence')
local late = tonumber(ARGV[6]) > 0 and now > tonumber(ARGV[6])
local unknown = not door[1]
local holder, ends, fence = door[1] or '', tonumber(door[2] or '0'), tonumber(door[3] or '0')
if holder == ARGV[1] and ARGV[4] == '0' then
  holder = ''
  redis.call('HSET', KEYS[3], 'holder', '')
elseif ARGV[4] == '1'
    and (holder == ARGV[1]
      or not late and (ARGV[5] == '1' and ends <= now
        or holder == '' and (not unknown or ARGV[7] == '1'))) then
  if holder ~= ARGV[1] then
    fence = fence + 1
  end
  holder = ARGV[1]
  redis.call('HSET', KEYS[3], 'holder', holder, 'until', now + ARGV[2], 'fence', fence)
end
local answer = {known, holder, fence, now}
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  answer[#answer + 1] = all[i]
  answer[#answer + 1] = tonumber(all[i + 1]) - now
  answer[#answer + 1] = redis.call('HGET', KEYS[2], all[i]) or '{}'
end
return answer
"""

# KEYS: until, about, door. ARGV: name.
_BURY = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
if redis.call('HGET', KEYS[3], 'holder') == ARGV[1] then
  redis.call('HSET', KEYS[3], 'holder', '')
end
"""

# KEYS: the call's hash. ARGV: whose it must still be, whose it will be. Gives the record, or {}.
_CLAIM = """
local owner = redis.call('HGET', KEYS[1], 'worker')
if owner ~= ARGV[1] or redis.call('HGET', KEYS[1], 'state') == 'ended' then
  return {}
end
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'worker', ARGV[2])
return redis.call('HGETALL', KEYS[1])
"""

# KEYS: until, about. Gives for each worker what `_BEAT` gives.
_LOOK = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local answer = {}
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  answer[#answer + 1] = all[i]
  answer[#answer + 1] = tonumber(all[i + 1]) - now
  answer[#answer + 1] = redis.call('HGET', KEYS[2], all[i]) or '{}'
end
return answer
"""


async def read_members(client: redis.asyncio.Redis) -> dict[str, Member]:
    """Who is there, for somebody who holds no lease. Raises what redis-py raises."""
    flat = await client.eval(_LOOK, 2, _UNTIL, _ABOUT)  # type: ignore[misc]
    return {
        name: member(name, int(left), about)
        for name, left, about in zip(*(iter(flat),) * 3, strict=True)
    }


class RedisLeases:
    """`Leases` on a Redis server, and our own lease there."""

    def __init__(
        self, server: redis.asyncio.Redis, name: str, about: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Nothing happens before `beat` or `run`.

        Args:
            server: with `decode_responses`.
            name: our own.
            about: the fields of our `Member` that we say ourselves.
        """
        self.name = name
        self.members: dict[str, Member] = {}
        self.holds_door = False
        self.wants_door = True
        self.door_holder = ""
        self.on_dead: Callable[[str], None] = lambda worker: None
        """Told of a worker whose lease has run out, at every beat until it is buried."""
        self.on_beat: Callable[[], None] = lambda: None
        """Told after each beat that Redis answered."""
        self.on_unsure: Callable[[], Awaitable[None]] = _nothing
        """Has to find out which calls are still ours."""
        self.on_forgotten: Callable[[], None] = lambda: None
        """Told when Redis has lost what we had written: it is empty, or older than it was."""
        self.up = True
        """Redis has answered our last beat."""
        self._server, self._about = server, about
        self._beat = server.register_script(_BEAT)
        self._bury = server.register_script(_BURY)
        self._claim = server.register_script(_CLAIM)
        self._healthy_since = time.monotonic()
        self._until_ms = 0
        """By when our lease ends, as Redis said last."""
        self._ahead_ms = 0.0
        """Redis' clock, less ours; 0 until it is known."""
        self._last_tick = time.monotonic()
        self._woke = -math.inf
        self._unsure = False
        self._beating = asyncio.Lock()
        self._nudged = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    async def run(self) -> None:
        """Renew and watch until cancelled."""
        self._last_tick = time.monotonic()  # loading models may have taken seconds
        ticking = asyncio.create_task(self._tick())
        try:
            while True:
                began = time.monotonic()
                await self._attempt()
                look_s = next_look_s(self.members.values(), self.place)
                rest = max(0.05, look_s - (time.monotonic() - began))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rest):
                        await self._nudged.wait()
                self._nudged.clear()
        finally:
            ticking.cancel()

    async def beat(self) -> None:
        """Renew all our leases, and learn who is there. Raises `StoreUnreachable`."""
        async with self._beating:  # an answer that another has overtaken would look forgotten
            await self._renew()

    async def _renew(self) -> None:
        began = time.monotonic()
        trusted_s = began - self._healthy_since
        healthy = trusted_s >= TTL_S
        # A Redis that has come back empty knows no holder: it is still who it was.
        first = self.holds_door or healthy or not self.members
        due_ms = (began + SLOW_S) * 1000 + self._ahead_ms if self._ahead_ms else 0
        try:
            answer = await self._beat(
                keys=[_UNTIL, _ABOUT, _DOOR],
                args=[
                    *(self.name, int(TTL_S * 1000), json.dumps(dict(self._about()))),
                    *(int(self.wants_door), int(healthy), int(due_ms), int(first)),
                ],
            )
        except (redis.exceptions.RedisError, OSError) as error:
            self._healthy_since = time.monotonic()
            if self.up:
                log.warning("Redis does not answer: every worker keeps its calls until it does")
            self.up = False
            raise StoreUnreachable(f"no lease could be renewed: {error}") from error
        if not self.up:
            log.info("Redis answers again")
        self.up = True
        known, self.door_holder, _, now_ms = answer[:4]
        if time.monotonic() - began > SLOW_S or 0 < due_ms < now_ms:
            self._healthy_since, trusted_s = time.monotonic(), 0.0
        self._ahead_ms = now_ms - time.monotonic() * 1000
        self.holds_door = self.door_holder == self.name
        if known < self._until_ms:  # buried alive, or Redis has come back empty or older
            self._doubt()
            self.on_forgotten()
        self._until_ms = now_ms + int(TTL_S * 1000)
        self.members = {
            name: member(name, int(left), about)
            for name, left, about in zip(*(iter(answer[4:]),) * 3, strict=True)
        }
        for name in dead(self.members.values(), self.place, trusted_s):
            if name != self.name:
                self.on_dead(name)
        self.on_beat()

    @property
    def place(self) -> str:
        """Of our own: see `Member.place`."""
        return str(self._about().get("place", ""))

    def nudge(self) -> None:
        """Beat now: something has changed."""
        self._nudged.set()

    async def leave(self) -> None:
        """Give all our leases back. Raises `StoreUnreachable`."""
        await self.bury(self.name)

    async def sure(self) -> None:
        """Return at once, unless we were held up: then when it is known which calls are ours."""
        self._look()
        await self._settled.wait()

    # The port -------------------------------------------------------------------------------------

    @property
    def woke(self) -> float:
        """See `Leases.woke`."""
        self._look()  # whoever asks may be the first to run since then
        return self._woke

    async def live(self) -> Mapping[str, str]:
        """See `Leases.live`."""
        owners: dict[str, str] = await self._ask(self._server.hgetall(LIVE))  # type: ignore[arg-type]
        return owners

    async def claim(self, call_id: str, owner: str) -> Record | None:
        """See `Leases.claim`."""
        flat = await self._ask(self._claim(keys=[call_key(call_id)], args=[owner, self.name]))
        if not flat:
            fields = self._server.hmget(call_key(call_id), ["state", "worker"])
            state, really = await self._ask(fields)  # type: ignore[arg-type]
            if state in (None, "ended"):  # then it is on the list by mistake
                await self._ask(self._server.hdel(LIVE, call_id))  # type: ignore[arg-type]
            else:  # who had claimed it may have died before he could put that on the list
                await self._ask(self._server.hset(LIVE, call_id, really))  # type: ignore[arg-type]
            return None
        await self._ask(self._server.hset(LIVE, call_id, self.name))  # type: ignore[arg-type]
        return Record.from_fields(dict(zip(flat[::2], flat[1::2], strict=True)))

    async def bury(self, worker: str) -> None:
        """See `Leases.bury`."""
        await self._ask(self._bury(keys=[_UNTIL, _ABOUT, _DOOR], args=[worker]))
        self.members.pop(worker, None)
        if worker == self.door_holder:
            self.nudge()  # somebody has to open the front door again

    async def owners(self, call_ids: Collection[str]) -> Mapping[str, str]:
        """See `Leases.owners`."""
        async with self._server.pipeline(transaction=False) as pipe:
            for call_id in call_ids:
                pipe.hmget(call_key(call_id), ["worker", "state"])
            rows = await self._ask(pipe.execute())
        return {
            call_id: worker
            for call_id, (worker, state) in zip(call_ids, rows, strict=True)
            if worker and state != "ended"
        }

    # How ------------------------------------------------------------------------------------------

    async def _ask(self, question: Awaitable[Any]) -> Any:
        try:
            return await question
        except (redis.exceptions.RedisError, OSError) as error:
            raise StoreUnreachable(f"Redis: {error}") from error

    async def _attempt(self) -> None:
        """One beat; whatever comes of it, who waits in `sure` knows all that can be known."""
        self._look()
        try:
            await self.beat()
            if self._unsure:
                await self.on_unsure()
        except StoreUnreachable as error:
            log.debug("%s", error)
        self._unsure = False
        self._settled.set()

    async def _tick(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(_TICK_S)

    def _look(self) -> None:
        """Were we held up?"""
        now = time.monotonic()
        slept, self._last_tick = now - self._last_tick, now
        if slept > SLEPT_S:
            log.warning("this process was held up for %.1f s: are its calls still its own?", slept)
            self._healthy_since = now
            self._woke = now
            self._doubt()

    def _doubt(self) -> None:
        self._unsure = True
        self._settled.clear()
        self._nudged.set()


async def _nothing() -> None:
    return None
