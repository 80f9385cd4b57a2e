"""A million mutated packets at the media process's real socket: nothing raises, nothing grows,
calls go on.

Sent no faster than they are received: what came is counted by the process itself, and has to be all
that was sent. So it is never a full socket buffer that makes this pass.
"""

import asyncio
import itertools
import multiprocessing
import socket
import struct
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import dpkt
import numpy as np
import pytest

from bridge.audio import g711
from bridge.audio.codecs import CODECS, missing
from bridge.media.client import MediaClient
from bridge.media.server import serve
from bridge.media.settings import MediaSettings
from bridge.media.udp import Link, ip_number, open_socket
from tests.integration.media_lab import Phone
from tests.lab.root import system

PACKETS = 1_000_000
MOST_BURST = 1600
"""Packets in flight, where the kernel lets a socket buffer be large enough for them."""
MOST_BYTES = 3000
SEED = 20

# ---- what is thrown ------------------------------------------------------------------------------


def captured() -> Iterator[bytes]:
    """Real packets: speech and DTMF that others recorded."""
    folder = system("usr/share/sip-tester")
    for name in ("g711a.pcap", "dtmf_2833_1.pcap", "dtmf_2833_pound.pcap"):
        with (folder / name).open("rb") as file:
            for _, frame in list(dpkt.pcap.Reader(file))[:60]:
                yield bytes(dpkt.ethernet.Ethernet(frame).data.data.data)


def made() -> Iterator[bytes]:
    """What else comes to such a port, or is a header's own corner."""
    ulaw = bytes(range(160))
    yield struct.pack(">BBHII", 0x80, 0, 7, 1120, 0x1234) + ulaw
    yield struct.pack(">BBHII", 0x80, 0, 8, 1280, 0x1234)  # no payload
    yield struct.pack(">BBHII", 0x80, 10, 7, 1120, 0x1234) + ulaw * 2
    yield struct.pack(">BBHII", 0x80, 9, 7, 1120, 0x1234) + ulaw
    yield struct.pack(">BBHII", 0x80, 107, 7, 1120, 0x1234) + b"\x48" + ulaw[:60]
    yield struct.pack(">BBHII", 0x83, 0, 7, 1120, 0x1234) + bytes(12) + ulaw  # CSRCs
    yield struct.pack(">BBHIIHH", 0x90, 0, 7, 1120, 0x1234, 0xBEDE, 1) + bytes(4) + ulaw
    yield struct.pack(">BBHII", 0xA0, 0, 7, 1120, 0x1234) + ulaw + b"\0\0\0\4"  # padding
    yield struct.pack(">BBHII", 0x80, 13, 7, 1120, 0x1234) + b"\x40"  # comfort noise
    yield struct.pack(">BBHIIIIII", 0x80, 200, 6, 0x1234, 1, 2, 3, 4, 5)  # RTCP: sender report
    yield struct.pack(">BBHI", 0x80, 203, 1, 0x1234)  # RTCP: BYE
    yield struct.pack(">HHI12s", 1, 0, 0x2112A442, b"transaction!")  # STUN: binding request
    yield b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\x10" + bytes(16)  # DTLS
    yield b"\r\n\r\n"
    yield b""
    yield bytes(12)
    yield b"\xff" * 2048
    yield b"\x80\0" + b"\0" * 2998


