import asyncio

import pytest

from bridge.engines.stt_queue import Rank, SttQueue
from bridge.errors import EngineError


class Model:
    """Answers with the name it was given, when the test lets it."""

    def __init__(self):
        self.asked = []
        self.most = self._now = 0
        self.gate = asyncio.Semaphore(0)

    async def work(self, name):
        self.asked.append(name)
        self._now += 1
        self.most = max(self.most, self._now)
        await self.gate.acquire()
        self._now -= 1
        if name == "bad":
            raise EngineError("broken")
        return name


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_most_urgent_goes_first_and_one_at_a_time():
    model = Model()
    queue = SttQueue(model.work, 16000)
    jobs = [asyncio.create_task(queue.transcribe("first"))]
    await settle()
    ranks = {"g": Rank.GLIMPSE, "again": Rank.AGAIN, "p": Rank.PAUSE, "p2": Rank.PAUSE}
    for name, rank in ranks.items():
        jobs.append(asyncio.create_task(queue.glimpse(lambda name=name: name, rank)))
    jobs.append(asyncio.create_task(queue.transcribe("final")))
    await settle()
    for _ in jobs:
        model.gate.release()
        await settle()
    assert await asyncio.gather(*jobs) == ["first", *ranks, "final"]
    assert model.asked == ["first", "final", "p", "p2", "again", "g"]
    assert model.most == 1


async def test_audio_is_cut_when_its_turn_has_come_and_may_be_wanted_no_more():
    model = Model()
    queue = SttQueue(model.work, 16000)
    audio = "old"
    busy = asyncio.create_task(queue.transcribe("busy"))
    await settle()
    late = asyncio.create_task(queue.glimpse(lambda: audio))
    unwanted = asyncio.create_task(queue.glimpse(lambda: None))
    await settle()
    audio = "new"
    model.gate.release()
    model.gate.release()
    assert await late == "new"
    assert await unwanted is None
    assert await busy == "busy"
    assert model.asked == ["busy", "new"]


async def test_whoever_gave_up_is_passed_over():
    model = Model()
    queue = SttQueue(model.work, 16000)
    busy = asyncio.create_task(queue.transcribe("busy"))
    gone = asyncio.create_task(queue.transcribe("gone"))
    stays = asyncio.create_task(queue.transcribe("stays"))
    await settle()
    gone.cancel()
    await settle()
    model.gate.release()
    model.gate.release()
    assert await stays == "stays"
    assert await busy == "busy"
    assert model.asked == ["busy", "stays"]


@pytest.mark.parametrize("rank", [Rank.GLIMPSE, Rank.LULL])
async def test_glimpses_rest_as_long_as_they_took_and_finals_do_not(rank):
    model = Model()
    queue = SttQueue(model.work, 16000)
    loop = asyncio.get_running_loop()
    now, real = 100.0, loop.time
    loop.time = lambda: now
    try:
        one = asyncio.create_task(queue.glimpse(lambda: "one", rank))
        await settle()
        now = 100.08
        model.gate.release()
        await settle()
        assert one.done()
        two = asyncio.create_task(queue.glimpse(lambda: "two"))
        await settle()
        assert model.asked == ["one"]  # until 100.16
        final = asyncio.create_task(queue.transcribe("final"))
        await settle()
        assert model.asked == ["one", "final"]
        now = 100.17
        model.gate.release()
        await settle()
        assert model.asked == ["one", "final", "two"]
        model.gate.release()
        await settle()
        assert two.done()
        assert final.done()
    finally:
        loop.time = real
        await queue.close()


async def test_an_error_is_told_to_whoever_asked_and_the_next_is_served():
    model = Model()
    queue = SttQueue(model.work, 16000)
    bad = asyncio.create_task(queue.transcribe("bad"))
    good = asyncio.create_task(queue.transcribe("good"))
    await settle()
    model.gate.release()
    model.gate.release()
    with pytest.raises(EngineError, match="broken"):
        await bad
    assert await good == "good"
