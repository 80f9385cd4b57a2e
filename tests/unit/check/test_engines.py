"""An engine that a call would fail with is named, with its cure."""

import asyncio
import os
import subprocess
import sys

from bridge.agent import Agent
from bridge.check import engines
from bridge.engines.base import Failed, ReplyDone


class Engine:
    """Emits what it was made with, once it has begun."""

    rate = 0

    def __init__(self, *events):
        self.events, self.closed = events, False

    async def start(self, context):
        for event in self.events:
            context.emit(event)

    async def close(self):
        self.closed = True


class Engines:
    def __init__(self, engine):
        self.engine = engine

    async def prepare(self, agent):
        """It needs nothing."""

    async def create(self, agent):
        return self.engine


async def of(*events):
    engine = Engine(*events)
    found = await engines._of(Engines(engine), Agent("demo", engine="offline"), True)
    assert engine.closed
    return found


async def test_one_that_answers():
    assert (await of(ReplyDone())).state == "ok"


async def test_one_that_connects_and_never_says_a_word(monkeypatch):
    monkeypatch.setattr(engines, "_ANSWER_S", 0.0)
    found = await of()
    assert (found.state, "says nothing" in found.said) == ("fail", True)
    assert "engine_silent_s" in found.cure


async def test_one_that_gives_up():
    found = await of(Failed("the key is no longer good"))
    assert (found.state, "the key is no longer good" in found.said) == ("fail", True)


async def test_one_that_breaks_off(monkeypatch):
    async def breaks(self, context):
        await asyncio.sleep(0)
        raise engines.ConfigError("no such model: set [openai] model")

    monkeypatch.setattr(Engine, "start", breaks)
    found = await of()
    assert (found.state, "set [openai] model" in found.said) == ("fail", True)


EXTRAS = {
    "gemini": ("google.genai", 'engine = "gemini-live"'),
    "openai": ("openai", 'engine = "openai-realtime"'),
    "websocket": ("picows", 'engine = "twilio"\n[twilio]\nurl = "ws://127.0.0.1:9/"'),
    "offline": ("moonshine_voice", 'engine = "offline"'),
}
LOOK = """
import asyncio, pathlib, sys
for name in sys.argv[2:]:
    sys.modules[name] = None
from bridge.check import engines
async def look():
    agents, wrong = engines.load(pathlib.Path(sys.argv[1]))
    for one in [*wrong, *[one async for one in engines.findings(agents, connect=False)]]:
        print(one.line)
asyncio.run(look())
"""


def test_extras_that_are_not_installed(tmp_path):
    for extra, (_, text) in EXTRAS.items():
        (tmp_path / f"{extra}.toml").write_text(text)
    words = [sys.executable, "-c", LOOK, str(tmp_path), *(module for module, _ in EXTRAS.values())]
    keys = {"OPENAI_API_KEY": "k", "GEMINI_API_KEY": "k"}
    said = subprocess.run(words, env={**os.environ, **keys}, check=True, capture_output=True)
    lines = said.stdout.decode().splitlines()
    assert len(lines) == len(EXTRAS)
    for extra in EXTRAS:
        [line] = [line for line in lines if line.startswith(f"FAIL  agent {extra}")]
        assert f"pip install 'ari-bridge[{extra}]'" in line


def test_a_folder_without_agents(tmp_path):
    _, [found] = engines.load(tmp_path)
    assert (found.state, "set [agents] folder" in found.cure) == ("fail", True)
