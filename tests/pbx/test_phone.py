"""The lab's own phone and capture, on Asterisk alone: what judges has to be right itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.lab.asterisk import Asterisk
from tests.lab.baresip import Baresip, PhoneError
from tests.lab.capture import RATE, Capture, Pcm, digits, entropy, lay_out
from tests.lab.root import program
from tests.lab.speech import Ear, regions
from tests.lab.tones import HUMAN_FRAMES, HUMAN_HZ, find_tones

ECHO, HUMAN = "600", "200"


def voice(seconds: float) -> Pcm:
    t = np.arange(round(seconds * RATE)) / RATE
    return (9000 * np.sin(2 * np.pi * 300 * t) * (1 + np.sin(2 * np.pi * 5 * t)) / 2).astype(
        np.int16
    )


def recording(phone: Baresip, path: Path, ear: Ear | None = None) -> Capture:
    listener = ear.feed if ear else None
    return Capture(path, phone.rtp_ports, program=str(program("tcpdump")), listener=listener)


def plain(asterisk: Asterisk, **options: object) -> Baresip:
    return Baresip("caller", "", asterisk.sip_port, **options)  # type: ignore[arg-type]


def secure(asterisk: Asterisk) -> Baresip:
    return Baresip(
        *("secure", asterisk.phone_password, asterisk.tls_port),
        transport="tls",
        srtp=True,
        ca=asterisk.certificate,
    )


async def echo_call(phone: Baresip, path: Path, keys: str = "") -> SimpleNamespace:
    """Say a second to Asterisk's echo; both directions as the capture saw them."""
    ear = Ear()
    with recording(phone, path, ear) as packets:
        await phone.dial(ECHO)
        await asyncio.sleep(0.3)
        await asyncio.sleep(await phone.speak(voice(1.0), RATE) + 0.5)
        await phone.dtmf(keys)
        await phone.hangup()
    begin, end = packets.packets[0].at, packets.packets[-1].at
    return SimpleNamespace(
        sent=lay_out(packets.packets, sent=True, start=begin, end=end),
        received=lay_out(packets.packets, sent=False, start=begin, end=end),
        packets=packets.packets,
        ear=ear,
    )


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
async def test_what_is_said_is_heard_back(asterisk: Asterisk, tmp_path: Path, codec: str) -> None:
    async with plain(asterisk, codec=codec) as phone:
        call = await echo_call(phone, tmp_path / "call.pcap", keys="4#")
    [said] = regions(call.sent.pcm)
    [heard] = regions(call.received.pcm)
    assert said.end - said.start == pytest.approx(RATE, abs=RATE // 20)
    # Spoken before its packet left and heard after it came back: one packet at least lies between.
    delay = call.received.time(heard.start) - call.sent.time(said.start)
    assert 0.015 < delay < 0.5
    assert call.ear.onset == pytest.approx(call.received.time(heard.start), abs=0.03)
    assert [digit.digit for digit in digits(call.packets)] == ["4", "#"]
    assert (tmp_path / "call.pcap").stat().st_size > 100 * 200
    assert asterisk.wait_idle() == []


async def test_tls_and_srtp_keep_speech_from_the_wire(asterisk: Asterisk, tmp_path: Path) -> None:
    async with plain(asterisk) as phone:
        clear = await echo_call(phone, tmp_path / "clear.pcap")
    async with secure(asterisk) as phone:
        hidden = await echo_call(phone, tmp_path / "hidden.pcap")
    for sent in (True, False):
        assert entropy(clear.packets, sent=sent) < 7
        assert entropy(hidden.packets, sent=sent) > 7.95
    assert len(hidden.packets) > 100


async def test_the_human_is_found_by_his_tones(asterisk: Asterisk, tmp_path: Path) -> None:
    async with plain(asterisk) as phone:
        with recording(phone, tmp_path / "call.pcap") as packets:
            await phone.dial(HUMAN)
            await asyncio.sleep(2.5)
            await phone.hangup()
    begin, end = packets.packets[0].at, packets.packets[-1].at
    received = lay_out(packets.packets, sent=False, start=begin, end=end)
    [tones] = find_tones(received.pcm, HUMAN_HZ, HUMAN_FRAMES)
    assert (tones.end - tones.start) / RATE == pytest.approx(2.0, abs=0.1)


async def test_a_phone_with_a_password_registers(asterisk: Asterisk) -> None:
    phone = Baresip("phone", asterisk.phone_password, asterisk.sip_port, register=True)
    async with phone:
        await phone.registered()
        assert "phone/sip:phone" in asterisk.cli("pjsip show contacts")


async def test_a_call_that_is_refused_says_so(asterisk: Asterisk) -> None:
    async with Baresip("phone", "wrong", asterisk.sip_port) as phone:
        with pytest.raises(PhoneError, match="was not answered"):
            await phone.dial(ECHO)
