"""One media process goes, the next goes on with the same slots."""

import asyncio
import os
import signal

import numpy as np

from bridge.media import control
from bridge.media.client import MediaClient
from bridge.media.slots import FREE, SlotMap
from tests.integration.media_lab import Phone, media_process, successor

RATE = 8000


def taken(folder):
    return int((SlotMap.attach(folder / "media.slots").columns["state"] != FREE).sum())


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.02)


async def test_a_spare_goes_on_with_what_was_queued():
    phone = Phone()
    with media_process() as (folder, process), successor(folder):
        client = await MediaClient.connect(folder, "w1", successor_s=20)
        slot = await client.open("a", phone.address, "PCMU", RATE)
        slot.play(1, np.full(RATE, 1000, np.int16))
        place = client.place
        process.terminate()
        await until(lambda: slot.heard(1) == RATE)
        assert client.place == place, "it is the same slots"
        assert not client.lost.done()
        await slot.close()
        assert taken(folder) == 0
        await client.close()
    phone.close()


async def test_a_socket_that_dies_under_the_returning_worker_ends_no_call():
    # The dying process' socket may still take a connection, which then ends at once.
    phone = Phone()
    with media_process() as (folder, process):
        client = await MediaClient.connect(folder, "w1", successor_s=20)
        slot = await client.open("a", phone.address, "PCMU", RATE)
        process.kill()
        process.join()
        path = control.socket_path(folder)
        path.unlink()
        with control.new_socket() as dying:
            dying.bind(str(path))
            dying.listen()
            async with asyncio.timeout(10):
                (await asyncio.get_running_loop().sock_accept(dying))[0].close()
            path.unlink()
        with successor(folder):
            await until(lambda: not client._away)
            slot.play(1, np.full(RATE // 10, 1000, np.int16))
            slot.done(1)
            await until(lambda: slot.heard(1) == RATE // 10)
        assert not client.lost.done()
        await client.close()
    phone.close()


async def test_a_call_that_ends_while_nobody_serves_gives_its_slot_back():
    phone = Phone()
    with media_process() as (folder, process):
        client = await MediaClient.connect(folder, "w1", successor_s=20)
        slot = await client.open("a", phone.address, "PCMU", RATE)
        process.terminate()
        await until(lambda: client._away)
        await slot.close()
        assert taken(folder) == 1
        with successor(folder):
            await until(lambda: taken(folder) == 0)
        await client.close()
    phone.close()


async def test_a_call_that_ends_as_the_media_process_dies_gives_its_slot_back():
    phone = Phone()
    with media_process() as (folder, process):
        client = await MediaClient.connect(folder, "w1", successor_s=20)
        slot = await client.open("a", phone.address, "PCMU", RATE)
        os.kill(process.pid, signal.SIGSTOP)
        closing = asyncio.create_task(slot.close())
        await asyncio.sleep(0)  # asked, and not answered
        process.kill()
        await closing
        with successor(folder):
            await until(lambda: taken(folder) == 0)
        await client.close()
    phone.close()


async def test_an_heir_hears_what_nobody_has_read():
    phone = Phone()
    with media_process() as (folder, _):
        first = await MediaClient.connect(folder, "w1")
        slot = await first.open("a", phone.address, "PCMU", RATE)
        heard, again, far = [], [], []
        slot.on_frames = lambda up: heard.append(up.at_ms + 20 * len(up.speech))
        await until(lambda: heard and heard[-1] >= 800)  # all of it stays in the ring
        await first.close()
        second = await MediaClient.connect(folder, "w2")
        slot = await second.attach("a", RATE)
        slot.on_frames = lambda up: again.append(up.at_ms)
        await until(lambda: again)
        assert again[0] == heard[-1] - 400, "a little of it again"
        third = await MediaClient.connect(folder, "w3")
        slot = await third.attach("a", RATE, since_ms=700)
        slot.on_frames = lambda up: far.append((up.at_ms, up.at_ms + 20 * len(up.speech)))
        await until(lambda: far)
        assert far[0][0] == 300
        await third.close()
        till = far[-1][1]
        fourth, answered = await MediaClient.connect(folder, "w4"), []
        slot = await fourth.attach("a", RATE, answered_ms=till)
        slot.on_frames = lambda up: answered.append(up.at_ms)
        await until(lambda: answered)
        assert answered[0] == till, "none of it again"
        fifth, whole = await MediaClient.connect(folder, "w5"), []
        slot = await fifth.attach("a", RATE, since_ms=700, answered_ms=till)
        slot.on_frames = lambda up: whole.append(up.at_ms)
        await until(lambda: whole)
        assert whole[0] == 300, "a turn without words is heard as a whole"
        for client in (second, fourth, fifth):
            await client.close()
    phone.close()
