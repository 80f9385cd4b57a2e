"""Orders: how any process tells the worker that owns a call what to do, through Redis.

    ari-bridge:{WORKER}:inbox     list    ids of orders for that worker
    ari-bridge:{order-ID}:what    string  the order (JSON), until it is taken or withdrawn
    ari-bridge:{order-ID}:answer  list    what came of it (JSON), for a while

An order is carried out at most once: the worker takes its text with GETDEL, and who waits in vain
withdraws it in the same way, so that only one of them gets it. What was withdrawn may be given to
another worker; what was taken and not answered may have been done, and its giver is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
import redis.exceptions

from bridge.sessions.model import PREFIX

log = logging.getLogger(__name__)

_KEEP_S = 60
_LOOK_S = 1.0
"""Shorter than the longest that the connection waits for an answer (`redis.timeout_s`)."""
_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done."""

    verb: str
    call_id: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


Answer = Mapping[str, Any]
"""What JSON knows. A refusal has `error` (a code) and `reason` (for people)."""


class NotTaken(Exception):
    """Nobody has begun with the order, and nobody will."""


class NotAnswered(Exception):
    """The worker has begun with the order; what came of it isn't known."""


def _inbox(worker: str) -> str:
    return f"{PREFIX}:{{{worker}}}:inbox"


def _keys(order_id: str) -> tuple[str, str]:
    tag = f"{PREFIX}:{{order-{order_id}}}"
    return f"{tag}:what", f"{tag}:answer"


async def give(
    server: redis.asyncio.Redis, worker: str, order: Order, within_s: float = 5.0
) -> Answer:
    """Give a worker an order and wait for what comes of it.

    Raises:
        NotTaken, NotAnswered: it didn't answer in time.
        redis.exceptions.RedisError, OSError: as redis-py raises them; nothing is known then.
    """
    order_id = secrets.token_hex(8)
    what, answer = _keys(order_id)
    text = json.dumps([order.verb, order.call_id, dict(order.arguments)])
    await server.set(what, text, ex=_KEEP_S)
    async with server.pipeline(transaction=False) as pipe:
        pipe.rpush(_inbox(worker), order_id)
        pipe.expire(_inbox(worker), _KEEP_S)
        await pipe.execute()
    clock = asyncio.get_running_loop().time
    until = clock() + within_s
    while (left_s := until - clock()) > 0:
        got: Any = server.blpop([answer], timeout=max(0.05, min(_LOOK_S, left_s)))
        if (found := await got) is not None:
            result: Answer = json.loads(found[1])
            return result
    if await server.getdel(what) is not None:
        raise NotTaken
    raise NotAnswered


class Inbox:
    """One worker's."""

    def __init__(
        self,
        server: redis.asyncio.Redis,
        worker: str,
        carry_out: Callable[[Order], Awaitable[Answer]],
    ) -> None:
        """Nothing is taken before `run`; `carry_out` raises nothing."""
        self._server, self._worker, self._carry_out = server, worker, carry_out
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take orders until cancelled; each is carried out in a task of its own."""
        try:
            while True:
                try:
                    got: Any = self._server.blpop([_inbox(self._worker)], timeout=_LOOK_S)
                    if (found := await got) is not None:
                        await self._take(found[1])
                except (redis.exceptions.RedisError, OSError) as error:
                    log.debug("no orders while Redis is away: %s", error)
                    await asyncio.sleep(_AGAIN_S)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _take(self, order_id: str) -> None:
        what, answer = _keys(order_id)
        text = await self._server.getdel(what)
        if text is None:
            return  # withdrawn
        verb, call_id, arguments = json.loads(text)
        task = asyncio.create_task(self._do(Order(verb, call_id, arguments), answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, order: Order, answer: str) -> None:
        result = await self._carry_out(order)
        with contextlib.suppress(redis.exceptions.RedisError, OSError):  # then nobody waits
            async with self._server.pipeline(transaction=False) as pipe:
                pipe.rpush(answer, json.dumps(dict(result)))
                pipe.expire(answer, _KEEP_S)
                await pipe.execute()
