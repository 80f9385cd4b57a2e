"""What a caller finds who was cut off and calls again: real calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.voice import clip
from tests.lab.capture import RATE
from tests.lab.stack import Stack
from tests.pbx.test_calls import Memory, until

SAMPLES = Path(__file__).parents[2] / "agents"
SETTINGS = """
rejoin_s = 60
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("agents")
    demo = (SAMPLES / "demo.toml").read_text()
    (folder / "demo.toml").write_text(SETTINGS + demo)
    (folder / "echo.toml").write_text((SAMPLES / "echo.toml").read_text())
    with Stack(settings={"agents": {"folder": str(folder)}}) as stack:
        yield stack
        assert stack.pbx.wait_idle() == []


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
