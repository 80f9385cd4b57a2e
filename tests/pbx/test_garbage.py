"""An ended call goes away by counting references: a full collection holds up all that are left.

All parts are real, and the worker's are in this process: what a call leaves shows from within only.
"""

import asyncio
import contextlib
import gc
import logging
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from bridge.call import Call
from bridge.config import AgentsSettings, Config
from bridge.media.settings import MediaSettings
from bridge.pbx.asterisk import AsteriskSettings
from bridge.sessions.settings import RedisSettings
from bridge.tools import Outcome
from bridge.worker import Worker
from tests.integration.media_lab import media_process
from tests.lab.asterisk import Asterisk
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY
from tests.pbx.callers import Caller, Callers
from tests.pbx.conftest import TIMEOUT_S

GREETS, ECHO, NOBODY = "700", "701", "798"


async def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        await asyncio.sleep(0.05)


@pytest.fixture
def collector() -> Iterator[None]:
    """As it was: a worker sets it to its own liking. What pytest keeps of the log keeps errors."""
    before = gc.get_threshold()
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
    gc.set_threshold(*before)
    gc.unfreeze()
    gc.enable()


@pytest.fixture
async def worker(
    collector: None, callers: Callers, redis: Redis, settings: AsteriskSettings
) -> AsyncIterator[Worker]:
    with media_process() as (folder, _):
        worker = Worker(
            Config(
                asterisk=(settings,),
                redis=RedisSettings(url=redis.url),
                media=MediaSettings(runtime_dir=str(folder)),
                agents=AgentsSettings(folder=str(REPOSITORY / "agents")),
            )
        )
        running = asyncio.create_task(worker.run())
        await until(lambda: worker.ready or running.done(), "the worker takes calls")
        yield worker
        worker._asked.set()
        await running


async def hang_up(call: Call, caller: Caller) -> None:
    await caller.hang_up()


async def press(call: Call, caller: Caller) -> None:
    """What the agent begins to say to that is cut off."""
    await caller.press("5")
    await asyncio.sleep(0.5)
    await caller.hang_up()


async def cancel(call: Call, caller: Caller) -> None:
    await call.cancel("somebody who looks after it")


async def transfer(call: Call, caller: Caller) -> None:
    await call.transfer("200")


async def fail(call: Call, caller: Caller) -> None:
    call.end(Outcome("failed", "the engine is lost"))


async def break_down(call: Call, caller: Caller) -> None:
    async def fault() -> None:
        raise RuntimeError("a fault of ours")

    call._tasks.create_task(fault())


WAYS = (
    *((ECHO, how) for how in (hang_up, press)),
    *((GREETS, how) for how in (hang_up, press, cancel, transfer, fail, break_down)),
)


async def all_ways(worker: Worker, callers: Callers) -> list[weakref.ref[object]]:
    """One call after the other, each ended in its own way: some parts of each."""
    parts: list[weakref.ref[object]] = []
    for number, end in WAYS:
        caller = await callers.dial(number)
        await until(lambda c=caller: worker._calls.get(c.call_id), "the call is ours")
        call = worker._calls.get(caller.call_id)
        assert call
        await until(lambda call=call: call._listens, "somebody listens")
        await caller.speak()
        await asyncio.sleep(1)
        talk = call._conversation
        assert talk
        parts += map(weakref.ref, (call, call._leg, call._slot, talk, talk._engine))
        await end(call, caller)
        del call, talk
        await until(lambda: not len(worker._calls), "it is over")
        with contextlib.suppress(Exception):  # he may be gone
            await caller.hang_up()
    await callers.dial(NOBODY)
    await until(lambda: worker._calls.ended > len(WAYS), "of a call for nobody nothing came")
    worker._calls.ended = 0
    await callers.remove_all()
    return parts


def garbage() -> list[object]:
    """What only a collection takes away."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return gc.garbage[:]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def test_an_ended_call_leaves_nothing_to_the_collector(
    worker: Worker, callers: Callers, asterisk: Asterisk
) -> None:
    asterisk.cli(f"dialplan add extension {NOBODY},1,Set,ARI_BRIDGE_AGENT=nobody into internal")
    asterisk.cli(f"dialplan add extension {NOBODY},2,Goto,ari-bridge-call,{NOBODY},1 into internal")
    await all_ways(worker, callers)  # the first time things are made that stay
    gc.collect()
    gc.disable()
    parts = await all_ways(worker, callers)
    await until(lambda: not any(part() for part in parts), f"all are gone: {parts}")
    left = garbage()
    ours = [one for one in left if str(getattr(one, "__module__", "")).startswith("bridge.")]
    assert not ours, Counter(
        f"{one.__module__} {getattr(one, '__qualname__', type(one))}" for one in ours
    )
    assert len(left) < 10 * len(WAYS), Counter(map(type, left))
