"""The stored transcripts, read from Redis as they grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import redis.asyncio

from tests.demo.report import Line

# The names that bridge/sessions/model.py documents, written out: a reader of its own.
INDEX = "ari-bridge:calls"


def transcript_key(call_id: str) -> str:
    """Name of a call's transcript stream."""
    return f"ari-bridge:{{{call_id}}}:transcript"


def call_key(call_id: str) -> str:
    """Name of a call's hash."""
    return f"ari-bridge:{{{call_id}}}:call"


async def follow(url: str) -> AsyncIterator[Line]:
    """Every line of every call's transcript, as it is stored."""
    seen: dict[str, str] = {}
    async with redis.asyncio.from_url(url, decode_responses=True) as store:
        while True:
            for call_id in await store.zrange(INDEX, 0, -1):
                seen.setdefault(transcript_key(call_id), "0")
            if not seen:
                await asyncio.sleep(0.2)
                continue
            for stream, entries in await store.xread(seen, block=300):
                for entry_id, line in entries:
                    seen[stream] = entry_id
                    yield line


async def read_back(url: str) -> tuple[str, dict[str, str], list[Line]]:
    """Id, record and transcript of the last call that began, once it has ended (5 s at most)."""
    async with redis.asyncio.from_url(url, decode_responses=True) as store:
        record: dict[str, str] = {}
        calls: list[str] = []
        for _ in range(50):
            calls = await store.zrange(INDEX, 0, -1)
            if calls:
                record = await store.hgetall(call_key(calls[-1]))
                if record.get("state") == "ended":
                    break
            await asyncio.sleep(0.1)
        if not calls:
            return "", {}, []
        entries = await store.xrange(transcript_key(calls[-1]))
        return calls[-1], record, [line for _, line in entries]
