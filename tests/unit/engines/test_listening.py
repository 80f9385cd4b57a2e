"""What a caller is saying, while he says it: who goes first at the model."""

import asyncio

import numpy as np
import pytest

from bridge.engines.hearing import Hearing
from bridge.engines.listening import EVERY_MS, FIRST_MS, Listening
from bridge.engines.stt_queue import SttQueue


class Caller:
    """Audio that grows; the model takes until `free`."""

    def __init__(self, tasks):
        self.hearing = Hearing(16000, 10_000)
        self.queue = SttQueue(self._work, 16000)
        self.glimpses, self.cut = [], []
        self.free = asyncio.Semaphore(0)
        self.listening = Listening(self.queue, self.hearing, tasks, self.glimpses.append)

    async def _work(self, pcm):
        self.cut.append(self.hearing.end_ms)
        await self.free.acquire()
        return "words"

    async def hear(self, ms):
        for _ in range(ms // 20):
            self.hearing.put(self.hearing.end_ms, np.zeros(320, np.int16))
            self.listening.grew()
            for _ in range(10):
                await asyncio.sleep(0)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_pause_goes_before_a_glimpse_that_waits_for_the_model_to_rest(busy):
    async with asyncio.TaskGroup() as tasks:
        caller = Caller(tasks)
        caller.listening.started(0)
        await caller.hear(FIRST_MS)
        caller.free.release()
        await caller.hear(20)
        assert [found.until_ms for found in caller.glimpses] == [FIRST_MS]
        caller.queue._rest_until = asyncio.get_running_loop().time() + 1000  # it was a long one
        if busy:
            other = tasks.create_task(caller.queue.transcribe(np.zeros(160, np.int16)))
        await caller.hear(EVERY_MS + 40)
        assert len(caller.cut) == 1 + busy  # the next glimpse is due, and waits
        caller.listening.pausing(1, 0, FIRST_MS + 280)
        if busy:
            await caller.hear(40)
            caller.free.release()
            assert await other == "words"
        await caller.hear(20)
        now = caller.hearing.end_ms
        caller.free.release()
        await caller.hear(20)
        assert len(caller.cut) == 2 + busy
        assert [found.until_ms for found in caller.glimpses][1:] == [caller.cut[-1]]
        assert caller.cut[-1] in (now, now - 20)
        words = await caller.listening.words(1, 0, FIRST_MS + 280)
        assert words is caller.glimpses[-1]
        caller.listening.ended()
        await caller.listening.close()
    await caller.queue.close()
