"""Every far end of this folder, and a call with its engine."""

import importlib
import inspect
from pathlib import Path

import pytest

from bridge.agent import Agent, TurnSettings
from tests.contract.call import Call
from tests.contract.far import Far, Freeze


def fars():
    """The classes, by their modules."""
    found = []
    for path in sorted(Path(__file__).parent.glob("far_*.py")):
        module = importlib.import_module(f"tests.contract.{path.stem}")
        found += [
            cls
            for _, cls in inspect.getmembers(module, inspect.isclass)
            if issubclass(cls, Far) and cls.__module__ == module.__name__ and cls.engine
        ]
    return found


def pytest_generate_tests(metafunc):
    """`far` is every far end that does what the test's mark `does(...)` says."""
    if "far" in metafunc.fixturenames:
        wanted = {name for mark in metafunc.definition.iter_markers("does") for name in mark.args}
        known = getattr(metafunc.module, "FARS", None) or fars()  # a module may have its own
        classes = [cls for cls in known if wanted <= cls.does]
        metafunc.parametrize("far", classes, indirect=True, ids=lambda cls: cls.__name__)


@pytest.fixture
async def far(request, monkeypatch):
    """A far end that listens; in the end it has nothing to complain of."""
    async with request.param() as far:
        for name, value in far.environment().items():
            monkeypatch.setenv(name, value)
        far.hurry(monkeypatch)
        if any(isinstance(value, Freeze) for value in request.node.callspec.params.values()):
            far.ping(monkeypatch)
        yield far
    assert not far.faults


@pytest.fixture
def agent(far):
    """The agent file."""
    return Agent(
        "contract",
        engine=far.engine,
        engine_silent_s=20.0,  # one second of ours
        engine_give_up_s=60.0,
        turns=TurnSettings(no_input_ms=600_000),
        options=far.options(),
        file="contract.toml",
    )


@pytest.fixture
def call(far, agent):
    """A call, for `async with await call()`."""

    async def make(**more):
        changed = far.dressed(more.pop("agent", agent))
        return Call(far, changed, await far.create(changed), **more)

    return make