class Mutator:
    """Makes bursts of packets out of originals; seeded."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(SEED)
        originals = [*captured(), *made()]
        self._bytes = np.zeros((len(originals), MOST_BYTES), np.uint8)
        for row, data in enumerate(originals):
            self._bytes[row, : len(data)] = np.frombuffer(data, np.uint8)
        self._sizes = np.array([len(data) for data in originals])
        self._seq = 0

    def burst(self, out: np.ndarray) -> np.ndarray:
        """Fill the rows of `out`; returns their lengths. Of eight packets one is as it was."""
        random, n = self._random, len(out)
        which = random.integers(0, len(self._sizes), n)
        size = self._sizes[which].copy()
        out[:] = self._bytes[which]
        how = random.integers(0, 8, n)
        rows = np.arange(n)
        flips = random.integers(1, 256, (n, 4)).astype(np.uint8)
        anywhere = (random.random((n, 4)) * np.maximum(size, 1)[:, None]).astype(np.int64)
        some = how == 1  # bits anywhere
        out[rows[some, None], anywhere[some]] ^= flips[some]
        some = how == 2  # the header's first two bytes: version, padding, extension, CSRCs, type
        out[some, :2] = flips[some, :2]
        some = how == 3  # numbers: sequence, timestamp, SSRC
        out[some, 2:12] = random.integers(0, 256, (int(some.sum()), 10))
        some = how == 4  # cut short
        size[some] = random.integers(0, size[some] + 1)
        some = how == 5  # too long, to beyond the receive buffer
        size[some] = random.integers(size[some], MOST_BYTES + 1)
        some = how == 6  # a stream that nearly goes on: reordered, with gaps, one source
        k = int(some.sum())
        numbers = self._seq + random.permutation(k) + random.integers(0, 2, k) * 3
        self._seq += k
        header = np.zeros(k, [("b", ">u2"), ("seq", ">u2"), ("ts", ">u4"), ("ssrc", ">u4")])
        header["b"], header["seq"] = 0x8000 | out[some, 1].astype(int), numbers & 0xFFFF
        header["ts"], header["ssrc"] = numbers * 160 & 0xFFFFFFFF, 0x1234
        out[some, :12] = header.view(np.uint8).reshape(-1, 12)
        some = how == 7  # extreme values where lengths stand
        out[some, 12:16] = random.choice([0, 1, 0x7F, 0xFF], (int(some.sum()), 4))
        out[rows[some], np.maximum(size[some] - 1, 0)] = 0xFF
        out[some, 0] |= 0x30
        return size


# ---- the process under fire ----------------------------------------------------------------------


def _serve(made: MediaSettings, ready) -> None:
    warnings.simplefilter("error")  # an overflow in a numpy operation counts as an exception too
    serve(made, lambda server: ready.send(server.address))


@pytest.fixture
def media(tmp_path: Path):
    settings = MediaSettings(port=0, runtime_dir=str(tmp_path), max_calls=32)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(settings, theirs))
    process.start()
    assert ours.poll(20), "the media process did not come up"
    yield tmp_path, process
    process.terminate()
    process.join(10)
    if process.is_alive():
        process.kill()
        process.join()


def resident_kib(pid: int) -> int:
    """Memory of the process' own. The slots' map has its full size from the start, but its pages
    count as resident only once they were touched: rings fill while we look."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])


