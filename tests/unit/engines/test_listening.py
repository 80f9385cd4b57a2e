"""What a caller is saying, while he says it: who goes first at the model."""

import asyncio

import numpy as np
import pytest

from bridge.engines.hearing import Hearing
from bridge.engines.listening import EVERY_MS, FIRST_MS, Listening
from bridge.engines.lull import Lull
from bridge.engines.stt_queue import Rank, SttQueue


class Caller:
    """Audio that grows; the model takes until `free`."""

    def __init__(self, tasks, lulls=False):
        self.hearing = Hearing(16000, 10_000)
        self.queue = SttQueue(self._work, 16000)
        self.glimpses, self.cut, self.says = [], [], "words"
        self.free = asyncio.Semaphore(0)
        lull = Lull() if lulls else None
        self.listening = Listening(self.queue, self.hearing, tasks, self.glimpses.append, lull=lull)

    async def _work(self, pcm):
        self.cut.append(self.hearing.end_ms)
        await self.free.acquire()
        return self.says

    async def hear(self, ms, level=0):
        for _ in range(ms // 20):
            self.hearing.put(self.hearing.end_ms, np.full(320, level, np.int16))
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


async def test_who_has_just_stopped_goes_before_who_is_read_again():
    async with asyncio.TaskGroup() as tasks:
        caller = Caller(tasks)
        caller.listening.started(0)
        await caller.hear(200)
        caller.listening.pausing(1, 0, 120)
        caller.free.release()
        await caller.hear(20)
        assert len(caller.glimpses) == 1
        model_is_busy = tasks.create_task(caller.queue.transcribe(np.zeros(160, np.int16)))
        await caller.hear(20)
        caller.listening.pausing(1, 0, 120)  # his words don't say that he is done
        await caller.hear(20)
        other = caller.queue.glimpse(lambda: np.zeros(160, np.int16), Rank.PAUSE)
        other_stopped = tasks.create_task(other)
        await caller.hear(20)
        for _ in range(2):
            caller.free.release()
            await caller.hear(20)
        assert model_is_busy.done()
        assert other_stopped.done()
        assert len(caller.glimpses) == 1
        caller.free.release()
        await caller.hear(20)
        assert len(caller.glimpses) == 2
        caller.listening.ended()
        await caller.listening.close()
    await caller.queue.close()


@pytest.mark.parametrize("known", [True, False])
async def test_words_that_a_lull_has_shown_are_not_looked_for_again_in_the_pause(known):
    async with asyncio.TaskGroup() as tasks:
        caller = Caller(tasks, lulls=True)
        caller.listening.started(0)
        await caller.hear(160, 8000)
        await caller.hear(60)
        assert caller.cut == [200]  # 40 ms behind the voice
        if known:
            caller.free.release()
        await caller.hear(20)
        caller.listening.pausing(1, 0, 180)  # to the detector he spoke for a frame more
        await caller.hear(20)
        caller.free.release()
        caller.free.release()  # for one that shouldn't be
        words = await caller.listening.words(1, 0, 180)
        assert (words.turn, words.until_ms) == (0 if known else 1, 200)
        assert len(caller.cut) == 1
        caller.listening.pausing(1, 0, 180)  # read it in another way
        await caller.hear(20)
        assert len(caller.cut) == 2
        caller.free.release()
        await caller.hear(20)
        caller.listening.ended()
        await caller.listening.close()
    await caller.queue.close()


async def test_a_lull_that_lacks_some_of_the_voice_does_not_stand_for_the_pause():
    async with asyncio.TaskGroup() as tasks:
        caller = Caller(tasks, lulls=True)
        caller.listening.started(0)
        await caller.hear(200, 8000)
        await caller.hear(40)
        assert caller.cut == [240]
        caller.free.release()
        await caller.hear(60)
        caller.listening.pausing(1, 0, 240)  # to the detector he spoke until then
        await caller.hear(20)
        assert caller.cut == [240, 320]
        caller.free.release()
        await caller.hear(20)
        assert (await caller.listening.words(1, 0, 240)).until_ms == 320
        caller.listening.ended()
        await caller.listening.close()
    await caller.queue.close()


async def test_a_lull_goes_before_a_glimpse_and_does_not_wait_for_the_model_to_rest():
    async with asyncio.TaskGroup() as tasks:
        caller = Caller(tasks, lulls=True)
        caller.listening.started(0)
        caller.queue._rest_until = asyncio.get_running_loop().time() + 1000
        await caller.hear(FIRST_MS + 100, 8000)
        assert caller.cut == []  # the glimpse waits
        await caller.hear(40)
        assert caller.cut == [FIRST_MS + 140]
        caller.free.release()
        await caller.hear(100)
        assert len(caller.cut) == 1
        await caller.hear(100, 8000)
        caller.listening.ended()
        await caller.hear(100)
        assert len(caller.cut) == 1  # nobody wants to know any more
        await caller.listening.close()
    await caller.queue.close()


@pytest.mark.parametrize("known", [True, False])
async def test_a_lull_that_reads_as_half_of_a_sentence_is_looked_at_again_in_the_pause(known):
    async with asyncio.TaskGroup() as tasks:
        caller = Caller(tasks, lulls=True)
        caller.says = "words,"
        caller.listening.started(0)
        await caller.hear(160, 8000)
        await caller.hear(60)
        assert caller.cut == [200]
        if known:
            caller.free.release()
        await caller.hear(20)
        caller.listening.pausing(1, 0, 160)
        if not known:
            caller.free.release()
        await caller.hear(20)
        assert caller.cut == [200, 260]
        caller.says = "words"
        caller.free.release()
        await caller.hear(20)
        words = await caller.listening.words(1, 0, 160)
        assert (words.text, words.until_ms) == ("words", 260)
        assert len(caller.cut) == 2
        caller.listening.ended()
        await caller.listening.close()
    await caller.queue.close()


async def test_what_a_lull_reads_as_half_of_a_sentence_stands_once_the_turn_is_over():
    async with asyncio.TaskGroup() as tasks:
        caller = Caller(tasks, lulls=True)
        caller.says = "words,"
        caller.listening.started(0)
        await caller.hear(160, 8000)
        await caller.hear(80)
        caller.listening.pausing(1, 0, 160)
        await caller.hear(200)  # the model is slow
        caller.listening.ended()
        caller.free.release()
        await caller.hear(20)
        assert caller.cut == [200], "whoever waits for the answer would wait for another reading"
        assert (await caller.listening.words(1, 0, 160)).text == "words,"
        await caller.listening.close()
    await caller.queue.close()


async def test_a_lull_that_is_over_when_its_turn_comes_is_not_looked_at():
    async with asyncio.TaskGroup() as tasks:
        caller = Caller(tasks, lulls=True)
        somebody = tasks.create_task(caller.queue.transcribe(np.zeros(320, np.int16)))
        caller.listening.started(0)
        await caller.hear(160, 8000)
        await caller.hear(40)
        await caller.hear(100, 8000)
        caller.queue._rest_until = asyncio.get_running_loop().time() + 1000
        caller.free.release()
        await caller.hear(100, 8000)
        assert somebody.done()
        assert len(caller.cut) == 1, "he speaks on: that is a glimpse, for which the model rests"
        await caller.hear(40)
        assert caller.cut[1:] == [440]
        caller.free.release()
        await caller.hear(20)
        caller.listening.ended()
        await caller.listening.close()
    await caller.queue.close()
