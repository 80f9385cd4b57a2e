"""Who may speak for a call, and what becomes of calls whose far end is not there."""

import asyncio
import itertools
import os
import signal
import struct
import time

import numpy as np

from bridge.audio import g711
from bridge.media.client import MediaClient
from tests.integration.media_lab import Phone, media_process
from tests.lab.root import free_port

FRAME = 160


def numbered(k):
    """A frame that says its number, up to 100, by its one level."""
    return np.full(FRAME, 0x80 + k, np.uint8)


LEVELS = {int(g711.decode_ulaw(numbered(k)[:1])[0]): k for k in range(100)}


class Listener:
    def __init__(self, slot):
        self.frames = []
        slot.on_frames = lambda up: self.frames.extend(up.pcm.reshape(-1, FRAME))

    def numbers(self):
        """Of the frames that came up untouched."""
        flat = [f for f in self.frames if (f == f[0]).all() and f[0]]
        return [LEVELS[int(f[0])] for f in flat]


async def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.005)


async def test_a_second_sender_changes_nothing():
    """With the caller's own SSRC and next numbers, louder and faster, at the very same port."""
    with media_process() as (folder, _):
        client = await MediaClient.connect(folder, "w1")
        phone, stranger = Phone(), Phone()
        slot = await client.open("call-1", phone.address, "PCMU", 8000)
        heard = Listener(slot)
        shout = bytes(FRAME)  # full scale
        thrown = 0
        for k in range(60):
            stranger.seq, stranger.ts, stranger.ssrc = phone.seq, phone.ts, phone.ssrc
            for _ in range(3):  # before the caller's packet, ahead of it, and behind
                stranger.send(client.address, shout)
                thrown += 1
            phone.send(client.address, numbered(k).tobytes())
            stranger.send(client.address, shout)
            thrown += 1
            await asyncio.sleep(0.02)
        await until(lambda: len(heard.numbers()) >= 60)
        assert heard.numbers() == list(range(60)), "every frame is the caller's, in order, once"
        assert (await client.counters())["unknown_source"] == thrown
        stats = slot.stats()
        assert (stats["received"], stats["lost"], stats["duplicate"], stats["bad"]) == (60, 0, 0, 0)
        assert not stranger.received(), "nothing is ever sent to it"
        assert len(phone.received()) > 50
        await client.close()
        phone.close()
        stranger.close()


async def test_a_media_process_that_was_held_up_for_two_seconds_loses_nothing():
    """What came meanwhile waits in the socket, and all of it goes up."""
    with media_process() as (folder, process):
        client = await MediaClient.connect(folder, "w1")
        phone = Phone()
        slot = await client.open("call-1", phone.address, "PCMU", 8000)
        heard = Listener(slot)
        said = 0
        begin = time.monotonic()
        for begin_stop, last in ((False, 50), (True, 155), (False, 200)):
            if begin_stop:
                os.kill(process.pid, signal.SIGSTOP)
            while said < last:
                phone.send(client.address, numbered(said % 100).tobytes())
                said += 1
                await asyncio.sleep(max(0.0, begin + 0.02 * said - time.monotonic()))
            os.kill(process.pid, signal.SIGCONT)
        await until(lambda: len(heard.numbers()) >= said)
        assert heard.numbers() == [k % 100 for k in range(said)]
        stats = slot.stats()
        assert (stats["received"], stats["lost"], stats["overflow"]) == (said, 0, 0)
        await client.close()
        phone.close()


async def test_one_call_does_not_speak_for_another():
    with media_process() as (folder, _):
        client = await MediaClient.connect(folder, "w1")
        phones = [Phone(), Phone()]
        slots = [
            await client.open(f"call-{i}", p.address, "PCMU", 8000) for i, p in enumerate(phones)
        ]
        heard = [Listener(slot) for slot in slots]
        phones[1].ssrc, phones[1].seq = phones[0].ssrc, phones[0].seq
        for k in range(20):
            phones[0].send(client.address, numbered(k).tobytes())
            phones[1].send(client.address, numbered(50 + k).tobytes())
            await asyncio.sleep(0.02)
        await until(lambda: all(len(x.numbers()) >= 20 for x in heard))
        assert heard[0].numbers() == list(range(20))
        assert heard[1].numbers() == list(range(50, 70))
        await client.close()
        for phone in phones:
            phone.close()


async def test_a_far_end_that_is_gone_for_a_while():
    """Its port is closed: every packet to it earns an ICMP error. Then it is there again."""
    with media_process() as (folder, process):
        client = await MediaClient.connect(folder, "w1")
        phone, other = Phone(), Phone()
        gone = await client.open("gone", phone.address, "PCMU", 8000)
        await client.open("other", other.address, "PCMU", 8000)
        heard = Listener(gone)
        await until(lambda: phone.received())
        before = gone.stats()["sent"]
        phone.socket.close()
        await until(lambda: gone.stats()["sent"] > before + 50)
        again = Phone(port=phone.address[1])
        await until(lambda: len(heard.frames) > 10)
        got = []
        await until(lambda: got.extend(again.received()) or len(got) > 20)
        for k in range(20):
            again.send(client.address, numbered(k).tobytes())
            await asyncio.sleep(0.02)
        await until(lambda: len(heard.numbers()) >= 19)
        assert heard.numbers()[-10:] == list(range(10, 20))
        steps = {b[2] - a[2] & 0xFFFF for a, b in itertools.pairwise(other.received())}
        assert steps == {1}, "the other call missed nothing"
        assert process.is_alive()
        await client.close()
        again.close()
        other.close()


async def test_far_ends_that_can_not_be_reached_at_all():
    """The system refuses to send there; packets to others, in the same batch, still leave."""
    with media_process() as (folder, process):
        client = await MediaClient.connect(folder, "w1")
        # Four of each: the calls' packets leave in four phases, and each has one of both.
        for k, address in enumerate(("255.255.255.255", "0.0.0.0", "240.0.0.1", "255.255.255.255")):
            await client.open(f"nowhere-{k}", (address, free_port()), "PCMU", 8000)
        phones = [Phone() for _ in range(4)]
        for k, phone in enumerate(phones):
            await client.open(f"call-{k}", phone.address, "PCMU", 8000)
        got = [[] for _ in phones]

        def everybody():
            for mine, phone in zip(got, phones, strict=True):
                mine.extend(phone.received())
            return min(map(len, got)) > 50

        await until(everybody)
        for mine in got:
            assert {b[2] - a[2] & 0xFFFF for a, b in itertools.pairwise(mine)} == {1}
        assert process.is_alive()
        await client.close()
        for phone in phones:
            phone.close()


async def test_a_packet_from_the_caller_s_address_and_another_port_is_a_stranger_s():
    with media_process() as (folder, _):
        client = await MediaClient.connect(folder, "w1")
        phone, beside = Phone(), Phone()
        slot = await client.open("call-1", phone.address, "PCMU", 8000)
        header = struct.pack(">BBHII", 0x80, 0, 1, 160, 5)
        for _ in range(5):
            beside.socket.sendto(header + bytes(FRAME), client.address)
        counters = {}
        end = time.monotonic() + 5
        while counters.get("unknown_source") != 5:
            assert time.monotonic() < end
            counters = await client.counters()
        assert slot.stats()["received"] == 0
        await client.close()
        phone.close()
        beside.close()
