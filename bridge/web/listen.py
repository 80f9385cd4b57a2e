"""Resource: a call's sound, as it is now: both sides in one, for who looks after the call.

Asterisk sends it here as RTP (`bridge.pbx.spy`), and it goes on as a WAV without end: PCMU at
8 kHz, which players and browsers know. Nothing is kept. A gap is left out: who listens wants to
hear what is said now.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import cast

from aiohttp import web

from bridge.errors import StoreUnreachable
from bridge.web.calls import ONE
from bridge.web.desk import Desk
from bridge.web.errors import Refused
from bridge.web.parts import Parts
from bridge.web.routes import Asked, Route, drop

_RATE = 8000
_MULAW = 7  # RFC 2361 A.4: WAVE_FORMAT_MULAW
_PCMU = 0  # RFC 3551 table 4
_ENDLESS = 0xFFFFFFFF
_SILENT_S = 2.0
"""Without a packet for so long, the call has ended."""
_STALLED_S = 30.0
"""Who hasn't taken what he asked for by then doesn't listen."""
_RENEW_S = 10.0
"""So often the worker is told that somebody still listens; else, should we die, it ends that."""
_MOST_WAITING = 100
"""Packets, of a listener who doesn't fetch them."""


def routes(parts: Parts) -> list[Route]:
    """Of this resource."""
    listening = _Listening(parts)
    return [
        Route(
            "GET", f"{ONE}/listen", "Listen to a call (audio/wav)", listening.listen, operates=True
        )
    ]


class _Ear(asyncio.DatagramProtocol):
    """RTP in, payloads out, in the order in which they come."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue(_MOST_WAITING)
        self.source: tuple[str, int] | None = None
        """Where it has to come from."""
        self._last = -1

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take a packet's payload (RFC 3550 section 5.1)."""
        if self.source is None or addr[:2] != self.source or len(data) < 13 or data[0] >> 6 != 2:
            return
        if data[1] & 0x7F != _PCMU:
            return
        sequence = int.from_bytes(data[2:4], "big")
        if self._last >= 0 and (sequence - self._last) & 0xFFFF >= 0x8000:
            return  # it comes too late
        self._last = sequence
        begin = 12 + 4 * (data[0] & 0x0F)
        if not self.heard.full():
            self.heard.put_nowait(data[begin:])


class _Listening:
    def __init__(self, parts: Parts) -> None:
        self._parts, self._desk = parts, Desk(parts)

    async def listen(self, asked: Asked) -> web.StreamResponse:
        call_id = asked.path["id"]
        media = self._parts.config.media
        host = media.advertised_address or media.listen_address  # where Asterisk reaches us
        loop = asyncio.get_running_loop()
        transport, ear = await loop.create_datagram_endpoint(_Ear, (media.listen_address, 0))
        try:
            port = cast(int, transport.get_extra_info("sockname")[1])
            answer = await self._desk.ask(call_id, "listen", host=host, port=port)
            ear.source = str(answer["host"]), int(answer["port"])
            renewing = asyncio.create_task(self._renew(call_id, answer["number"]))
            try:
                return await self._stream(asked.request, ear)
            finally:
                renewing.cancel()
                with contextlib.suppress(Refused):  # it has ended
                    await asyncio.shield(
                        self._desk.ask(call_id, "unlisten", number=answer["number"])
                    )
        finally:
            transport.close()

    async def _renew(self, call_id: str, number: int) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            with contextlib.suppress(Refused, StoreUnreachable):  # we try again
                await self._desk.ask(call_id, "listens", number=number)

    async def _stream(self, request: web.Request, ear: _Ear) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "audio/wav", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        await response.write(wav_head())
        while True:
            try:
                async with asyncio.timeout(_SILENT_S):
                    payload = await ear.heard.get()
            except TimeoutError:
                break
            try:
                async with asyncio.timeout(_STALLED_S):
                    await response.write(payload)
            except TimeoutError:
                drop(request)
                return response
        await response.write_eof()
        return response


def wav_head() -> bytes:
    """Of a WAV that has no end: PCMU, 8 kHz, one channel."""
    fmt = struct.pack("<HHIIHHH", _MULAW, 1, _RATE, _RATE, 1, 8, 0)
    fact = struct.pack("<I", _ENDLESS)
    return (
        b"RIFF"
        + struct.pack("<I", _ENDLESS)
        + b"WAVEfmt "
        + struct.pack("<I", len(fmt))
        + fmt
        + b"fact"
        + struct.pack("<I", len(fact))
        + fact
        + b"data"
        + struct.pack("<I", _ENDLESS)
    )
