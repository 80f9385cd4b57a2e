"""What the docs show works: a bot; an engine and a context manager in packages of others."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from websockets.asyncio.server import serve

from bridge.agent import Agent, TurnSettings
from bridge.engines.base import ToolCall
from bridge.engines.cascade import Cascade, CascadeSettings
from bridge.engines.llm import LlmSettings, model_of
from bridge.engines.prompt import GROUP, Message
from bridge.engines.registry import Engines, names
from bridge.errors import ConfigError
from tests.contract.call import Call
from tests.contract.far import voice
from tests.contract.test_contract import likeness, loud_ms
from tests.contract.test_openai import Watched
from tests.lab.root import REPOSITORY
from tests.unit.engines.line import Line
from tests.unit.engines.parts import FakeStt, FakeTts

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


CONTEXT = """
from bridge.engines import prompt

async def assemble(context, instructions, history):
    said = [entry.text for entry in history]
    return await prompt.assemble(context, f"{instructions} Known: {said or 'nothing'}.", history)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A package that brings a context manager, as the docstring of `bridge.engines.prompt` says."""
    (tmp_path / "my_context.py").write_text(CONTEXT)
    known = tmp_path / "my_context-1.0.dist-info"
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: my-context\nVersion: 1.0\n")
    (known / "entry_points.txt").write_text(f"[{GROUP}]\nmine = my_context:assemble\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "mine"
    sys.modules.pop("my_context", None)


class Chat:
    """A vendor's endpoint that says yes to everything."""

    def __init__(self):
        self.read = []

    async def stream(self, messages, functions):
        self.read.append(messages)
        yield "Yes."


async def test_what_a_chat_model_reads_is_made_by_a_context_manager_of_others(mine):
    chat, agent = Chat(), Agent("mine")
    model = model_of(chat, agent, LlmSettings(instructions="Be kind.", context=mine), "a.toml")
    cascade = Cascade(FakeStt("are you open"), model, FakeTts(), CascadeSettings())
    async with Line(cascade, agent) as line:
        await line.tone(500)
        await line.until(lambda: "Yes." in line.lines)
    system, *_, last = chat.read[-1]
    assert system.text.startswith("Be kind. Known: ['are you open'].")
    assert last == Message("user", "are you open")


async def test_and_so_is_what_a_spoken_model_begins_with(mine, monkeypatch):
    async with Watched() as far:
        for name, value in far.environment().items():
            monkeypatch.setenv(name, value)
        options = {**far.options(), "instructions": "Be kind.", "context": mine}
        agent = Agent("mine", engine=far.engine, options=options)
        async with Call(far, agent, await far.create(agent)):
            pass
        assert not far.faults
    (update,) = far.of("session.update")
    assert "Be kind." in update.session.instructions
    assert "Known: nothing." in update.session.instructions


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
