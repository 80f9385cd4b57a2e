"""A million mutated packets at the media process' socket: nothing ends, nothing grows."""

import time
from pathlib import Path

import numpy as np

from bridge.media.client import MediaClient
from bridge.media.udp import Link, ip_number, open_socket
from tests.integration.media_lab import media_process

PACKETS = 1_000_000
CALLS, ROWS, ROOM = 64, 16, 400
SETTLE = 500_000
"""After so many, everything that is touched once has been touched."""


def mutate(rng, out, turn):
    """Fill rows with RTP of CALLS streams, most of it broken in some way; returns their lengths."""
    n = len(out)
    out[:, :2] = (0x80, 0)
    seq = turn * ROWS + np.arange(n) % ROWS
    out[:, 2], out[:, 3] = seq >> 8 & 255, seq & 255
    stamps = (160 * seq).astype(">u4")
    out[:, 4:8] = stamps.view(np.uint8).reshape(n, 4)
    out[:, 8:12] = 7
    length = np.full(n, 172)
    how = rng.integers(0, 10, n)
    noise = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    out[how == 1, 0] = noise[how == 1, 0]  # version, padding, extension, CSRCs
    out[how == 2, 1] = noise[how == 2, 1]  # payload type, RTCP
    out[how == 3, 2:4] = noise[how == 3, 2:4]
    out[how == 4, 4:8] = noise[how == 4, 4:8]
    out[how == 5, 8:12] = noise[how == 5, 8:12]
    out[how == 6, :16] = noise[how == 6]
    length[how == 7] = rng.integers(0, ROOM, int((how == 7).sum()))
    length[how == 8] = rng.integers(0, 40, int((how == 8).sum()))
    out[how == 8, 0] = noise[how == 8, 0]
    return length


def resident_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0])


async def test_a_million_mutated_packets():
    rng = np.random.default_rng(20)
    with media_process(max_calls=CALLS) as (folder, process):
        client = await MediaClient.connect(folder, "w1")
        sockets = [open_socket("127.0.0.1", 0) for _ in range(CALLS)]
        links, slots, heard = [], [], []
        for number, sock in enumerate(sockets):
            link = Link(sock, ROWS, ROOM)
            for row in range(ROWS):
                link.set_remote(row, ip_number("127.0.0.1"), client.address[1])
            links.append(link)
            slot = await client.open(f"c{number}", sock.getsockname(), "PCMU", 8000)
            slot.on_frames = heard.append
            slots.append(slot)

        async def seen():
            rejected = sum((await client.counters()).values())
            return rejected + sum(slot.stats()["received"] for slot in slots)

        rows, turn, settled = np.arange(ROWS), 0, 0
        batch = np.zeros((CALLS * ROWS, ROOM), np.uint8)
        while (total := await seen()) < PACKETS:
            if not settled and total > SETTLE:
                settled = resident_kib(process.pid)
            for _ in range(20):
                length = mutate(rng, batch, turn).reshape(CALLS, ROWS)
                for number, link in enumerate(links):
                    link.out[:] = batch[number * ROWS : (number + 1) * ROWS]
                    link.send(rows, length[number])
                    link.receive()
                turn += 1
                time.sleep(0.002)  # so that the kernel drops little
            heard.clear()
        grown = resident_kib(process.pid) - settled
        assert process.is_alive()
        assert grown <= 256, f"{grown} KiB more than after {SETTLE} packets"
        frames = len(heard)
        while len(heard) <= frames:
            await client.counters()
        for slot in slots:
            await slot.close()
        await client.close()
        for sock in sockets:
            sock.close()
