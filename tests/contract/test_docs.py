"""What the docs show works: a bot, and an engine in a package of somebody else's."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from websockets.asyncio.server import serve

from bridge.agent import Agent, TurnSettings
from bridge.engines.base import ToolCall
from bridge.engines.registry import Engines, names
from bridge.errors import ConfigError
from tests.contract.far import voice
from tests.contract.test_contract import likeness, loud_ms
from tests.lab.root import REPOSITORY
from tests.unit.engines.line import Line

DOCS = REPOSITORY / "docs"


def load(path):
    """A module that is no part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def parrot():
    """An agent whose bot is docs/bot.py."""
    async with serve(load(DOCS / "bot.py").call, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield Agent(
            "parrot",
            engine="websocket",
            turns=TurnSettings(no_input_ms=600_000),
            options={"url": f"ws://127.0.0.1:{port}"},
        )


async def test_the_parrot_says_it_again_and_is_interrupted(parrot):
    engines = Engines()
    line = Line(await engines.create(parrot), parrot, real_time=True, speed=5)
    async with line:
        said = voice(1500, line.rate)
        await line.speak(said)
        await line.until(lambda: loud_ms(line) >= 1400)
        assert likeness(np.concatenate(line.played), said) > 0.9
        await line.until(lambda: not line.playout.playing)
        before = loud_ms(line)
        await line.speak(said)
        await line.until(lambda: loud_ms(line) >= before + 400)
        await line.tone(300)
        stopped = loud_ms(line)
        assert stopped < before + 1200
        await line.press("#")
        await line.until(lambda: [t.name for t in line.of(ToolCall)] == ["hang_up"])


@pytest.mark.parametrize(("path", "most"), [("bot.py", 43), ("engine/beeper.py", 35)])
def test_the_examples_are_short(path, most):
    assert len((DOCS / path).read_text().splitlines()) <= most


async def test_an_engine_of_others_is_installed_and_found(tmp_path, monkeypatch):
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(tmp_path), str(DOCS / "engine")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert "beeper" not in names()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "beeper" in names()
    agent = Agent("mine", engine="beeper", options={"hz": 600})
    async with Line(await Engines().create(agent), agent) as line:
        await line.tone(500)
        await line.until(lambda: line.heard)
    assert line.lines == ["Turn 1."]
    assert loud_ms(line) == 500
    with pytest.raises(ConfigError, match="no engine 'beper'; did you mean 'beeper'"):
        await Engines().create(Agent("mine", engine="beper"))
    sys.modules.pop("beeper")


def test_the_page_names_every_message():
    page = (DOCS / "websocket.md").read_text()
    source = (REPOSITORY / "bridge" / "engines" / "websocket.py").read_text()
    for name in (
        *("MEDIA_START", "DTMF_END", "MEDIA_MARK_PROCESSED", "MEDIA_BUFFERING_COMPLETED"),
        *("QUEUE_DRAINED", "SPEECH_STARTED", "MEDIA_FLUSHED", "TOOL_RESULT"),
        *("MARK_MEDIA", "FLUSH_MEDIA", "HANGUP", "START_MEDIA_BUFFERING", "STOP_MEDIA_BUFFERING"),
        *("REPORT_QUEUE_DRAINED", "CALL_TOOL", "TEXT", "ANSWER"),
    ):
        assert name in page, name
        assert name in source, name
    for block in page.split("```json\n")[1:]:
        for text in block.split("```")[0].splitlines():
            json.loads(text)
