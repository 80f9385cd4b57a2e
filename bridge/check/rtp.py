"""A test call: RTP both ways between Asterisk and the address that calls will use.

    we ─── RTP ──▶ external media A ─┐
                                     ├ mixing bridge, in Asterisk
    we ◀── RTP ─── external media B ─┘   (and the same from B to A)

Each of the two is made as a call's is (`bridge.pbx.external`): the same request, the same address.
First Asterisk alone sends (silence), which shows whether it reaches us and where from; then we send
numbered packets, which Asterisk passes on unchanged where nothing is transcoded, so that each that
comes back tells how long it took and those that don't are lost. The two steps tell the faults of
both ways apart:

    nothing comes at all        the advertised address is wrong, or a firewall is in the way
    it comes from elsewhere     a NAT between: `rtp_address`
    ours don't come back        Asterisk announces an address that we can't reach

Where a WebSocket carries the audio, a relay inside the check (`bridge.check.relay`) stands for the
one that calls will use.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp

from bridge.audio.codecs import CODECS, usable
from bridge.check.finding import Finding
from bridge.check.relay import OwnRelay
from bridge.errors import PbxError, PbxRefused
from bridge.media.settings import MediaSettings
from bridge.media.udp import open_socket
from bridge.pbx.ari import Ari
from bridge.pbx.base import Codec
from bridge.pbx.events import Started, parse
from bridge.pbx.names import FORMATS, PREFIX
from bridge.pbx.net import NET
from bridge.pbx.settings import AsteriskSettings
from bridge.pbx.transport import transport_of

PACKETS = 100
"""Of a test call, each way: two seconds."""
_NET_S = 60
_FIRST_S = 1.5
"""How long Asterisk may take to send its first packet."""
_REST_S = 0.4
"""How long after the last packet those on their way may come."""
_LOSS_PERCENT, _ROUND_TRIP_MS = 3.0, 150.0
CONTEXT, PROBE = "ari-bridge-call", "0"
"""Of our dialplan fragment, and an extension that it takes."""
_MAGIC = b"ari-bridge check"
_SILENCE = b"\xff\x7f\xfe\x7e"  # of PCMU
_SERVED_S = 15.0
_HEADER = struct.Struct(">BBHII")
_NUMBER = struct.Struct(">16sBI")

Address = tuple[str, int]


@dataclass
class _End:
    """One external media channel, as we see it."""

    letter: int
    channel: str
    announced: Address
    """Where Asterisk says that it is."""
    sent: dict[int, float] = field(default_factory=dict)
    took_ms: list[float] = field(default_factory=list)
    """Of packets that we sent there and that came back through the other end."""


class _Ear(asyncio.DatagramProtocol):
    """Our UDP port."""

    def __init__(self) -> None:
        self.came: dict[Address, int] = {}
        """Packets by where they came from."""
        self.loud: dict[Address, float] = {}
        """When something else than silence first came from there."""
        self.types: set[int] = set()
        """Their payload types."""
        self.ends: dict[int, _End] = {}
        self.transport: asyncio.DatagramTransport
        self._clock = asyncio.get_running_loop().time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        now = self._clock()
        source = (str(addr[0]), int(addr[1]))
        self.came[source] = self.came.get(source, 0) + 1
        if len(data) < _HEADER.size:
            return
        self.types.add(data[1] & 0x7F)
        if data[_HEADER.size :].strip(_SILENCE):
            self.loud.setdefault(source, now)
        if len(data) >= _HEADER.size + _NUMBER.size:
            magic, letter, number = _NUMBER.unpack_from(data, _HEADER.size)
            end = self.ends.get(letter)
            if magic == _MAGIC and end is not None and (at := end.sent.pop(number, None)):
                end.took_ms.append((now - at) * 1000)

    def error_received(self, exc: Exception) -> None:
        """ICMP's answers to packets of ours: what they mean shows in what doesn't come."""


class TestCall:
    """One Asterisk's. Use as a context: what it makes goes with it."""

    __test__ = False  # pytest: no test of its own

    def __init__(self, ari: Ari, settings: AsteriskSettings, media: MediaSettings) -> None:
        self._ari, self._settings, self._media = ari, settings, media
        self._name = f"{PREFIX}check-{secrets.token_hex(3)}"
        self._made: list[tuple[str, dict[str, Any]]] = []
        self._here: set[str] = set()
        self._changed = asyncio.Event()
        self._n = 0
        self._clock = asyncio.get_running_loop().time
        self._ear: _Ear
        self._relay = OwnRelay(settings)
        self._transport = transport_of(settings, self._relay)
        self._direct = settings.media_transport == "rtp"
        self.port = 0
        self.channel = ""
        """A channel that lives as long as the call, to ask the dialplan's functions by."""

    @contextlib.asynccontextmanager
    async def open(self, port: int) -> AsyncIterator[TestCall]:
        """Listen on that UDP port (0: any). Raises `MediaError`, `PbxError`."""
        sock = open_socket(self._media.listen_address, port)
        self.port = sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        transport, self._ear = await loop.create_datagram_endpoint(_Ear, sock=sock)
        try:
            events = await self._ari.events(self._name)
            reading = asyncio.create_task(self._read(events))
            try:
                yield self
            finally:
                for operation, parameters in reversed(self._made):
                    with contextlib.suppress(PbxError):
                        await self._ari.call(operation, ok=(404,), **parameters)
                reading.cancel()
                await events.close()
        finally:
            self._relay.close()
            transport.close()

    async def measure(self) -> Finding:
        """RTP both ways. Raises `PbxError`."""
        a = await self._end(1, "PCMU")
        self.channel = a.channel
        heard = await self._hears(a)
        if heard is not None:
            return heard
        b = await self._end(2, "PCMU")
        self._ear.ends = {1: a, 2: b}
        await self._ari.call("channels.stopSilence", channelId=a.channel, ok=(409,))
        bridge = await self._bridge(a.channel, b.channel)
        try:
            await self._talk(a, b, PACKETS)
        except OSError as error:
            where = f"{_to(a, self._settings)[0]}"
            return Finding(
                *("rtp", "fail", f"nothing can be sent to Asterisk's RTP at {where}: {error}"),
                "mend this host's routes, or set [asterisk] rtp_address to where it can be reached",
            )
        await self._ari.call("bridges.destroy", bridgeId=bridge, ok=(404,))
        return self._judged(a, b)

    async def codecs(self) -> Finding:
        """Which formats Asterisk sends. Raises `PbxError`."""
        good: list[str] = []
        bad: list[str] = []
        carried = self._transport.codecs or usable()
        for name in FORMATS:
            if name not in usable() & carried:
                continue
            self._ear.types.clear()
            try:
                end = await self._end(9, name)
                await self._ari.call("channels.startSilence", channelId=end.channel)
                came = await self._until(lambda n=name: CODECS[n].payload_type in self._ear.types)
                await self._ari.call("channels.hangup", channelId=end.channel, ok=(404,))
            except PbxError:
                came = False
            (good if came else bad).append(name)
        said = f"Asterisk sends {', '.join(good) or 'none'}"
        if "PCMU" in bad:
            return Finding("codecs", "fail", said, "load codec_ulaw.so in its modules.conf")
        if bad:
            modules = ", ".join(f"{_MODULES[name]} for {name}" for name in bad)
            why = "such callers are taken in another codec, transcoded; load " + modules
            return Finding("codecs", "warn", f"{said}, not {', '.join(bad)}", why)
        return Finding("codecs", "ok", said)

    async def through(self, door: str) -> Finding:
        """A call through our dialplan: a Local channel, one end of which is the caller's; the other
        enters `door`, the application that nobody holds now. Raises `PbxError`.
        """
        caller, called = f"{self._name}-caller", f"{self._name}-called"
        events = await self._ari.events(door)
        reading = asyncio.create_task(self._read(events, mine=called))
        try:
            begun = self._clock()
            await self._dial(caller, called, "check")
            if not await self._until(lambda: called in self._here):
                return Finding(
                    *("dialplan", "fail", f"a call to context {CONTEXT} does not come to '{door}'"),
                    f"let its line say Stasis({door},…), or set [asterisk] app to what it says",
                )
            await self._ari.call("channels.answer", channelId=called)
            await self._until(lambda: caller in self._here)
            set_up_ms = (self._clock() - begun) * 1000
            a, b = await self._end(3, "PCMU"), await self._end(4, "PCMU")
            self._ear.ends = {3: a, 4: b}
            await self._bridge(called, a.channel)
            await self._bridge(caller, b.channel)
            await self._talk(a, b, PACKETS // 4)
            if not a.took_ms or not b.took_ms:
                said = "a call through the dialplan is handed over, but is silent"
                return Finding("dialplan", "fail", said, "see Asterisk's log")
            said = (
                f"a call through a Local channel was handed over in {set_up_ms:.0f} ms, and heard"
            )
            return Finding("dialplan", "ok", said, "", {"set_up_ms": round(set_up_ms, 1)})
        finally:
            reading.cancel()
            await events.close()
            for channel in (caller, called):
                await self._ari.call("channels.hangup", channelId=channel, ok=(404,))

    async def served(self, agent: str) -> Finding:
        """A call through our dialplan to that agent of the bridge that runs. Raises `PbxError`."""
        caller, called = f"{self._name}-caller", f"{self._name}-called"
        begun = self._clock()
        await self._dial(caller, called, agent)
        answered = await self._until(lambda: caller in self._here, _SERVED_S)
        about = await self._ari.call("channels.get", channelId=called, ok=(404,)) or {}
        if not answered or about.get("dialplan", {}).get("app_name") != "Stasis":
            return Finding(
                *(
                    "call",
                    "fail",
                    f"a call to agent '{agent}' is not taken by the bridge that runs",
                ),
                "its log says why, and Asterisk's where the call went",
            )
        set_up_ms = (self._clock() - begun) * 1000
        end = await self._end(5, "PCMU")
        self._ear.ends = {5: end}
        await self._bridge(caller, end.channel)
        await self._talk(end, end, PACKETS)
        loud = self._ear.loud.get(_to(end, self._settings))
        await self._ari.call("channels.hangup", channelId=caller, ok=(404,))
        said = f"agent '{agent}' answered in {set_up_ms:.0f} ms"
        figures = {"set_up_ms": round(set_up_ms, 1)}
        if loud is None:
            cure = "the bridge's log says what its media process and the engine make of it"
            return Finding("call", "fail", f"{said}, and nothing is heard of it", cure, figures)
        return Finding("call", "ok", f"{said}, and is heard", "", figures)

    async def _dial(self, caller: str, called: str, agent: str) -> None:
        for channel in (caller, called):
            self._made.append(("channels.hangup", {"channelId": channel}))
        await self._ari.call(
            "channels.originate",
            endpoint=f"Local/{PROBE}@{CONTEXT}/n",
            app=self._name,
            channelId=caller,
            otherChannelId=called,
            formats="ulaw",
            variables={"ARI_BRIDGE_AGENT": agent, "ARI_BRIDGE_MAX_S": str(_NET_S)},
            again=False,
        )

    async def function(self, text: str) -> str:
        """What a dialplan function gives, "" if it has no value. Raises `PbxError`."""
        answer = await self._ari.call(
            "channels.getChannelVar", channelId=self.channel, variable=text, ok=(404,)
        )
        return str(answer["value"]) if answer else ""

    # ----------------------------------------------------------------------------------------------

    async def _end(self, letter: int, codec: str) -> _End:
        self._n += 1
        channel = f"{self._name}-{self._n}"
        host = self._media.listen_address
        if self._direct:
            host = self._media.advertised_address or host
        to = host, self.port
        self._made.append(("channels.hangup", {"channelId": channel}))
        try:
            made = await self._ari.call(
                "channels.externalMedia",
                channelId=channel,
                app=self._name,
                variables={NET: str(_NET_S)},
                again=False,
                **self._transport.request(to, cast(Codec, codec)),
            )
        except PbxRefused as error:
            raise self._transport.refused(error) from None
        if self._direct:
            told = made["channelvars"]
            announced = (told["UNICASTRTP_LOCAL_ADDRESS"], int(told["UNICASTRTP_LOCAL_PORT"]))
        else:
            announced = await self._transport.address(made, to, cast(Codec, codec))
        async with asyncio.timeout(self._settings.media_timeout_s):
            while channel not in self._here:
                self._changed.clear()
                await self._changed.wait()
        return _End(letter, channel, announced)

    async def _hears(self, end: _End) -> Finding | None:
        """Whether Asterisk reaches us, from where we expect it."""
        self._ear.came.clear()
        await self._ari.call("channels.startSilence", channelId=end.channel)
        await self._until(lambda: bool(self._ear.came))
        expected = _to(end, self._settings)
        advertised = self._media.advertised_address or self._media.listen_address
        if not self._ear.came and not self._direct:
            return Finding(
                "rtp", "fail", "a connection for audio stays silent", "see Asterisk's log"
            )
        if not self._ear.came:
            key = "advertised_address" if self._media.advertised_address else "listen_address"
            return Finding(
                *("rtp", "fail", f"Asterisk's RTP does not reach {advertised}:{self.port}"),
                f"let UDP port {self._media.port} through between the two, and set [media] "
                f"advertised_address to this host's address as Asterisk sees it "
                f"(now {key} is told to it)",
            )
        if expected in self._ear.came:
            return None
        source = max(self._ear.came, key=lambda one: self._ear.came[one])
        if source[1] != end.announced[1]:
            return Finding(
                "rtp",
                "fail",
                f"Asterisk's RTP comes from {source[0]}:{source[1]}, it announces "
                f"{end.announced[0]}:{end.announced[1]}",
                "something between rewrites ports: have it keep them, or let the bridge run on "
                "Asterisk's side of it",
            )
        set_ = f"[asterisk] rtp_address says {self._settings.rtp_address}"
        announces = f"it announces {end.announced[0]}"
        return Finding(
            *("rtp", "fail", f"Asterisk's RTP comes from {source[0]}, but "
              + (set_ if self._settings.rtp_address else announces)),
            f'set [asterisk] rtp_address = "{source[0]}"',
        )  # fmt: skip

    async def _bridge(self, *channels: str) -> str:
        self._n += 1
        bridge = f"{self._name}-{self._n}"
        self._made.append(("bridges.destroy", {"bridgeId": bridge}))
        await self._ari.call("bridges.createWithId", bridgeId=bridge, type="mixing", name=bridge)
        for channel in channels:
            await self._ari.call("bridges.addChannel", bridgeId=bridge, channel=channel)
        return bridge

    async def _talk(self, a: _End, b: _End, packets: int) -> None:
        clock = self._clock
        ssrc, begun = secrets.randbits(32), clock()
        for number in range(packets):
            await asyncio.sleep(max(0.0, begun + number * 0.02 - clock()))
            for end in {a.letter: a, b.letter: b}.values():
                header = _HEADER.pack(0x80, 0, number, number * 160, ssrc ^ end.letter)
                payload = _NUMBER.pack(_MAGIC, end.letter, number).ljust(160, b"\xff")
                end.sent[number] = clock()
                self._ear.transport.sendto(header + payload, _to(end, self._settings))
        await self._until(lambda: not (a.sent or b.sent), _REST_S)

    def _judged(self, a: _End, b: _End) -> Finding:
        took = sorted(a.took_ms + b.took_ms)
        if not took and not self._direct:
            said = "Asterisk's audio reaches us, ours does not come back from it"
            return Finding("rtp", "fail", said, "see its log")
        if not took:
            where = _to(a, self._settings)[0]
            said = f"Asterisk's RTP reaches us, ours does not reach it at {where}"
            cure = "let UDP through to its RTP ports (rtp.conf)"
            if not self._settings.rtp_address:
                cure += ", or set [asterisk] rtp_address to where it can be reached"
            return Finding("rtp", "fail", said, cure)
        loss = 100 * (1 - len(took) / (2 * PACKETS))
        p50, p99 = took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.99))]
        figures = {
            "round_trip_ms_p50": round(p50, 2),
            "round_trip_ms_p99": round(p99, 2),
            "loss_percent": round(loss, 2),
            "packets": 2 * PACKETS,
        }
        how = f"on port {self.port}" if self._direct else "by WebSocket and TLS"
        said = (
            f"PCMU both ways {how}: round trip {p50:.1f} ms (99 %: {p99:.1f}), "
            f"{loss:.1f} % of {2 * PACKETS} packets lost"
        )
        if not a.took_ms or not b.took_ms or loss > 50:
            return Finding("rtp", "fail", said, "look at the network between", figures)
        if loss > _LOSS_PERCENT or p99 > _ROUND_TRIP_MS:
            return Finding(
                *("rtp", "warn", said, "that is heard: look at the network between", figures)
            )
        return Finding("rtp", "ok", said, "", figures)

    async def _until(self, done: Any, within_s: float = _FIRST_S) -> bool:
        clock = self._clock
        until = clock() + within_s
        while not done() and clock() < until:  # noqa: ASYNC110 - what packets say
            await asyncio.sleep(0.01)
        return bool(done())

    async def _read(self, events: aiohttp.ClientWebSocketResponse, mine: str = "") -> None:
        async for message in events:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            try:
                event = parse(message.data)
            except ValueError:  # of a kind that we don't look for
                continue
            if isinstance(event, Started):
                self._here.add(event.channel.id)
                self._changed.set()
                if mine and event.channel.id != mine:  # a real caller: the dialplan tries again
                    await self._send_back(event.channel.id)

    async def _send_back(self, channel: str) -> None:
        with contextlib.suppress(PbxError):
            await self._ari.call(
                "channels.setChannelVar",
                channelId=channel,
                variable="ARI_BRIDGE_RESULT",
                value="again",
            )
            await self._ari.call("channels.continueInDialplan", channelId=channel)


_MODULES = {
    "PCMU": "codec_ulaw.so",
    "PCMA": "codec_alaw.so",
    "L16": "codec_resample.so",
    "G722": "codec_g722.so",
    "L16/16000": "codec_resample.so",
    "L16/24000": "codec_resample.so",
    "OPUS": "codec_opus.so",
}


def _to(end: _End, settings: AsteriskSettings) -> Address:
    """Where its packets go to, and have to come from."""
    if settings.media_transport != "rtp":
        return end.announced
    return settings.rtp_address or end.announced[0], end.announced[1]
