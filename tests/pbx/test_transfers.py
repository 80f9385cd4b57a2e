"""Transfers of the whole bridge: real calls, judged by what their callers received.

They all go on at the same time, on one Asterisk with two workers, and workers die under them: while
it rings somewhere, and in the end, when nobody needs them any more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.demo.voice import clip
from tests.lab.baresip import Baresip
from tests.lab.capture import RATE, Capture, Pcm
from tests.lab.stack import CALLED, Stack, capture
from tests.lab.tones import HUMAN_FRAMES, HUMAN_HZ, LOST_FRAMES, find_tones
from tests.pbx.test_calls import Memory, received, until

DEMO = Path(__file__).parents[2] / "agents" / "demo.toml"
KINDS = {
    "710": ("first@callees", "blind"),
    "711": ("desk@callees", "blind"),
    "712": ("desk@callees", "attended"),
    "713": ("queue:humans", "attended"),
}
SHORTER = {
    "Hello, this is Harbor Street Books. How can I help you?": "Can I help you?",
    "Of course. I am putting you through to a colleague.": "Of course.",
    "reach anybody right now. Is there anything else that I can do for you?": "reach anybody.",
    'extension = "200"': 'extension = "human"',
}
# Busy on the first call; the desk rings until it is told to answer. Then the demo's human answers.
DIALPLAN = """
[callees]
exten => first,1,Set(GLOBAL(FIRST)=$[0${FIRST} + 1])
 same => n,GotoIf($[${FIRST} > 1]?internal,200,1)
 same => n,Busy(1)
exten => desk,1,Ringing()
 same => n(ring),Wait(0.2)
 same => n,GotoIf($[0${ANSWER} = 0]?ring:internal,200,1)
