"""What audio by WebSocket and TLS costs: added delay one way, and CPU, on the real Asterisk.

    generator ── RTP ──▶ external media ─┐
                                         ├ mixing bridge, in Asterisk
    generator ◀─ RTP ── relay ◀═ TLS ════┘ external media      (and the same the other way)

Each call is two external-media channels in a mixing bridge: one always by RTP, the other by the
relay, or by RTP too, for comparison. Numbered PCMU frames go both ways at once, 50 a second; what
comes out at the other end tells how long it took. `up` is from Asterisk to us, `down` the other
way. The difference between the two transports is what the relay, TLS and chan_websocket add.

    python -m tests.bench.relay [calls …]
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bridge.pbx.base import Address
from bridge.pbx.settings import AsteriskSettings
from bridge.pbx.transport import Transport, transport_of
from bridge.relay.client import RelayClient, relay_serves
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import to_toml

SECONDS, WARM_S = 8.0, 2.0
_FRAME_S = 0.02
_HEADER, _NUMBER = struct.Struct(">BBHII"), struct.Struct(">8sHI")
_MAGIC = b"ari-bnch"


@dataclass
class End:
    """One external-media channel: where its RTP comes from."""

    channel: str
    address: Address


class Bench:
    """One Asterisk, and a relay where it is wanted."""

    def __init__(self, asterisk: Asterisk, settings: AsteriskSettings, runtime: Path) -> None:
        self._asterisk, self._settings, self._runtime = asterisk, settings, runtime
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self._n = 0

    async def run(self, calls: int, transport: Transport, pids: dict[str, int]) -> dict[str, Any]:
        """So many calls by that transport: delays of frames, CPU of processes."""
        login = aiohttp.encode_basic_auth(self._asterisk.ari_username, self._asterisk.ari_password)
        async with aiohttp.ClientSession(
            self._asterisk.ari_url + "/ari/", headers={"Authorization": login}
        ) as self._session:
            socket_ = await self._session.ws_connect("events", params={"app": "bench"})
            self._up: asyncio.Queue[str] = asyncio.Queue()
            reading = asyncio.create_task(self._read(socket_))
            direct = transport_of(AsteriskSettings(), None)
            ends = []
            for _ in range(calls):
                ends.append((await self._end(direct), await self._end(transport)))
                await self._bridge(*(end.channel for end in ends[-1]))
            try:
                return await asyncio.to_thread(self._measure, ends, pids)
            finally:
                reading.cancel()
                for kind in ("channels", "bridges"):
                    for thing in await (await self._session.get(kind)).json():
                        await self._session.delete(f"{kind}/{thing['id']}")
                await socket_.close()

    async def _read(self, events: aiohttp.ClientWebSocketResponse) -> None:
        async for message in events:
            event = json.loads(message.data)
            if event["type"] == "StasisStart":
                self._up.put_nowait(event["channel"]["id"])

    async def _end(self, transport: Transport) -> End:
        to = self._sock.getsockname()
        asked = {"app": "bench", **transport.request(to, "PCMU")}
        async with self._session.post("channels/externalMedia", params=asked) as answer:
            made = await answer.json()
        address = await transport.address(made, to, "PCMU")
        channel = made["id"]
        while await asyncio.wait_for(self._up.get(), 10) != channel:
            pass
        return End(channel, address)

    async def _bridge(self, *channels: str) -> None:
        self._n += 1
        path = f"bridges/bench-{self._n}-{os.getpid()}"
        await self._session.post(path, params={"type": "mixing"})
        await self._session.post(f"{path}/addChannel", params={"channel": ",".join(channels)})

    def _measure(self, ends: list[tuple[End, End]], pids: dict[str, int]) -> dict[str, Any]:
        flat = [(end.address, 2 * call + side) for call, pair in enumerate(ends)
                for side, end in enumerate(pair)]  # fmt: skip
        sent: list[dict[int, float]] = [{} for _ in flat]
        took: tuple[list[float], list[float]] = ([], [])
        lost = 0
        begun = time.monotonic() + 0.1
        frames, step = round(SECONDS / _FRAME_S), _FRAME_S / len(flat)
        warm = round(WARM_S / _FRAME_S)
        before: dict[str, float] = {}
        late = 0.0
        for frame in range(frames):
            if frame == warm:
                before = {name: _cpu_s(pid) for name, pid in pids.items()}
            for at, (address, number) in enumerate(flat):
                due = begun + frame * _FRAME_S + at * step
                while (wait := due - time.monotonic()) > 0:
                    select.select([self._sock], [], [], wait)
                    self._receive(sent, took, frame > warm)
                late = max(late, -wait)
                header = _HEADER.pack(0x80, 0, frame & 0xFFFF, frame * 160, number + 1)
                body = _NUMBER.pack(_MAGIC, number, frame).ljust(160, b"\xff")
                sent[number][frame] = time.monotonic()
                self._sock.sendto(header + body, address)
        used = {name: _cpu_s(pid) - before[name] for name, pid in pids.items()}
        until = time.monotonic() + 0.5
        while (wait := until - time.monotonic()) > 0:
            select.select([self._sock], [], [], wait)
            self._receive(sent, took, True)
        lost = sum(len(one) for one in sent)
        calls, seconds = len(ends), (frames - warm) * _FRAME_S
        return {
            "calls": calls,
            "up_ms": _percentiles(took[0]),
            "down_ms": _percentiles(took[1]),
            "lost": lost,
            "of": frames * len(flat),
            "generator_late_ms": round(late * 1000, 1),
            "cpu_ms_per_call_second": {
                name: round(s * 1000 / seconds / calls, 2) for name, s in used.items()
            },
        }

    def _receive(
        self, sent: list[dict[int, float]], took: tuple[list[float], list[float]], count: bool
    ) -> None:
        while True:
            try:
                data = self._sock.recv(2048)
            except BlockingIOError:
                return
            now = time.monotonic()
            if len(data) < _HEADER.size + _NUMBER.size:
                continue
            magic, number, frame = _NUMBER.unpack_from(data, _HEADER.size)
            if magic == _MAGIC and (at := sent[number].pop(frame, None)) is not None and count:
                took[number & 1].append((now - at) * 1000)


def _percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 2)
        for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
        if ordered
    }


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def relay(asterisk: Asterisk, folder: Path) -> Iterator[tuple[AsteriskSettings, Path, int]]:
    """A relay process."""
    table = {
        "url": f"https://127.0.0.1:{asterisk.wss_port}",
        "ca_file": str(asterisk.certificate),
        "media_transport": "websocket",
    }
    runtime, file = folder / "run", folder / "bridge.toml"
    file.write_text(to_toml({"asterisk": table, "media": {"runtime_dir": str(runtime)}}))
    process = subprocess.Popen([sys.executable, "-m", "bridge", "relay", "--config", file])
    try:
        while not relay_serves(runtime) and process.poll() is None:
            time.sleep(0.05)
        yield AsteriskSettings(**table), runtime, process.pid  # type: ignore[arg-type]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


def main() -> None:
    """Print a line a run."""
    numbers = [int(word) for word in sys.argv[1:]] or [1, 50]
    with (
        Asterisk(rtp_ports=1000) as asterisk,
        tempfile.TemporaryDirectory() as name,
        relay(asterisk, Path(name)) as (settings, runtime, pid),
    ):
        client = RelayClient(runtime, "", lambda: ("127.0.0.1", 0))
        bench = Bench(asterisk, settings, runtime)
        for calls in numbers:
            pids = {"asterisk": asterisk.pid}
            rtp = asyncio.run(bench.run(calls, transport_of(AsteriskSettings(), None), pids))
            print(json.dumps({"transport": "rtp", **rtp}), flush=True)
            pids["relay"] = pid
            by_relay = asyncio.run(bench.run(calls, transport_of(settings, client), pids))
            print(json.dumps({"transport": "websocket", **by_relay}), flush=True)


if __name__ == "__main__":
    main()
