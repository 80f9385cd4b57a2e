"""A call's sound: RTP in, a WAV without end out."""

import asyncio
import struct

from bridge.web import listen
from bridge.web.desk import Desk
from bridge.web.errors import Refused
from bridge.web.listen import _Ear, wav_head

HERE, THERE = ("127.0.0.1", 9000), ("127.0.0.1", 9001)


def packet(sequence, payload=b"\xff" * 160, kind=0, csrcs=0):
    head = struct.pack("!BBHII", 0x80 | csrcs, kind, sequence & 0xFFFF, 0, 1)
    return head + b"\0\0\0\0" * csrcs + payload


def heard(*packets):
    ear = _Ear()
    ear.source = HERE
    for data, source in packets:
        ear.datagram_received(data, source)
    return [ear.heard.get_nowait() for _ in range(ear.heard.qsize())]


def test_payloads_go_on_in_order():
    assert heard((packet(65535, b"a"), HERE), (packet(0, b"b"), HERE)) == [b"a", b"b"]
    assert heard((packet(5, b"a", csrcs=2), HERE)) == [b"a"]


def test_what_is_late_or_not_ours_does_not():
    assert heard((packet(5, b"a"), HERE), (packet(3, b"b"), HERE)) == [b"a"]
    assert heard((packet(1), THERE), (packet(1, kind=8), HERE), (b"short", HERE)) == []
    ear = _Ear()
    ear.datagram_received(packet(1), HERE)  # nobody is known to send yet
    assert ear.heard.empty()


def test_a_listener_who_fetches_nothing_costs_no_memory():
    assert len(heard(*((packet(n), HERE) for n in range(1000)))) == 100


def test_the_head_is_a_wavs():
    head = wav_head()
    assert (head[:4], head[8:16]) == (b"RIFF", b"WAVEfmt ")
    (length,) = struct.unpack("<I", head[16:20])
    kind, channels, rate, per_second, block, bits, extra = struct.unpack(
        "<HHIIHHH", head[20 : 20 + length]
    )
    assert (kind, channels, rate, per_second, block, bits, extra) == (7, 1, 8000, 8000, 1, 8, 0)
    assert head[20 + length :][:4] == b"fact"
    assert head[-8:-4] == b"data"


async def test_the_worker_is_told_while_somebody_listens(api, monkeypatch):
    asked, renewed, over = [], asyncio.Event(), asyncio.Event()

    async def ask(desk, call_id, verb, **arguments):
        asked.append(verb)
        if verb == "listen":
            return {"number": 3, "host": "127.0.0.1", "port": 9}
        assert arguments == {"number": 3}
        if asked.count("listens") == 1:
            raise Refused(503, "no-worker", "a takeover is under way")
        (over if verb == "unlisten" else renewed).set()
        return {}

    monkeypatch.setattr(Desk, "ask", ask)
    monkeypatch.setattr(listen, "_RENEW_S", 0.0)
    monkeypatch.setattr(listen, "_SILENT_S", 60.0)
    async with asyncio.timeout(30):
        answer = await api.get("/v1/calls/c/listen")
        await renewed.wait()
        monkeypatch.setattr(listen, "_SILENT_S", 0.0)
        answer.close()
        await over.wait()
    assert asked[0] == "listen"
    assert asked[-1] == "unlisten"


async def test_a_listener_who_takes_nothing_is_let_go(api, monkeypatch):
    over = asyncio.Event()

    async def ask(desk, call_id, verb, **arguments):
        if verb == "unlisten":
            over.set()
        return {"number": 3, "host": "127.0.0.1", "port": 9}

    class Ear(listen._Ear):
        def __init__(self):
            super().__init__()
            self.heard.get = self.sound

        async def sound(self):
            await asyncio.sleep(0)
            return b"x" * 100_000

    monkeypatch.setattr(Desk, "ask", ask)
    monkeypatch.setattr(listen, "_Ear", Ear)
    monkeypatch.setattr(listen, "_STALLED_S", 0.05)
    _, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1)
    token = api.session.headers["Authorization"]
    path = "/v1/calls/c/listen"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
    async with asyncio.timeout(60):
        await over.wait()
    writer.close()
