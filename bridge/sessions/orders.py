"""Orders: how any process tells the worker that owns a call what to do, through Redis.

    ari-bridge:{WORKER}:inbox     list    ids of orders for that worker
    ari-bridge:{order-ID}:what    string  the order (JSON), until it is taken or withdrawn
    ari-bridge:{order-ID}:answer  list    what came of it (JSON), for a while

An order is carried out at most once: the worker takes its text away, and who waits in vain
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
_AGAIN_S = 0.5
_WAIT_S = 1
_SHORTEST_S = 1.5
"""Where a connection waits no longer than this for any answer, it is asked again and again."""
_POLL_S = 0.05


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


async def _always() -> bool:
    return True


async def give(
    server: redis.asyncio.Redis,
    worker: str,
    order: Order,
    within_s: float = 5.0,
    still: Callable[[], Awaitable[bool]] = _always,
) -> Answer:
    """Give a worker an order and wait for what comes of it.

    Args:
        server: decodes answers.
        worker: its name.
        order: what is to be done.
        within_s: how long to wait.
        still: asked now and then whether that worker is the right one; if not, nobody waits.

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
    while clock() < until:
        if (found := await _next(server, answer)) is not None:
            result: Answer = json.loads(found)
            return result
        if not await still():
            break
    if await server.getdel(what) is not None:
        raise NotTaken
    raise NotAnswered


async def _next(server: redis.asyncio.Redis, name: str) -> str | None:
    """The next of a list; None if there was none for a while."""
    kwargs = getattr(getattr(server, "connection_pool", None), "connection_kwargs", {})
    if (kwargs.get("socket_timeout") or 0) < _SHORTEST_S:
        got: Any = await server.lpop(name)  # type: ignore[misc]
        if got is None:
            await asyncio.sleep(_POLL_S)
        return got  # type: ignore[no-any-return]
    got = await server.blpop([name], timeout=_WAIT_S)  # type: ignore[misc]
    return None if got is None else got[1]


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
                    if (order_id := await _next(self._server, _inbox(self._worker))) is not None:
                        await self._take(order_id)
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
