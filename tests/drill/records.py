"""What is remembered of the callers: their transcripts in Redis, and the tools that took effect."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis as redis_client

from bridge.sessions.model import LIVE, call_key
from bridge.sessions.progress import Progress
from tests.drill.engine import hz_of
from tests.lab.redis import Redis

_WAIT_S = 5.0


@dataclass
class Transcript:
    """One call's record."""

    state: str
    result: str
    ended: float
    worker: str
    agent: list[tuple[str, float]] = field(default_factory=list)
    """Each word that the agent was heard to say, how often in a row."""
    keys: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Saying:
    """What a call's record says of the sentence that is being said."""

    hz: int
    heard_ms: float
    read_at: float
    """Epoch seconds."""


class Records:
    """Reads them; a context manager."""

    def __init__(self, redis: Redis, tools_file: Path) -> None:
        self._redis, self._tools_file = redis, tools_file

    def take(self, numbers: Collection[int]) -> dict[int, Transcript]:
        """The records of these callers, once they have ended; they are used up."""
        until = time.monotonic() + _WAIT_S
        while True:
            found = self.read(numbers)
            ended = sum(told.state == "ended" for _, told in found.values())
            if ended == len(numbers) or time.monotonic() > until:
                break
            time.sleep(0.1)
        with self._server() as server:
            for tag, told in found.values():
                if told.state == "ended":
                    server.delete(f"{tag}:call", f"{tag}:transcript")
        return {number: told for number, (_, told) in found.items()}

    def read(self, numbers: Collection[int]) -> dict[int, tuple[str, Transcript]]:
        """The records of these callers, as they are now, with their names in Redis."""
        found: dict[int, tuple[str, Transcript]] = {}
        with self._server() as server:
            for key in list(server.scan_iter("ari-bridge:*:call", count=1000)):
                record = server.hgetall(key)
                caller = record.get("caller", "")
                if not caller.isdigit() or int(caller) not in numbers:
                    continue
                tag = key.removesuffix(":call")
                told = Transcript(
                    *(record.get(name, "") for name in ("state", "result")),
                    float(record.get("ended", 0)),
                    record.get("worker", ""),
                )
                for _, line in server.xrange(f"{tag}:transcript"):
                    _add(told, line)
                found[int(caller)] = tag, told
        return found

    def saying(self, numbers: Collection[int]) -> dict[int, Saying]:
        """The sentences that callers are just hearing, as an heir would read of them."""
        found: dict[int, Saying] = {}
        with self._server() as server:
            for call_id in server.hkeys(LIVE):
                caller, rate, text = server.hmget(call_key(call_id), "caller", "rate", "progress")
                now = time.time()
                if not (caller or "").isdigit() or int(caller) not in numbers or not text:
                    continue
                for item in Progress.from_text(text).items[:1]:
                    if item.heard and not item.dropped:
                        ms = item.heard * 1000 / int(rate)
                        found[int(caller)] = Saying(hz_of(item.text), ms, now)
        return found

    def owners(self) -> Mapping[str, str]:
        """Whose each live call is."""
        with self._server() as server:
            owners: dict[str, str] = server.hgetall("ari-bridge:live")
            return owners

    def tools_used(self) -> Counter[int]:
        """How often the tool took effect for each caller since the last time."""
        if not self._tools_file.exists():
            return Counter()
        lines = self._tools_file.read_text().splitlines()
        self._tools_file.write_text("")
        return Counter(map(int, lines))

    def _server(self) -> redis_client.Redis:
        return redis_client.Redis.from_url(self._redis.url, decode_responses=True)


def _add(told: Transcript, line: Mapping[str, str]) -> None:
    if line["role"] == "agent":
        words = [word.strip(".").lower() for word in line["text"].split()]
        told.agent += [(word, 1.0) for word in words]
    elif line["role"] == "dtmf":
        told.keys.append(line["text"])
    elif line["role"] == "event":
        told.events.append(line["text"])
