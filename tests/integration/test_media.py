"""The real media process, a worker's client and a telephone's RTP, over real sockets."""

import asyncio
import itertools
import socket
import time

import numpy as np
import pytest

from bridge.audio import g711
from bridge.errors import MediaError, MediaFull, MediaUnreachable
from bridge.media import control
from bridge.media.client import MediaClient
from bridge.media.server import Server
from bridge.media.settings import MediaSettings
from tests.integration.media_lab import Phone, media_process

FRAMES = 40


def tone(rate, seconds, hz=440):
    t = np.arange(int(rate * seconds)) / rate
    return np.rint(8000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)


async def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.01)


class Listener:
    def __init__(self, slot):
        self.ups = []
        slot.on_frames = self.ups.append

    @property
    def ms(self):
        return sum(len(u.pcm) for u in self.ups) * 20

    @property
    def pcm(self):
        return np.concatenate([u.pcm.ravel() for u in self.ups])


async def talk(phone, address, pcm, gap_s=0.02):
    """Send it in packets of 20 ms, on time."""
    codes = g711.encode_ulaw(pcm)
    start = time.monotonic()
    for i in range(len(codes) // 160):
        phone.send(address, codes[i * 160 : (i + 1) * 160].tobytes())
        await asyncio.sleep(max(0, start + gap_s * (i + 1) - time.monotonic()))


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
async def test_both_ways(rate):
    with media_process() as (folder, _):
        client = await MediaClient.connect(folder, "w1")
        phone = Phone()
        slot = await client.open("call-1", phone.address, "PCMU", rate)
        heard = Listener(slot)
        slot.play(1, tone(rate, 0.5))
        slot.done(1)
        await talk(phone, client.address, tone(8000, 1.0))
        await until(lambda: heard.ms >= 1000 and slot.queued_ms == 0)
        at = [u.at_ms for u in heard.ups]
        lengths = [len(u.speech) * 20 for u in heard.ups]
        assert at == np.cumsum([0, *lengths[:-1]]).tolist(), "audio time has no hole"
        # On a busy machine this phone itself stutters; what it did send came up as it was.
        level = np.sqrt((heard.pcm.reshape(-1, rate // 50).astype(float) ** 2).mean(axis=1))
        assert np.median(level[level > 100]) == pytest.approx(8000 / np.sqrt(2), rel=0.02)
        assert slot.stats()["received"] == 50
        got = phone.received()
        assert {b[2] - a[2] & 0xFFFF for a, b in itertools.pairwise(got)} == {1}
        # Beyond 60 ms of a stalled machine time is passed over, in whole frames.
        assert not {(b[3] - a[3]) % 160 for a, b in itertools.pairwise(got)} - {0}
        assert len({g[4] for g in got}) == 1
        assert [g[0] for g in got[:3]] == [1, 0, 0], "the marker stands on the first packet"
        down = g711.decode_ulaw(np.frombuffer(b"".join(g[5] for g in got), np.uint8)).astype(float)
        loud = np.flatnonzero(np.abs(down) > 500)
        assert 3980 <= loud[-1] - loud[0] <= 4064, "half a second, and its end dies away"
        assert slot.heard(1) == rate // 2
        assert slot.stats()["lost"] == 0
        await slot.close()
        await slot.close()
        await client.close()
        phone.close()


async def test_the_first_packet_leaves_at_once_and_it_is_silence():
    with media_process() as (folder, _):
        client = await MediaClient.connect(folder, "w1")
        phone = Phone()
        await client.open("call-1", phone.address, "PCMU", 8000)
        packets = []
        await until(lambda: packets.extend(phone.received()) or packets)
        assert set(packets[0][5]) == {g711.ULAW_SILENCE}
        await client.close()
        phone.close()


async def test_only_the_announced_source_speaks():
    with media_process() as (folder, _):
        client = await MediaClient.connect(folder, "w1")
        phone, stranger = Phone(), Phone()
        slot = await client.open("call-1", phone.address, "PCMU", 8000)
        heard = Listener(slot)
        await talk(stranger, client.address, tone(8000, 0.3))
        await until(lambda: heard.ms >= 300)
        assert not heard.pcm.any()
        assert (await client.counters())["unknown_source"] == 15
        assert slot.stats()["received"] == 0
        await client.close()
        phone.close()
        stranger.close()


async def test_many_calls_each_get_their_own():
    with media_process() as (folder, _):
        client = await MediaClient.connect(folder, "w1")
        phones = [Phone() for _ in range(12)]
        slots = [
            await client.open(f"c{i}", p.address, ("PCMU", "PCMA", "L16")[i % 3], 16000)
            for i, p in enumerate(phones)
        ]
        listeners = [Listener(s) for s in slots]
        for i, slot in enumerate(slots):
            slot.play(1, np.full(16000, 1000 + 100 * i, np.int16))
        await until(lambda: all(x.ms >= 400 for x in listeners))
        for i, phone in enumerate(phones):
            code = np.frombuffer(phone.received()[-1][5], np.uint8)
            pcm = (
                g711.decode_ulaw(code),
                g711.decode_alaw(code),
                code.view(">i2").astype(np.int16),
            )[i % 3]
            assert pcm.mean() == pytest.approx(1000 + 100 * i, rel=0.03)
            phone.close()
        await client.close()


async def test_slots_run_out_and_come_back():
    with media_process(max_calls=2) as (folder, _):
        client = await MediaClient.connect(folder, "w1")
        phones = [Phone() for _ in range(3)]
        first = await client.open("a", phones[0].address, "PCMU", 8000)
        client.check_room("b")
        await client.open("b", phones[1].address, "PCMU", 8000)
        with pytest.raises(MediaFull, match="all 2 slots are taken; raise max_calls"):
            client.check_room("c")
        with pytest.raises(MediaFull, match="max_calls"):
            await client.open("c", phones[2].address, "PCMU", 8000)
        await first.close()
        client.check_room("c")
        await client.open("c", phones[2].address, "PCMU", 8000)
        await client.close()
        for phone in phones:
            phone.close()


async def test_requests_that_can_not_be_met_are_told():
    with media_process() as (folder, _):
        client = await MediaClient.connect(folder, "w1")
        with pytest.raises(MediaError, match="codec X is none of PCMU"):
            await client.open("a", ("127.0.0.1", 5), "X", 8000)
        with pytest.raises(MediaError, match="no IPv4 address"):
            await client.open("a", ("nowhere.invalid", 5), "PCMU", 8000)
        with pytest.raises(MediaError, match="no slot of call"):
            await client.attach("nobody", 8000)
        with pytest.raises(MediaError, match="bad request"):
            await client.open("a", ("127.0.0.1", "x"), "PCMU", 8000)
        await client.close()


async def test_a_worker_dies_and_another_goes_on():
    with media_process() as (folder, _):
        first = await MediaClient.connect(folder, "w1")
        phone = Phone()
        slot = await first.open("call-1", phone.address, "PCMU", 8000)
        slot.play(1, np.full(8000, 5000, np.int16))
        await first.close()
        second = await MediaClient.connect(folder, "w2")
        taken = await second.attach("call-1", 16000)
        taken.play(2, np.full(8000, 9000, np.int16))
        taken.done(2)
        await until(lambda: taken.heard(2) == 8000)
        got = phone.received()
        assert {b[2] - a[2] & 0xFFFF for a, b in itertools.pairwise(got)} == {1}
        down = g711.decode_ulaw(np.frombuffer(b"".join(g[5] for g in got), np.uint8))
        assert (np.abs(down - 5000.0) < 300).sum() == 8000
        assert (np.abs(down - 9000.0) < 500).sum() == pytest.approx(4000, abs=60)
        await second.close()
        phone.close()


@pytest.mark.parametrize("dealt", [True, False])
async def test_a_worker_dies_while_its_agent_is_paused_and_the_heir_goes_on(dealt):
    with media_process() as (folder, _):
        first = await MediaClient.connect(folder, "w1")
        phone = Phone()
        slot = await first.open("call-1", phone.address, "PCMU", 8000)
        slot.play(1, np.full(8000, 5000, np.int16))
        slot.done(1)
        slot.arm(True)
        await until(lambda: slot.heard(1))
        first.slots.columns["reflex_count"][slot.index] += 1  # as media does when he speaks
        assert slot.tripped
        if dealt:
            slot.deal()
            slot.pause()
        await first.close()
        second = await MediaClient.connect(folder, "w2")
        taken = await second.attach("call-1", 8000)
        assert not taken.tripped, "it is the heir's to decide now"
        heard = {}
        await until(lambda: heard.update(taken.heard_items()) or heard.get(1) == 8000, 20)
        await second.close()
        phone.close()


async def test_what_is_left_of_a_call_that_is_over_can_be_given_up():
    with media_process(max_calls=1) as (folder, _):
        first = await MediaClient.connect(folder, "w1")
        phone = Phone()
        slot = await first.open("call-1", phone.address, "PCMU", 8000)
        second = await MediaClient.connect(folder, "w2")
        await second.give_up("call-1")  # it lives
        await second.give_up("call-2")  # nobody knows it
        with pytest.raises(MediaFull):
            await second.open("call-2", phone.address, "PCMU", 8000)
        assert slot.call_id == "call-1"
        await first.close()
        await until(lambda: "call-1" in second.orphans())
        await second.give_up("call-1")
        await second.open("call-2", phone.address, "PCMU", 8000)
        await second.close()
        phone.close()


async def test_a_call_that_is_set_up_anew_leaves_no_slot_behind():
    with media_process(max_calls=2) as (folder, _):
        first = await MediaClient.connect(folder, "w1")
        phones = [Phone(), Phone(), Phone()]
        await first.open("call-1", phones[0].address, "PCMU", 8000)
        await first.close()
        second = await MediaClient.connect(folder, "w2")
        anew = await second.open("call-1", phones[1].address, "PCMU", 8000)
        third = await MediaClient.connect(folder, "w3")
        assert (await third.attach("call-1", 8000)).generation == anew.generation
        await third.open("call-2", phones[2].address, "PCMU", 8000)
        for client in (second, third):
            await client.close()
        for phone in phones:
            phone.close()


async def test_a_call_that_is_set_up_while_the_media_process_dies_gets_its_successor_s_slot():
    with media_process() as (folder, process):
        client = await MediaClient.connect(folder, "w1")
        process.kill()
        process.join()
        phone = Phone()
        opening = asyncio.create_task(client.open("call-1", phone.address, "PCMU", 8000))
        await asyncio.sleep(0)
        with media_process(runtime_dir=str(folder)):
            slot = await opening
            slot.play(1, np.full(160, 5000, np.int16))
            slot.done(1)
            await until(lambda: slot.heard(1) == 160)
            await client.close()
        phone.close()


@pytest.mark.parametrize("after", [None, (7, 8, 9)])
async def test_a_port_that_the_pbx_has_given_to_another_call_is_that_calls(after):
    """It was restarted; that the old call is over is found out later."""
    with media_process() as (folder, _):
        phone = Phone()
        old_worker = await MediaClient.connect(folder, "w1")
        old = await old_worker.open("old", phone.address, "PCMU", 8000)
        await until(lambda: len(phone.received()) >= 1)
        old.play(1, np.full(16000, 5000, np.int16))
        new_worker = await MediaClient.connect(folder, "w2")
        new = await new_worker.open("new", phone.address, "PCMU", 8000, after=after)
        reached = after or old.numbers
        heard = []
        new.on_frames = heard.append
        got = phone.received()
        phone.received()
        for _ in range(20):
            phone.send(new_worker.address, bytes([0x20]) * 160)
        await until(lambda: any(np.abs(up.pcm).max() > 1000 for up in heard))
        await until(lambda: got.extend(phone.received()) or got[-1][4] == new.numbers[0])
        later = [g for g in got if g[4] == new.numbers[0]]
        assert 0 < (later[-1][2] - reached[1]) % 2**16 < 2**15, "goes on ahead of the old one's"
        for end in (None, old.close):
            if end is not None:
                await end()
            start = len(got)
            await until(lambda: got.extend(phone.received()) or len(got) > start + 5)  # noqa: B023
            assert {g[4] for g in got[start:]} == {new.numbers[0]}, "one voice"
        assert np.abs(g711.decode_ulaw(np.frombuffer(got[-1][5], np.uint8))).max() < 100
        for client in (old_worker, new_worker):
            await client.close()
        phone.close()


async def test_a_slot_that_nobody_comes_for_is_closed():
    with media_process(max_calls=1, grace_ms=100) as (folder, _):
        first = await MediaClient.connect(folder, "w1")
        phone = Phone()
        await first.open("a", phone.address, "PCMU", 8000)
        await first.close()
        second = await MediaClient.connect(folder, "w2")

        async def opened():
            while True:
                try:
                    return await second.open("b", phone.address, "PCMU", 8000)
                except MediaFull:
                    await asyncio.sleep(0.05)

        await asyncio.wait_for(opened(), 10)
        await second.close()
        phone.close()


async def test_the_end_of_the_media_process_is_told():
    with media_process() as (folder, process):
        client = await MediaClient.connect(folder, "w1")
        process.kill()
        await asyncio.wait_for(client.lost, 10)
        with pytest.raises(MediaUnreachable, match="ari-bridge media"):
            await client.open("a", ("127.0.0.1", 5), "PCMU", 8000)
        await client.close()


async def test_no_media_process(tmp_path):
    with pytest.raises(MediaUnreachable, match="start `ari-bridge media`"):
        await MediaClient.connect(tmp_path, "w1")


async def test_a_second_media_process_is_refused():
    with (
        media_process() as (folder, _),
        pytest.raises(MediaError, match="already serves"),
    ):
        Server(MediaSettings(port=0, runtime_dir=str(folder)))


async def test_a_port_in_use_is_told_and_nothing_is_left(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(MediaError, match=f"UDP port {port} on 127.0.0.1 is in use"):
            Server(MediaSettings(port=port, runtime_dir=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


async def test_a_stop_in_order_leaves_nothing_but_what_a_successor_needs():
    with media_process() as (folder, process):
        client = await MediaClient.connect(folder, "w1")
        phone = Phone()
        slot = await client.open("a", phone.address, "PCMU", 8000)
        await slot.close()
        await client.close()
        process.terminate()
        process.join(10)
        assert process.exitcode == 0
        assert [path.name for path in folder.iterdir()] == ["media.lock"]
    with media_process() as (folder, process):
        client = await MediaClient.connect(folder, "w1")
        await client.open("a", phone.address, "PCMU", 8000)
        process.terminate()
        process.join(10)
        assert {path.name for path in folder.iterdir()} == {"media.lock", "media.slots"}
        await client.close()
        phone.close()


async def test_nonsense_on_the_control_socket():
    with media_process() as (folder, _):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(folder / "media.sock"))
            for data in (
                b"\xff\xfe",
                b"[]",
                b"{}",
                b'{"op":"close"}',
                b'{"op":"hello","version":%d}' % control.VERSION,
            ):
                sock.send(data)
                assert b'"error":"bad"' in sock.recv(1000)
        client = await MediaClient.connect(folder, "w1")
        assert client.address[1] > 0
        await client.close()


def test_a_directory_that_others_may_write_to_is_refused(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(MediaError, match="not ours alone"):
        Server(MediaSettings(port=0, runtime_dir=str(folder)))
    linked = tmp_path / "link"
    linked.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(MediaError, match="not ours alone"):
        Server(MediaSettings(port=0, runtime_dir=str(linked)))
