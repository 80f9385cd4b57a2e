"""What a caller notices of an engine that hangs, of his own line dropping, and of Redis being away:
real calls."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.voice import clip
from tests.lab.capture import RATE
from tests.lab.stack import Stack
from tests.pbx.test_calls import Memory, until

SAMPLES = Path(__file__).parents[2] / "agents"
SETTINGS = """
fallback = "echo"
engine_silent_s = 1.0
engine_give_up_s = 2.0
rejoin_s = 60
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("agents")
    demo = (SAMPLES / "demo.toml").read_text()
    (folder / "demo.toml").write_text(SETTINGS + demo)
    (folder / "echo.toml").write_text((SAMPLES / "echo.toml").read_text())
    settings = {"agents": {"folder": str(folder)}, "sessions": {"required": True}}
    with Stack(settings=settings) as stack:
        yield stack
        assert stack.pbx.wait_idle() == []


def voices() -> list[int]:
    """Process ids of piper, of whichever worker."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"bridge.engines.piper_process" in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_a_caller_whose_line_drops_is_offered_his_conversation(stack: Stack) -> None:
    first = Memory(stack)
    async with stack.phone() as phone:
        await phone.dial("700")
        await until(lambda: "help you" in first.agent_said(), "the greeting was heard")
        words = clip("Where can I park?")
        await phone.speak(words.pcm, RATE)
        await until(lambda: "behind the shop" in first.agent_said(), "the answer was heard")
        await phone.hush()  # else the next call begins with the same words
        await phone.hangup()
        await until(lambda: first.record().get("state") == "ended", "the call has ended")
        second = Memory(stack)
        await phone.dial("700")
        await until(lambda: "go on where we were" in second.agent_said(), "he is offered to go on")
        said = [line.text for line in second.lines() if line.role == "agent"]
        assert "Welcome back." in said
        assert any("behind the shop" in text for text in said)  # what was said then
        await phone.speak(clip("Yes, please.").pcm, RATE)
        await until(
            lambda: second.agent_said().count("behind the shop") == 2, "the last answer comes again"
        )
        await phone.hangup()
    assert first.agent_said().count("help you") == second.agent_said().count("help you") == 1


async def test_an_engine_that_hangs_without_a_word_is_stood_in_for(stack: Stack) -> None:
    memory = Memory(stack)
    async with stack.phone() as phone:
        await phone.dial("700")
        await until(lambda: memory.record().get("state") == "talking", "he is answered")
        ours = [pid for pid in voices() if parent(pid) in stack.bridge.children("worker")]
        assert ours
        for pid in ours:
            os.kill(pid, signal.SIGSTOP)
        try:
            # Keys, because the answer has to be one that no voice has rendered before: a misheard
            # number would be asked for again, which needs none.
            await phone.dtmf("9081#")
            await until(
                lambda: any("agent echo stands in" in line.text for line in memory.lines()),
                "the other agent stands in",
            )
            await phone.speak(clip("Hello, hello, hello, hello.").pcm, RATE)
            await until(lambda: "(echo)" in memory.agent_said(), "it echoes the caller")
        finally:
            for pid in ours:
                if Path(f"/proc/{pid}").exists():
                    os.kill(pid, signal.SIGCONT)
        await phone.hush()
        await phone.hangup()
    events = [line.text for line in memory.lines() if line.role == "event"]
    assert any(text.startswith("engine lost: said nothing for 1 s") for text in events), events
    assert "Traceback" not in stack.bridge.log()


async def test_without_redis_new_callers_go_on_in_the_dialplan_where_it_is_required(
    stack: Stack,
) -> None:
    stack.pbx.cli("dialplan set global ARI_BRIDGE_FALLBACK internal,200,1")
    stack.redis.kill()
    await until(lambda: "Redis does not answer" in stack.bridge.log(), "the bridge knows")
    async with stack.phone() as phone:
        await phone.dial("701")
        await until(lambda: stack.place(phone) == ("internal", "200"), "the human has him")
        await phone.hangup()
    assert "the session store is away" in stack.bridge.log()
    stack.redis.restart()
    await until(lambda: "Redis answers again" in stack.bridge.log(), "the bridge knows")
    memory = Memory(stack)
    async with stack.phone() as phone:
        await phone.dial("701")
        await until(lambda: memory.record().get("state") == "talking", "the agent has him")
        await phone.hangup()
