"""Callers in every codec, on a real Asterisk: what they say arrives, and what they get is right."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from redis import Redis as Client

from bridge.media.client import MediaClient
from bridge.media.handle import Slot
from bridge.sessions.model import INDEX, Line, call_key, transcript_key
from tests.demo.voice import clip
from tests.integration.media_lab import Phone, media_process
from tests.lab.asterisk import Asterisk
from tests.lab.baresip import Baresip
from tests.lab.capture import RATE as NARROW
from tests.lab.capture import Pcm
from tests.lab.root import free_port
from tests.lab.speech import resample
from tests.lab.stack import Stack, capture
from tests.lab.wide import RATE, numbers, sound
from tests.pbx.callers import Callers
from tests.pbx.conftest import Controller

ANSWER_S, TRIES = 20.0, 3
NARROW_HZ, WIDE_HZ = (500, 1000, 3000), (5000, 6500)
LEVEL = 6000
STEP = RATE // 20
"""Tones are looked for in pieces of 50 ms."""


def tone(hz: float, seconds: float, rate: int = RATE) -> Pcm:
    t = np.arange(round(seconds * rate)) / rate
    return np.rint(LEVEL * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def heard_tone(pcm: Pcm, hz: float) -> tuple[float, float, float]:
    """How long a tone was heard (s), its level beside what was said (dB), its SNR (dB)."""
    pieces = pcm[: len(pcm) // STEP * STEP].reshape(-1, STEP).astype(float)
    power = np.abs(np.fft.rfft(pieces * np.hanning(STEP))) ** 2
    bin_ = round(hz * STEP / RATE)
    own = power[:, bin_ - 3 : bin_ + 4].sum(axis=1)
    rest = power.sum(axis=1) - own
    there = np.flatnonzero((own > rest) & (pieces.std(axis=1) > LEVEL / 10))
    if not len(there):
        return 0.0, -np.inf, -np.inf
    level = 20 * np.log10(np.median(pieces[there].std(axis=1)) / (LEVEL / np.sqrt(2)))
    snr = 10 * np.log10(np.median(own[there] / (rest[there] + 1)))
    return len(there) * STEP / RATE, float(level), float(snr)


def likeness(heard: Pcm, said: Pcm) -> float:
    """Median of the best correlations of each 100 ms of `said` near its place in `heard`."""
    whole, part = heard.astype(float), said.astype(float)
    size = 1 << int(np.ceil(np.log2(len(whole) + len(part))))
    both = np.fft.irfft(np.fft.rfft(whole, size) * np.fft.rfft(part, size).conj(), size)
    at = int(both[: len(whole)].argmax())
    step, slack, best = RATE // 10, RATE // 20, []
    for begin in range(0, len(part) - step, step):
        piece = part[begin : begin + step]
        near = whole[max(0, at + begin - slack) : at + begin + step + slack]
        if np.linalg.norm(piece) < 100 * np.sqrt(step) or len(near) < step:
            continue
        energy = np.sqrt(np.convolve(near**2, np.ones(step), "valid"))
        corr = np.correlate(near, piece, "valid") / (energy + 1) / np.linalg.norm(piece)
        best.append(corr.max())
    return float(np.median(best))


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with Stack() as stack:
        yield stack


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    yield running
    assert running.pbx.wait_idle() == []


class Newest:
    """What Redis holds of the newest call."""

    def __init__(self, stack: Stack) -> None:
        self._client: Client = Client.from_url(stack.redis.url, decode_responses=True)
        self._before = set(self._client.zrange(INDEX, 0, -1))

    def call_id(self) -> str:
        new = [i for i in self._client.zrange(INDEX, 0, -1) if i not in self._before]
        return new[-1] if new else ""

    @property
    def codec(self) -> str:
        return self._client.hgetall(call_key(self.call_id()))["codec"]

    def agent_said(self) -> str:
        entries = self._client.xrange(transcript_key(self.call_id()))
        lines = [Line.from_fields(fields) for _, fields in entries]
        return " ".join(line.text for line in lines if line.role == "agent")

    async def until_agent_said(self, words: str) -> None:
        async with asyncio.timeout(ANSWER_S):
            while words not in self.agent_said():
                await asyncio.sleep(0.05)

    async def until_answered(self, phone: Baresip, question: str, words: str) -> None:
        """Who isn't understood asks again: a busy machine's phone swallows words."""
        for last in (False, False, True):
            with contextlib.suppress(*([] if last else [TimeoutError])):
                await asyncio.sleep(0.5 + await phone.speak(clip(question).pcm, NARROW))
                await self.until_agent_said(words)
                return


# Least SNR of a tone that came back (dB), below and above 4 kHz: the codec's own noise, twice.
# Least likeness of speech: Opus keeps its sound rather than its waveform.
@pytest.mark.parametrize(
    ("codec", "name", "tones", "snr", "wide_snr", "like"),
    [
        ("pcmu", "PCMU", NARROW_HZ, 30, 0, 0.98),
        ("pcma", "PCMA", NARROW_HZ, 30, 0, 0.98),
        ("g722", "G722", NARROW_HZ + WIDE_HZ, 30, 15, 0.98),
        ("opus", "OPUS", NARROW_HZ + WIDE_HZ, 30, 15, 0.8),
    ],
)
async def test_the_echo_is_what_was_said(
    stack: Stack,
    tmp_path: Path,
    codec: str,
    name: str,
    tones: tuple[int, ...],
    snr: float,
    wide_snr: float,
    like: float,
) -> None:
    words = clip("The quick brown fox jumps over the lazy dog.").pcm
    said = np.concatenate([*(tone(hz, 0.6) for hz in tones), resample(words, NARROW, RATE)])
    for _ in range(TRIES):
        newest, heard, sent, seq = await echoed(stack, tmp_path / "call.pcap", codec, said)
        assert newest.codec == name
        assert np.all(np.diff(seq) % 65536 == 1)
        if all(heard_tone(heard, hz)[0] > 0.45 for hz in tones):
            break  # else a busy machine has swallowed some of it
    for hz in tones:
        seconds, level, ratio = heard_tone(heard, hz)
        print(f"{name}: {hz} Hz heard {seconds:.2f} s, {level:+.1f} dB, SNR {ratio:.0f} dB")
        assert seconds > 0.45
        assert abs(level) < 1.0
        assert ratio > (wide_snr if hz > NARROW / 2 else snr)
    begin = int(np.flatnonzero(np.abs(sent.astype(int)) > LEVEL / 2)[0])
    spoken = sent[begin + round(0.6 * len(tones) * RATE) :][: 2 * len(words)]
    print(f"{name}: speech correlates by {likeness(heard, spoken):.3f}")
    assert likeness(heard, spoken) > like


async def echoed(
    stack: Stack, path: Path, codec: str, said: Pcm
) -> tuple[Newest, Pcm, Pcm, list[int]]:
    """Say that to the echo: its record, what was heard, what was sent, the numbers of packets."""
    newest = Newest(stack)
    async with stack.phone(codec=codec) as phone:
        with capture(phone, path) as packets:
            await phone.dial("701")
            await asyncio.sleep(0.5)
            await asyncio.sleep(await phone.speak(said, RATE) + 1.0)
            await phone.hangup()
    heard, sent = (sound(packets.packets, sent=sent) for sent in (False, True))
    return newest, heard, sent, numbers(packets.packets)


@pytest.mark.parametrize("codec", ["pcma", "g722", "opus"])
async def test_the_agent_understands_and_is_understood(stack: Stack, codec: str) -> None:
    newest = Newest(stack)
    async with stack.phone(codec=codec) as phone:
        await phone.dial("700")
        await newest.until_agent_said("help you")
        await newest.until_answered(phone, "Where can I park?", "behind the shop")
        await phone.hangup()


class L16Phone:
    """A caller whose channel speaks L16 at 8 kHz: a Local channel and external media of the test's.

    Asterisk sends `phone` what the bridge says, and hands on to the bridge what `phone` sends.
    """

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self.phone = Phone(payload_type=10)

    async def dial(self, extension: str) -> None:
        await self._callers.ask(
            "POST",
            "/channels",
            endpoint=f"Local/{extension}@internal",
            app=self._callers.app,
            channelId="l16-caller",
            formats="slin",
        )
        made = await self._callers.ask(
            "POST",
            "/channels/externalMedia",
            channelId="l16-phone",
            app=self._callers.app,
            external_host="{}:{}".format(*self.phone.address),
            format="slin",
        )
        told = made["channelvars"]
        self.asterisk = (told["UNICASTRTP_LOCAL_ADDRESS"], int(told["UNICASTRTP_LOCAL_PORT"]))
        await self._callers.ask("POST", "/bridges/l16-bridge", type="mixing")
        for channel in ("l16-caller", "l16-phone"):
            async with asyncio.timeout(5):
                while not await self._joined(channel):
                    await asyncio.sleep(0.02)

    async def _joined(self, channel: str) -> bool:
        try:
            await self._callers.ask("POST", "/bridges/l16-bridge/addChannel", channel=channel)
        except aiohttp.ClientResponseError as error:
            if error.status != 422:  # its StasisStart has not come yet
                raise
            return False
        bridge = await self._callers.ask("GET", "/bridges/l16-bridge")
        return channel in bridge["channels"]

    async def speak(self, pcm: Pcm) -> list[tuple[int, int, int, int, int, bytes]]:
        """Say 8 kHz samples; returns the packets that came meanwhile."""
        start = asyncio.get_running_loop().time()
        for n, frame in enumerate(pcm[: len(pcm) // 160 * 160].reshape(-1, 160)):
            self.phone.send(self.asterisk, frame.astype(">i2").tobytes())
            due = start + 0.02 * (n + 1)
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        return self.phone.received()


async def test_l16_goes_both_ways(stack: Stack) -> None:
    newest = Newest(stack)
    silence = np.zeros(NARROW // 2, np.int16)
    words = clip("The quick brown fox jumps over the lazy dog.").pcm
    said = np.concatenate([silence, tone(1000, 0.6, NARROW), words, silence, silence])
    async with Callers(stack.pbx) as callers:
        try:
            phone = L16Phone(callers)
            await phone.dial("701")
            got = await phone.speak(said)
        finally:
            await callers.remove_all()
            phone.phone.close()
    assert newest.codec == "L16"
    assert {kind for _, kind, *_ in got} == {10}
    heard = np.concatenate([np.frombuffer(payload, ">i2") for *_, payload in got])
    wide = resample(heard.astype(np.int16), NARROW, RATE)
    seconds, level, ratio = heard_tone(wide, 1000)
    like = likeness(wide, resample(words, NARROW, RATE))
    print(f"L16: 1000 Hz heard {seconds:.2f} s, {level:+.1f} dB, SNR {ratio:.0f} dB, {like:.3f}")
    assert seconds > 0.45
    assert abs(level) < 0.2
    assert ratio > 60, "nothing but 16-bit samples on the whole way"
    assert like > 0.99


async def said(slot: Slot, item: int, seconds: float) -> None:
    """So much of it has gone out."""
    async with asyncio.timeout(ANSWER_S):
        while slot.heard(item) < seconds * RATE:
            await asyncio.sleep(0.02)


async def test_a_transcoded_caller_never_goes_silent(
    controller: Controller, asterisk: Asterisk, tmp_path: Path
) -> None:
    """Asterisk drops what goes back in sequence where it transcodes (an A-law caller on a PCMU
    channel): through silence, a dropped item, a pause, a takeover, a restart of the media process
    and a swap of external media, numbers only go on."""
    frequencies = (500, 700, 900, 1100, 1300, 1500)
    async with Baresip("phone", asterisk.phone_password, asterisk.sip_port, codec="pcma") as phone:
        port = free_port(socket.SOCK_DGRAM)
        with ExitStack() as processes:
            start = processes.enter_context
            folder, process = start(media_process(grace_ms=10_000, port=port))
            first = await MediaClient.connect(folder, "w1")
            second = await MediaClient.connect(folder, "w2")
            with capture(phone, tmp_path / "call.pcap") as packets:
                dialling = asyncio.create_task(phone.dial("700"))
                leg = await controller.call()
                await leg.answer()
                source = await leg.open_media(first.address, "PCMU")
                slot = await first.open("c1", source, "PCMU", RATE)
                await leg.join()
                await dialling
                assert leg.incoming.codec == "PCMA"
                slot.play(1, tone(frequencies[0], 0.5))
                slot.done(1)
                await said(slot, 1, 0.5)
                await asyncio.sleep(0.5)  # silence after it
                slot.play(2, tone(frequencies[1], 5.0))
                await said(slot, 2, 0.5)
                slot.clear()
                await asyncio.sleep(0.3)
                slot.play(3, tone(frequencies[2], 0.5))
                slot.done(3)
                slot.pause()
                await asyncio.sleep(0.3)
                slot.resume()
                await said(slot, 3, 0.5)
                await first.close()  # its worker is gone; another one takes the call
                slot = await second.attach("c1", RATE)
                slot.play(1, tone(frequencies[3], 0.5))
                slot.done(1)
                await said(slot, 1, 0.5)
                await asyncio.sleep(0.3)
                process.kill()
                process.join()
                start(media_process(grace_ms=10_000, port=port, runtime_dir=str(folder)))
                slot.play(2, tone(frequencies[4], 0.5))
                slot.done(2)
                await said(slot, 2, 0.5)
                await asyncio.sleep(0.3)
                # Other external media in the same mixing bridge, as after the death of a host.
                source = await leg.open_media(second.address, "PCMU")
                swapped = await second.open("c2", source, "PCMU", RATE, after=slot.numbers)
                await slot.close()
                await leg.join()
                swapped.play(1, tone(frequencies[5], 0.5))
                swapped.done(1)
                await said(swapped, 1, 0.5)
                await asyncio.sleep(0.3)
                await phone.hangup()
            await swapped.close()
            await second.close()
            await leg.release()
    heard = sound(packets.packets, sent=False)
    for hz in frequencies:
        seconds, level, _ = heard_tone(heard, hz)
        print(f"PCMA caller on a PCMU channel: {hz} Hz heard {seconds:.2f} s, {level:+.1f} dB")
        assert seconds > 0.35
        assert abs(level) < 1.0
    assert np.all(np.diff(numbers(packets.packets)) % 65536 == 1)
