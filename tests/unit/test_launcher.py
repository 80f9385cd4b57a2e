import asyncio
import os
import signal

from bridge import launcher


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
