"""How a worker begins and ends, with parts that do what they are told."""

import asyncio
import os
import signal
from types import SimpleNamespace

import pytest

from bridge import worker as worker_module
from bridge.config import Config
from bridge.errors import StoreUnreachable
from bridge.sessions.base import Member
from bridge.worker import Worker


def member(name, idle_s=0.1, place="here"):
    return Member(name, True, 1.0, 0, True, place=place, idle_s=idle_s)


class Parts:
    """A worker whose parts note what is asked of them."""

    def __init__(self, members=(), flushed=True, orphans=()):
        self.did, self.dead = [], []
        self.worker = worker = Worker(Config())
        self.owners = dict(orphans)

        async def beat():
            self.did.append("beat")

        async def flush(within_s):
            return flushed

        async def nothing(*_):
            pass

        async def wait(within_s):
            self.did.append(f"wait {within_s:g}")

        async def end(outcome, within_s):
            self.did.append(f"end {outcome.result}")

        async def close():
            self.did.append("media closed")

        worker._leases = SimpleNamespace(
            members={m.name: m for m in members}, beat=beat, wants_door=True
        )
        worker._calls = _Calls(self.did, wait, end)
        worker._store = SimpleNamespace(flush=flush, pass_key=None)
        worker._pbxs = {}
        worker._door = SimpleNamespace(stopping=False)
        worker._media = SimpleNamespace(
            place="here", close=close, orphans=lambda: dict(self.owners)
        )
        worker._reconciler = SimpleNamespace(close=nothing, dead=self.dead.append)


class _Calls:
    def __init__(self, did, wait, end):
        self.wait, self.end, self._did = wait, end, did

    def __len__(self):
        return 1

    def note(self):
        self._did.append("note")

    def let_go(self):
        self._did.append("let go")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(worker_module, "_TELL_S", 0)
    monkeypatch.setattr(worker_module, "_FOUND_AGAIN_S", 0)


def settings(parts, drain_s):
    parts.worker.config = SimpleNamespace(worker=SimpleNamespace(drain_s=drain_s))


async def test_calls_are_handed_over_where_there_is_somebody():
    parts = Parts([member("other")])
    settings(parts, 30)
    await parts.worker._drain()
    assert parts.did[2:] == ["note", "let go", "media closed", "beat", "end shutdown"]
    assert parts.worker._left


async def test_a_time_out_while_it_stops_is_none_of_the_cancellation():
    """Up to Python 3.11.2 one in a cancelled task cancels again: calls were lost by that."""
    parts, seen = Parts([member("other")]), []
    settings(parts, 0)

    async def beat():
        seen.append(asyncio.current_task().cancelling())
        with pytest.raises(TimeoutError):  # as redis-py does in each command
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

    parts.worker._leases.beat = beat

    async def serve():
        try:
            await asyncio.Event().wait()
        finally:
            await parts.worker._drain()

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert seen == [0, 0, 0]
    assert "let go" in parts.did


@pytest.mark.parametrize("members", [[], [member("other")]])
async def test_calls_that_nobody_can_have_go_on_for_a_while(members):
    """Alone; or what the others would need can't be written."""
    parts = Parts(members, flushed=False)
    settings(parts, 30)
    await parts.worker._drain()
    assert parts.did[-2:] == ["wait 30", "end shutdown"]
    assert "let go" not in parts.did
    assert not parts.worker._left


@pytest.mark.parametrize("required", [True, False])
async def test_who_is_ready_takes_calls_and_remembers_them(required):
    parts = Parts([member("other")])
    worker = parts.worker
    worker.config = SimpleNamespace(
        sessions=SimpleNamespace(required=required), worker=SimpleNamespace(drain_s=0)
    )
    worker._store.up = worker._leases.up = True
    assert not worker.ready, "Asterisk was never there"
    worker._takes = True
    assert worker.ready
    for half in (worker._store, worker._leases):
        half.up = False
        assert worker.ready is not required
        half.up = True
    ready = []

    async def beat():
        ready.append(worker.ready)

    worker._leases.beat = beat
    await worker._drain()
    assert ready
    assert not any(ready), "from the first moment of a drain on"


@pytest.mark.parametrize("stopping", [True, False])
async def test_a_sigterm_during_the_clean_up_changes_nothing(stopping):
    worker, steps = Worker(Config()), []
    begun = asyncio.Event()

    async def serve():
        try:
            if stopping:
                worker._stopping = True  # something vital has ended: calls are being ended
            begun.set()
            await (worker._asked if stopping else asyncio.Event()).wait()
            steps.append("served")
        finally:
            worker._stopping = True
            for step in range(3):
                os.kill(os.getpid(), signal.SIGTERM)  # an operator who can't wait
                for _ in range(5):
                    await asyncio.sleep(0)
                steps.append(step)

    worker._serve = serve
    running = asyncio.create_task(worker.run())
    await begun.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        await asyncio.wait_for(running, 10)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert steps == (["served"] if stopping else []) + [0, 1, 2]


async def test_who_had_died_before_we_began_is_inherited_and_who_lives_is_not():
    parts = Parts(
        [member("quiet", idle_s=5.0), member("late"), member("killed")],
        orphans={"c1": "quiet", "c2": "late", "c3": "killed", "c4": "buried", "c5": ""},
    )
    beat = parts.worker._leases.beat

    async def then():
        await beat()
        del parts.owners["c2"]  # it finds its media process again

    parts.worker._leases.beat = then
    await parts.worker._dead_before_us()
    assert set(parts.dead[:2]) == {"quiet", "buried"}
    assert parts.dead[2:] == ["killed"]


async def test_without_redis_the_dead_are_left_to_whoever_can_take_their_calls():
    parts = Parts(orphans={"c1": "gone"})

    async def away():
        raise StoreUnreachable("no answer")

    parts.worker._leases.beat = away
    await parts.worker._dead_before_us()
    assert parts.dead == ["gone"], "the reconciler asks Redis itself, and gives up"