def dropped(port: int) -> int:
    """Datagrams that the kernel threw away at a UDP port of ours, for want of room."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port:
            return int(fields[-1])
    raise AssertionError(f"nobody listens on UDP port {port}")


class Thrower:
    """One source of packets: a phone that has a call, or a stranger."""

    def __init__(self, to: tuple[str, int]) -> None:
        self.phone = Phone()
        self._link = Link(self.phone.socket, MOST_BURST, MOST_BYTES)
        for row in range(MOST_BURST):
            self._link.set_remote(row, ip_number(to[0]), to[1])

    def aim(self, mutator: Mutator, packets: int) -> None:
        self._size = mutator.burst(self._link.out[:packets])

    def throw(self) -> int:
        packets = len(self._size)
        assert self._link.send(np.arange(packets), self._size) == packets
        self.phone.received()
        return packets


def burst_size() -> int:
    """How many of these packets fit a receive buffer; one takes 1200 bytes of it on average."""
    with open_socket("127.0.0.1", 0) as sock:
        return min(MOST_BURST, sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 1600)


async def counted(client: MediaClient) -> int:
    """All datagrams that the process has seen: of calls, of strangers, unusable."""
    c = client.slots.columns
    of_calls = int(c["n_received"].sum() + c["n_bad"].sum())
    return of_calls + (await client.counters())["unknown_source"]


async def settled(client: MediaClient, want: int) -> None:
    end = time.monotonic() + 10
    while (seen := await counted(client)) < want:
        assert time.monotonic() < end, f"{want - seen} packets never arrived"
        await asyncio.sleep(0)
    assert seen == want


class Bystander:
    """A call that nobody attacks, with a packet of speech whenever one is due."""

    def __init__(self, client: MediaClient, slot) -> None:
        self.heard: list[np.ndarray] = []
        slot.on_frames = lambda up: self.heard.append(up.pcm.ravel())
        self._slot, self._to = slot, client.address
        self._pcm = np.rint(6000 * np.sin(np.arange(1600) * 2 * np.pi * 440 / 8000))
        self._codes = g711.encode_ulaw(self._pcm.astype(np.int16))
        self.phone: Phone
        self.said = 0
        self._start = time.monotonic()
        self.answers: list[int] = []

    def talk(self) -> int:
        """Send what is due; how many packets that is."""
        due = int((time.monotonic() - self._start) / 0.02) - self.said
        for _ in range(due):
            at = self.said % 10 * 160
            self.phone.send(self._to, self._codes[at : at + 160].tobytes())
            self.said += 1
        self.answers += [seq for _, _, seq, *_ in self.phone.received()]
        return due


async def test_a_million_mutated_packets(media) -> None:
    folder, process = media
    client = await MediaClient.connect(folder, "w1")
    names = [name for name in CODECS if not missing(name)]
    attacked = [Thrower(client.address) for _ in names]
    strangers = [Thrower(client.address) for _ in range(2)]
    slots = [
        await client.open(f"attacked-{name}", t.phone.address, name, 0)
        for name, t in zip(names, attacked, strict=True)
    ]
    phone = Phone()
    quiet = Bystander(client, await client.open("quiet", phone.address, "PCMU", 8000))
    quiet.phone = phone
    throwers = [*attacked, *strangers]  # most of it from sources that may speak
    mutator = Mutator()
    sent = spoken = early = 0
    most = burst_size()
    shares = [(thrower, most // len(throwers)) for thrower in throwers]
    for turn in itertools.count():
        if sent >= PACKETS:
            break
        # Of 40 bursts one comes from a single source, more than a batch takes of one call.
        burst = [(throwers[turn // 40 % len(throwers)], most)] if turn % 40 == 0 else shares
        for thrower, packets in burst:
            thrower.aim(mutator, packets)
        sent += sum(thrower.throw() for thrower, _ in burst)
        spoken += quiet.talk()
        await settled(client, sent + spoken)
        if not early and sent > PACKETS / 4:
            early = resident_kib(process.pid)
    assert process.is_alive()
    assert dropped(client.address[1]) == 0
    grown = resident_kib(process.pid) - early
    print(f"{grown} KiB of its own more after {sent} packets")
    # The smallest object that a packet could leave has 16 bytes; on a busy machine queues grow.
    assert grown < 4 * sent / 1024, f"{grown} KiB more: over 4 bytes for each of {sent} packets"
    counters = await client.counters()
    for cause in ("truncated", "oversized", "version", "rtcp", "padding", "unknown_source"):
        assert counters[cause] > sent / 1000, f"{cause}: the packets were not as bad as meant"
    for slot in slots:
        assert slot.stats()["received"] > sent / 100
    await _goes_on(client, quiet)
    for name, slot, thrower in zip(names, slots, attacked, strict=True):
        if CODECS[name].payload_type in (0, 8, 10):
            await _speaks_again(client, slot, thrower.phone, CODECS[name].payload_type)
    await client.close()
    for one in (*attacked, *strangers):
        one.phone.close()
    phone.close()


async def _goes_on(client: MediaClient, quiet: Bystander) -> None:
    """The call that nobody attacked came through it whole, both ways."""
    stats = quiet._slot.stats()
    assert (stats["received"], stats["lost"], stats["bad"]) == (quiet.said, 0, 0)
    assert quiet.said > 100
    quiet.talk()
    steps = np.diff(quiet.answers) & 0xFFFF
    assert len(quiet.answers) > 100
    assert (steps == 1).all(), "no packet to it is missing"
    await asyncio.sleep(0.05)
    pcm = np.concatenate(quiet.heard).reshape(-1, 160).astype(float)
    level = np.sqrt((pcm**2).mean(axis=1))
    assert np.median(level) == pytest.approx(6000 / np.sqrt(2), rel=0.02)


async def _speaks_again(client: MediaClient, slot, phone: Phone, kind: int) -> None:
    """A call that was attacked from its own source hears its caller again."""
    heard: list[np.ndarray] = []
    pcm = np.rint(5000 * np.sin(np.arange(1600) * 2 * np.pi * 500 / 8000)).astype(np.int16)
    encode = {0: g711.encode_ulaw, 8: g711.encode_alaw, 10: lambda x: x.astype(">i2")}[kind]
    phone.payload_type, phone.ssrc, phone.seq = kind, 0x7777, 9
    slot.on_frames = lambda up: heard.append(up.pcm)
    end = time.monotonic() + 10
    while True:
        assert time.monotonic() < end, "it never heard its caller again"
        for at in range(0, 1600, 160):
            phone.send(client.address, encode(pcm[at : at + 160]).tobytes())
            await asyncio.sleep(0.02)
        level = [np.sqrt((frame.astype(float) ** 2).mean()) for up in heard[-8:] for frame in up]
        if level and np.median(level) == pytest.approx(5000 / np.sqrt(2), rel=0.05):
            return


def test_the_packets_are_told_apart() -> None:
    """The thrower's packets are what they are meant to be: none alike, all lengths."""
    out = np.zeros((250, MOST_BYTES), np.uint8)
    mutator, seen, sizes = Mutator(), set(), []
    for _ in range(8):
        size = mutator.burst(out)
        sizes += size.tolist()
        seen |= {row[:n].tobytes() for row, n in zip(out, size, strict=True)}
    assert len(seen) > 8 * 250 * 0.6
    assert min(sizes) == 0
    assert max(sizes) > 2048
