"""Bots on real calls: Pipecat's Twilio transport, which we did not write, and the docs' own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.server import serve

from tests.contract.test_docs import DOCS, load
from tests.demo.voice import clip
from tests.lab.capture import RATE, RtpPacket, decode
from tests.lab.pipecat import PipecatBot
from tests.lab.stack import Stack, capture
from tests.pbx.test_calls import Memory, likeness, received, until

TOKEN = "0123456789abcdef0123456789abcdef"
GREETING = clip("Hello, this is a robot. Please ask me something.", "kal")
ANSWER = clip(
    "Let me tell you a very long story about the sea, the wind, and an old man in a small boat, "
    "who went out every single morning, and came home late.",
    "kal",
)


@pytest.fixture(scope="module")
def bot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipecatBot]:
    bot = PipecatBot("talk", tmp_path_factory.mktemp("pipecat"), token=TOKEN)
    bot.voice("greeting", GREETING.pcm)
    bot.voice("answer", ANSWER.pcm)
    with bot:
        yield bot
    assert "Traceback" not in bot.log()


@pytest.fixture(scope="module")
def agents(bot: PipecatBot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agents")
    (folder / "bot.toml").write_text(
        f'engine = "twilio"\n[twilio]\nurl = "{bot.url}"\nparameters = {{shop = "north"}}\n'
    )
    return folder


@pytest.fixture(scope="module")
def running(agents: Path) -> Iterator[Stack]:
    settings = {"agents": {"folder": str(agents)}}
    with Stack(settings=settings, environment={"TWILIO_AUTH_TOKEN": TOKEN}) as stack:
        for number, agent in ((710, "bot\\,customer=4711"), (711, "parrot")):
            for step in (f"1,Set,ARI_BRIDGE_AGENT={agent}", f"2,Goto,ari-bridge-call,{number},1"):
                stack.pbx.cli(f"dialplan add extension {number},{step} into internal")
        yield stack


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    yield running
    assert running.pbx.wait_idle() == []
    assert "Traceback" not in running.bridge.log()


async def test_a_bot_of_pipecats_talks_is_interrupted_and_gets_its_marks(
    stack: Stack, bot: PipecatBot, tmp_path: Path
) -> None:
    memory = Memory(stack)
    async with stack.phone() as phone:
        with capture(phone, tmp_path / "call.pcap") as packets:
            await phone.dial("710")
            await until(lambda: bot.events("got mark"), "the greeting's mark has come back")
            await phone.speak(clip("Tell me a story, please.").pcm, RATE)
            await until(lambda: bot.events("say answer"), "it answers")
            await until(lambda: _heard(packets.packets, bot, 2.0), "he hears some of it")
            await phone.speak(clip("Stop, stop, that is not what I want.").pcm, RATE)
            await until(lambda: len(bot.events("clear")) > 1, "it is interrupted")
            await until(lambda: len(bot.events("say answer")) == 2, "it answers again")
            await until(lambda: len(bot.events("got mark")) == 2, "that answer was heard")
            await phone.dtmf("5")
            await until(lambda: bot.events("key"), "it gets the key")
            await phone.hangup()
            await until(lambda: bot.events("gone"), "the bot knows that the call is over")
    (call,) = bot.events("call")
    assert call["signed"]
    assert call["about"]["body"] == {"shop": "north", "customer": "4711"}
    marks = [event["message"]["mark"]["name"] for event in bot.events("got mark")]
    assert bot.events("got stop")
    assert marks == ["greeting", "answer"]  # nothing of the one that was cut short
    assert [event["digit"] for event in bot.events("key")] == ["5"]
    said, heard = bot.events("say greeting")[0]["at"], bot.events("got mark")[0]["at"]
    assert heard - said >= GREETING.seconds - 0.1  # it is told when the last packet goes out
    pcm = received(packets, phone)
    assert likeness(pcm, GREETING.pcm) > 0.9
    assert likeness(pcm, ANSWER.pcm) > 0.9  # the second time
    (_, again), cut = bot.events("say answer"), bot.events("clear")[1]["at"]
    silence = [p for p in packets.packets if not p.sent and cut + 0.3 < p.at < again["at"]]
    assert len(silence) > 20
    assert np.abs(np.concatenate([decode(p) for p in silence])).mean() < 20
    events = [line.text for line in memory.lines() if line.role == "event"]
    assert "barge-in" in events
    assert not any("engine" in text for text in events)


def _heard(packets: list[RtpPacket], bot: PipecatBot, seconds: float) -> bool:
    """Whether the newest answer has been sounding for so long."""
    since = bot.events("say answer")[-1]["at"]
    return bool(packets) and packets[-1].at - since > seconds


async def test_the_bot_of_the_docs_parrots_a_caller_and_hangs_up_on_the_hash_key(
    stack: Stack, agents: Path, tmp_path: Path
) -> None:
    said = clip("Tell me a story, please.")
    async with serve(load(DOCS / "bot.py").call, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        (agents / "parrot.toml").write_text(
            f'engine = "websocket"\n[websocket]\nurl = "ws://127.0.0.1:{port}"\n'
        )
        memory = Memory(stack)
        async with stack.phone() as phone:
            with capture(phone, tmp_path / "call.pcap") as packets:
                await phone.dial("711")
                await until(lambda: memory.record().get("state") == "talking", "he is answered")
                await phone.speak(said.pcm, RATE)
                await asyncio.sleep(said.seconds + 0.6 + said.seconds + 1.0)
                await phone.dtmf("#")
                await until(lambda: memory.record().get("state") == "ended", "it hangs up")
    assert likeness(received(packets, phone), said.pcm) > 0.9
    assert memory.record()["result"] == "done"
