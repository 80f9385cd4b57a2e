"""Processes that are started again, and stopped in turn."""

import asyncio
import os
import signal

import pytest

from bridge import launcher


class Process:
    """Ends with a status at once."""

    def __init__(self, status):
        self.returncode = self.status = status

    async def wait(self):
        return self.status


@pytest.fixture
def child(monkeypatch):
    """Its process ends as `statuses` say; how long is waited in between is noted."""
    one = launcher._Child("worker")
    one.statuses, one.waits, one.lives_s, one.now = [], [], 0.0, 0.0

    async def start(*command, **options):
        one.now += one.lives_s
        return Process(one.statuses.pop(0))

    async def wait_for(stopped, wait_s):
        stopped.close()
        one.waits.append(wait_s)
        if not one.statuses:
            one.stopped.set()
            return
        raise TimeoutError

    monkeypatch.setattr(launcher.asyncio, "create_subprocess_exec", start)
    monkeypatch.setattr(launcher.asyncio, "wait_for", wait_for)
    return one


async def test_what_dies_again_and_again_is_started_ever_more_slowly(child):
    child.statuses = [1] * 9
    assert await child.keep(None) == 0
    assert child.waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]


async def test_what_only_the_operator_can_mend_is_not_tried_again(child):
    child.statuses = [launcher.EXIT_CONFIG, 1]
    assert await child.keep(None) == launcher.EXIT_CONFIG
    assert child.waits == []


async def test_what_has_served_is_started_again_at_once_and_always(child, monkeypatch):
    clock = iter(range(0, 1000, 11))  # it lives for 11 s each time
    monkeypatch.setattr(launcher.time, "monotonic", lambda: float(next(clock)))
    child.statuses = [-9, -9, launcher.EXIT_CONFIG]
    assert await child.keep(None) == 0
    assert child.waits == [0.2, 0.2, 0.2]


async def test_workers_are_given_the_time_that_their_calls_may_take(tmp_path, monkeypatch):
    given = {}

    async def keep(child, config):
        await child.stopped.wait()
        return 0

    async def stop(child, keeping, within_s):
        given[child.name] = within_s
        child.stopped.set()
        await keeping

    monkeypatch.setattr(launcher._Child, "keep", keep)
    monkeypatch.setattr(launcher._Child, "stop", stop)
    running = asyncio.create_task(launcher.run(None, tmp_path / "run", drain_s=lambda: 60.0))
    await asyncio.sleep(0)  # it runs until it waits
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert given["worker"] > 60 > given["media"]
