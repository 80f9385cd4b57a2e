"""Redis: reached, of a version, with rights for what sessions do, keeping what it is given."""

from __future__ import annotations

import secrets
import time
from typing import Any

import redis.asyncio
import redis.exceptions

from bridge.check.finding import Finding
from bridge.sessions import server
from bridge.sessions.model import call_key, transcript_key
from bridge.sessions.settings import RedisSettings

LEAST = (6, 2)
"""GETDEL, and XPENDING that asks for the idle."""
_PINGS = 50
_KEEP_S = 30
_SLOW_MS, _TOO_SLOW_MS = 20.0, 300.0
"""A lease is renewed every 300 ms; a call's first record waits for one answer."""
_SKEW_S = 2.0


async def findings(settings: RedisSettings) -> list[Finding]:
    """What is to be said of it."""
    where = server.where(settings.url)
    client = server.connect(settings.url, settings.timeout_s, settings.ca_file)
    try:
        found = [await _reached(client, where)]
        if found[0].state != "fail":
            found += [await _rights(client), await _latency(client), await _clock(client)]
            found += [await _persistence(client), await _eviction(client)]
        return found
    except (redis.exceptions.RedisError, OSError) as error:
        return [Finding("redis", "fail", f"{where} broke off ({error})", "see its log")]
    finally:
        await server.close(client)


async def _reached(client: redis.asyncio.Redis, where: str) -> Finding:
    try:
        info = _one(await client.info("server"))
    except redis.exceptions.AuthenticationError as error:
        why = f"{where} refuses us ({error})"
        return Finding("redis", "fail", why, "set [redis] username and password")
    except redis.exceptions.NoPermissionError as error:
        return Finding("redis", "fail", f"{where}: {error}", "give its ACL user +info")
    except redis.exceptions.ResponseError as error:
        why = f"{where} refuses us ({error})"
        return Finding("redis", "fail", why, "set [redis] username, password and database right")
    except (redis.exceptions.RedisError, OSError) as error:
        why = f"{where} does not answer ({error})"
        return Finding("redis", "fail", why, "start it, or set [redis] url")
    version = str(info["redis_version"])
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < LEAST:
        return Finding("redis", "fail", f"{version} at {where} is too old", "Redis 6.2 or newer")
    return Finding("redis", "ok", f"{version} at {where}")


async def _rights(client: redis.asyncio.Redis) -> Finding:
    """Do once what sessions do all the time, with a call's keys that nobody looks at."""
    name = f"check-{secrets.token_hex(4)}"
    call, lines = call_key(name), transcript_key(name)
    c: Any = client
    try:
        await c.eval("return redis.call('HSET', KEYS[1], 'v', ARGV[1])", 1, call, "1")
        await c.expire(call, _KEEP_S)
        await c.xadd(lines, {"v": "1"})
        await c.expire(lines, _KEEP_S)
        await c.hgetall(call)
        await c.xrange(lines)
        await c.hget("ari-bridge:live", name)
        await c.zscore("ari-bridge:calls", name)
        await c.hget("ari-bridge:{workers}:about", name)
        await c.time()
        await c.delete(call)
        await c.delete(lines)
    except redis.exceptions.NoPermissionError as error:
        cure = "ACL SETUSER NAME on ~ari-bridge:* +@all -@dangerous +info"
        return Finding("redis rights", "fail", f"its user may not: {error}", cure)
    except redis.exceptions.ReadOnlyError:
        cure = "name the master in [redis] url, or Sentinel (redis+sentinel://)"
        return Finding("redis rights", "fail", "it is a read-only replica", cure)
    except redis.exceptions.OutOfMemoryError:
        cure = "raise maxmemory in its redis.conf"
        return Finding("redis rights", "fail", "it is full and takes no writes", cure)
    except redis.exceptions.ResponseError as error:
        cure = "see its log"
        if str(error).startswith("MISCONF"):
            cure = "make room on its disk: it takes no writes that it can't keep"
        return Finding("redis rights", "fail", f"it refuses a write ({error})", cure)
    return Finding("redis rights", "ok", "writes, scripts and streams work")


async def _latency(client: redis.asyncio.Redis) -> Finding:
    took = []
    for _ in range(_PINGS):
        begun = time.monotonic()
        await client.time()  # PING is refused by one that can't write to its disk
        took.append((time.monotonic() - begun) * 1000)
    p50, most = sorted(took)[_PINGS // 2], max(took)
    figures = {"ms_p50": round(p50, 2), "ms_max": round(most, 2)}
    said = f"answers in {p50:.1f} ms (the slowest of {_PINGS}: {most:.1f})"
    if p50 > _TOO_SLOW_MS:
        cure = "bring it nearer: workers would be taken for dead"
        return Finding("redis speed", "fail", said, cure, figures)
    if p50 > _SLOW_MS:
        cure = "bring it nearer: a takeover asks it several times"
        return Finding("redis speed", "warn", said, cure, figures)
    return Finding("redis speed", "ok", said, "", figures)


async def _clock(client: redis.asyncio.Redis) -> Finding:
    before = time.time()
    told: Any = await client.time()
    after = time.time()
    skew = float(told[0]) + float(told[1]) / 1e6 - (before + after) / 2
    figures = {"skew_s": round(skew, 3)}
    if abs(skew) > _SKEW_S:
        said = f"its clock and ours are {abs(skew):.1f} s apart"
        cure = "let both follow NTP: times in records would contradict each other"
        return Finding("clock", "warn", said, cure, figures)
    return Finding(
        "clock", "ok", f"ours and Redis' agree to {abs(skew) * 1000:.0f} ms", "", figures
    )


async def _persistence(client: redis.asyncio.Redis) -> Finding:
    info = _one(await client.info("persistence"))
    if info.get("aof_last_write_status", "ok") != "ok":
        cure = "make room on its disk: it can't write its append-only file"
        return Finding("redis disk", "fail", "its last write to disk has failed", cure)
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        # stop-writes-on-bgsave-error: it refuses writes from then on, append-only file or not
        cure = "make room on its disk, or let it fork (vm.overcommit_memory = 1)"
        return Finding("redis disk", "fail", "its last snapshot has failed", cure)
    if int(info.get("aof_enabled", 0)):
        return Finding("redis disk", "ok", "it writes every command down (append-only file)")
    return Finding(
        *("redis disk", "warn", "it writes no append-only file"),
        "set 'appendonly yes' in its redis.conf: its restart would forget the last minutes' calls",
    )


async def _eviction(client: redis.asyncio.Redis) -> Finding:
    info = _one(await client.info("memory"))
    policy, most = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    used = int(info.get("used_memory", 0))
    figures = {"used_mib": round(used / 2**20, 1), "most_mib": round(most / 2**20, 1)}
    if policy != "noeviction":
        said = f"it throws keys away when memory is short (maxmemory-policy {policy})"
        cure = "set 'maxmemory-policy noeviction' in its redis.conf, else calls can be forgotten"
        return Finding("redis memory", "fail" if most else "warn", said, cure, figures)
    if most and used > 0.8 * most:
        said = f"{used / 2**20:.0f} of {most / 2**20:.0f} MiB are taken"
        return Finding("redis memory", "warn", said, "raise maxmemory in its redis.conf", figures)
    return Finding("redis memory", "ok", "it throws nothing away (noeviction)", "", figures)


def _one(info: Any) -> dict[str, Any]:
    """Of a Cluster, INFO is told by each node: the first stands for all."""
    if info and all(isinstance(one, dict) for one in info.values()):
        first: dict[str, Any] = next(iter(info.values()))
        return first
    table: dict[str, Any] = info
    return table