[ari-bridge]
"""
QUEUES = "[general]\n[humans]\n"


def agent(to: str, kind: str) -> str:
    text = DEMO.read_text()
    for long, short in SHORTER.items():
        assert long in text
        text = text.replace(long, short)
    before, _, after = text.partition("[transfer]")
    table = f'[transfer]\n[transfer.to.human]\nto = "{to}"\nkind = "{kind}"\nring_s = 60\n'
    return before + table + "\n# " + after.partition("# What it may do besides")[2]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("agents")
    for extension, (to, kind) in KINDS.items():
        (folder / f"a{extension}.toml").write_text(agent(to, kind))
    with Stack(settings={"agents": {"folder": str(folder)}}, options=("--workers", "2")) as stack:
        with (stack.pbx.etc / "extensions.conf").open("a") as extensions:
            extensions.write(DIALPLAN)
            for extension in KINDS:
                extensions.write(
                    f"exten => {extension},1,Set(ARI_BRIDGE_AGENT=a{extension})\n"
                    " same => n,Goto(ari-bridge-call,${EXTEN},1)\n"
                )
        stack.pbx.cli("dialplan reload")
        (stack.pbx.etc / "queues.conf").write_text(QUEUES)
        stack.pbx.cli("module load app_queue.so")
        stack.wait_for_workers(2)
        yield stack
        # Of a call whose worker died before it had put away what was its own: the next sweep's.
        assert stack.pbx.wait_idle(60.0) == []


class Caller:
    """One call to an agent."""

    def __init__(self, stack: Stack, phone: Baresip, packets: Capture) -> None:
        self.phone, self.packets = phone, packets
        self._stack = stack

    async def dial(self, extension: str) -> None:
        self.memory = Memory(self._stack)
        await self.phone.dial(extension)
        await until(lambda: self.memory.record().get("state") == "talking", "they talk")

    async def ask(self) -> None:
        """For a human, until the agent agrees: a recogniser may mishear, and four ask at a time."""
        await until(lambda: self.said("help you"), "the greeting was heard")
        before = self.agreed()
        for _ in range(3):
            words = clip("Can I speak to a human, please?")
            deadline = time.monotonic() + await self.phone.speak(words.pcm, RATE) + 8.0
            while time.monotonic() < deadline:
                if self.agreed() > before:
                    return
                await asyncio.sleep(0.05)
        raise AssertionError(f"no human was to be had: {self.memory.lines()}")

    def agreed(self) -> int:
        """How many times the agent has."""
        return self.memory.agent_said().count("Of course.")

    async def rings(self) -> None:
        await until(lambda: self.memory.record().get("callee") == "ringing", "it rings")

    async def joined(self) -> None:
        await until(self.is_joined, "they are put together")
        await until(lambda: self.memory.record().get("state") == "ended", "the bridge is out of it")
        record = self.memory.record()
        assert (record["result"], record["reason"]) == ("transferred", "human")

    def is_joined(self) -> bool:
        for line in self._stack.pbx.cli("core show channels concise").splitlines():
            fields = line.split("!")
            if fields[-1] == self.memory.call_id():
                return fields[1:3] == ["ari-bridge-join", "s"]
        return False

    def human(self) -> float:
        """For how long the human's tones were heard, in seconds."""
        pcm = received(self.packets, self.phone).astype("int16")
        # In pieces: a busy machine may spoil a few frames in the midst of them.
        tones = find_tones(pcm, HUMAN_HZ, HUMAN_FRAMES // 5, LOST_FRAMES)
        return sum(t.end - t.start for t in tones) / RATE

    def said(self, text: str) -> bool:
        return text in self.memory.agent_said()

    @property
    def was_taken_over(self) -> bool:
        return "taken over" in [line.text for line in self.memory.lines()]

    async def loses_his_worker(self) -> None:
        """Unless that is so already."""
        if not self.was_taken_over:
            await asyncio.to_thread(self._stack.wait_for_workers, 2)
            os.kill(self._stack.owner(self.memory.call_id()), signal.SIGKILL)
            await until(lambda: self.was_taken_over, "another worker takes the call over")


async def test_busy_rings_a_queue_and_deaths(stack: Stack, tmp_path: Path) -> None:
    async with AsyncExitStack() as phones:
        member = await phones.enter_async_context(stack.phone())
        endpoint = f"PJSIP/{CALLED}/sip:{member.user}@127.0.0.1:{member.sip_port}"
        # The state of a phone at another address than its endpoint's is not known to Asterisk.
        known = "Local/s@ari-bridge-join"
        stack.pbx.cli(
            f"queue add member {endpoint} to humans penalty 0 as Ann state_interface {known}"
        )
        callers: list[Caller] = []
        for extension in KINDS:
            phone = await phones.enter_async_context(stack.phone())
            packets = phones.enter_context(capture(phone, tmp_path / f"{extension}.pcap"))
            callers.append(Caller(stack, phone, packets))
            await callers[-1].dial(extension)
        busy, blind, attended, queued = callers
        await asyncio.gather(*(caller.ask() for caller in callers))

        await member.answer()
        await until(lambda: queued.said("I have a caller for you"), "the member is asked")
        await queued.joined()
        await member.speak(human_tones(), RATE)
        await until(lambda: busy.said("reach anybody"), "he is told that it failed")
        assert "transfer failed: human: busy" in [line.text for line in busy.memory.lines()]
        await asyncio.gather(blind.rings(), attended.rings())
        await blind.loses_his_worker()
        await attended.loses_his_worker()
        stack.pbx.cli("dialplan set global ANSWER 1")
        await busy.ask()
        await asyncio.gather(busy.joined(), blind.joined(), attended.joined())
        assert attended.said("I have a caller for you")
        assert not blind.said("I have a caller for you")

        for pid in stack.bridge.children("worker"):
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(2.5)
        assert [caller.is_joined() for caller in callers] == [True] * 4
        await asyncio.gather(*(caller.phone.hangup() for caller in callers))
    heard_s = [caller.human() for caller in (busy, blind, queued)]
    assert min(heard_s) > 1.0, "the human's tones (2 s, 2 s, 10 s) were heard"


def human_tones() -> Pcm:
    """Ten seconds of them."""
    t = np.arange(10 * RATE) / RATE
    return sum(6000 * np.sin(2 * np.pi * hz * t) for hz in HUMAN_HZ).astype(np.int16)
