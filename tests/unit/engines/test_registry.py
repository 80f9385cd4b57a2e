import asyncio
import contextlib
import subprocess
import sys

import pytest

from bridge.agent import Agent
from bridge.engines import registry
from bridge.engines.base import PerCall, Shared
from bridge.engines.echo import EchoEngine
from bridge.engines.registry import Engines, entrance, names
from bridge.errors import ConfigError, EngineMissing


def test_our_engines_are_there():
    assert {"echo", "offline"} <= set(names())
    assert callable(entrance("echo"))


def test_an_unknown_engine_names_the_nearest():
    with pytest.raises(ConfigError, match="no engine 'ofline'; did you mean 'offline'"):
        entrance("ofline")
    with pytest.raises(ConfigError, match="there are: cascade, deepgram-agent, echo, elevenlabs"):
        entrance("zzz")


OTHERS = (
    *("openai", "anthropic", "google.genai", "deepgram", "elevenlabs", "cartesia", "picows"),
    *("wyoming", "moonshine_voice", "piper", "onnxruntime", "mcp"),
)


def test_nothing_of_an_engines_is_imported_before_it_is_used():
    program = "import sys, bridge.worker, bridge.engines.registry; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert not set(OTHERS) & set(told.stdout.split())


def test_a_missing_extra_names_the_cure(monkeypatch):
    monkeypatch.setitem(registry.BUILTIN, "offline", "no_such_module_at_all:provider")
    with pytest.raises(EngineMissing) as caught:
        entrance("offline")
    assert "engine 'offline' needs the extra: pip install 'ari-bridge[offline]'" in str(
        caught.value
    )


@pytest.mark.parametrize("target", ["bridge.engines.echo:nothing", "bridge.engines.echo"])
def test_a_wrong_entry_is_an_error(monkeypatch, target):
    monkeypatch.setitem(registry.BUILTIN, "mine", target)
    with pytest.raises(EngineMissing, match="'mine' can't be loaded"):
        entrance("mine")


class Point:
    def __init__(self, name, value):
        self.name, self.value = name, value


def test_a_third_party_adds_an_engine_by_an_entry_point(monkeypatch):
    point = Point("theirs", "bridge.engines.echo:provider")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert "theirs" in names()
    assert isinstance(entrance("theirs")(Agent("a"), Shared()), PerCall)


class Provider:
    def __init__(self, agent, shared):
        self.agent, self.prepared, self.closed = agent, 0, 0
        MADE.append(self)

    async def prepare(self):
        self.prepared += 1

    def create(self):
        return (self, object())

    async def close(self):
        self.closed += 1


class Needy(Provider):
    async def prepare(self):
        import no_such_module_at_all  # noqa: F401


MADE: list[Provider] = []


@pytest.fixture
def engines(monkeypatch):
    MADE.clear()
    made = {"fake": Provider, "offline": Needy}
    monkeypatch.setattr(registry, "entrance", made.__getitem__)
    return Engines()


async def test_one_provider_an_agent_and_one_engine_a_call(engines):
    agent = Agent("a", engine="fake", options={"x": 1})
    await engines.prepare(agent)
    one, other = await engines.create(agent), await engines.create(agent)
    assert one[0] is other[0]
    assert one[1] is not other[1]
    assert [p.prepared for p in MADE] == [1]


async def test_loading_one_agent_holds_up_no_other_and_is_done_once(engines, monkeypatch):
    gate = asyncio.Event()

    async def slow(self):
        self.prepared += 1
        if self.agent.name == "slow":
            await gate.wait()

    monkeypatch.setattr(Provider, "prepare", slow)
    late = [asyncio.create_task(engines.create(Agent("slow", engine="fake"))) for _ in range(2)]
    await asyncio.sleep(0)
    await engines.create(Agent("quick", engine="fake"))
    assert not any(task.done() for task in late)
    gate.set()
    await asyncio.gather(*late)
    assert [p.prepared for p in MADE] == [1, 1]


async def test_a_changed_agent_file_gets_a_new_provider_and_calls_keep_the_old(engines):
    old = await engines.create(Agent("a", engine="fake"))
    new = await engines.create(Agent("a", engine="fake", greeting="New."))
    assert old[0] is not new[0]
    assert old[0].closed == 0
    await engines.close()
    assert [p.closed for p in MADE] == [1, 1]


async def test_what_a_provider_lacks_is_said_with_the_cure(engines):
    with pytest.raises(EngineMissing, match=r"ari-bridge\[offline\]"):
        await engines.prepare(Agent("a", engine="offline"))


async def test_shared_parts_are_made_once_and_ended_in_reverse():
    events = []

    def part(name):
        @contextlib.asynccontextmanager
        async def make():
            events.append(f"make {name}")
            yield name
            events.append(f"end {name}")

        return make

    shared = Shared()
    assert await shared.get("a", part("a")) == "a"
    assert await shared.get("b", part("b")) == "b"
    assert await shared.get("a", part("other")) == "a"
    await shared.close()
    assert events == ["make a", "make b", "end b", "end a"]


async def test_echo_by_its_name():
    engines = Engines()
    engine = await engines.create(Agent("a", engine="echo", options={"delay_ms": 20}))
    assert isinstance(engine, EchoEngine)
    wrong = Agent("a", engine="echo", options={"delay": 20}, file="agents/a.toml")
    with pytest.raises(ConfigError, match=r"agents/a.toml: \[echo\]: unknown key 'delay'"):
        await engines.create(wrong)
    await engines.close()
