"""Transfers of the whole bridge: real calls, judged by what the caller received."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.voice import clip
from tests.lab.baresip import Baresip
from tests.lab.capture import RATE
from tests.lab.stack import Stack, capture
from tests.lab.tones import HUMAN_FRAMES, HUMAN_HZ, find_tones
from tests.pbx.test_calls import Memory, received, until

SAMPLES = Path(__file__).parents[2] / "agents"
# Busy on the first call; on every other it rings, and then the demo's human answers.
DESK = """
[callees]
exten => desk,1,Set(GLOBAL(DESK)=$[0${DESK} + 1])
 same => n,GotoIf($[${DESK} = 1]?busy)
 same => n,Ringing()
 same => n,Wait(${DESK_RINGS})
 same => n,Goto(internal,200,1)
 same => n(busy),Busy(1)
"""
TABLE = """
[transfer]
extensions = []
[transfer.to.desk]
to = "desk@callees"
kind = "%s"
"""


def agent(kind: str) -> str:
    demo = (SAMPLES / "demo.toml").read_text().replace('extension = "200"', 'extension = "desk"')
    before, _, after = demo.partition("[transfer]")
    rest = after.partition("# What it may do besides")[2]
    return before + TABLE % kind + "\n# " + rest


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("agents")
    (folder / "demo.toml").write_text(agent("blind"))
    (folder / "echo.toml").write_text(agent("attended"))  # extension 701
    with Stack(settings={"agents": {"folder": str(folder)}}, options=("--workers", "2")) as stack:
        with (stack.pbx.etc / "extensions.conf").open("a") as extensions:
            extensions.write(DESK)
        stack.pbx.cli("dialplan reload")
        stack.wait_for_workers(2)
        yield stack
        assert stack.pbx.wait_idle() == []


async def ask(phone: Baresip) -> None:
    """For a human."""
    words = clip("Can I speak to a human, please?")
    await asyncio.sleep(await phone.speak(words.pcm, RATE))


def rings(stack: Stack) -> bool:
    return "Wait" in stack.pbx.cli("core show channels")


def joined(stack: Stack, phone: Baresip) -> bool:
    return stack.place(phone) == ("ari-bridge-join", "s")


async def test_busy_is_told_and_the_next_try_outlives_us(stack: Stack, tmp_path: Path) -> None:
    stack.pbx.cli("dialplan set global DESK_RINGS 1")
    memory = Memory(stack)
    async with stack.phone() as phone:
        with capture(phone, tmp_path / "call.pcap") as packets:
            await phone.dial("700")
            await until(lambda: "help you" in memory.agent_said(), "the greeting was heard")
            await ask(phone)
            await until(lambda: "reach anybody" in memory.agent_said(), "it says that it failed")
            assert "transfer failed: desk: busy" in [line.text for line in memory.lines()]
            await ask(phone)
            await until(lambda: joined(stack, phone), "they are put together")
            await until(lambda: memory.record().get("state") == "ended", "the bridge is out of it")
            for pid in stack.bridge.children("worker"):
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(2.5)
            assert joined(stack, phone)
            await phone.hangup()
    assert memory.record()["result"] == "transferred"
    assert memory.record()["reason"] == "desk"
    [human] = find_tones(received(packets, phone).astype("int16"), HUMAN_HZ, HUMAN_FRAMES)
    assert (human.end - human.start) / RATE > 1.5, "the human's tones were heard"
    stack.wait_for_workers(2)


@pytest.mark.parametrize(("extension", "kind"), [("700", "blind"), ("701", "attended")])
async def test_a_worker_that_dies_while_it_rings(stack: Stack, extension: str, kind: str) -> None:
    stack.pbx.cli("dialplan set global DESK 5")
    stack.pbx.cli("dialplan set global DESK_RINGS 4")
    memory = Memory(stack)
    async with stack.phone() as phone:
        await phone.dial(extension)
        await until(lambda: "help you" in memory.agent_said(), "the greeting was heard")
        await ask(phone)
        await until(lambda: memory.record().get("callee") == "ringing", "it rings")
        await until(lambda: rings(stack), "at the desk")
        stack.kill_worker()
        await until(lambda: joined(stack, phone), "they are put together")
        await until(lambda: memory.record().get("state") == "ended", "the bridge is out of it")
        assert "taken over" in [line.text for line in memory.lines()]
        said = memory.agent_said()
        assert ("I have a caller for you" in said) is (kind == "attended")
        await phone.hangup()
    stack.wait_for_workers(2)
