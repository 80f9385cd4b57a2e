"""Whatever is wrong with an engine: one line that says so, a count, and the caller the fallback."""

from dataclasses import replace
from functools import partial

import pytest

from bridge.agent import Agent
from bridge.engines import faults
from bridge.engines.base import Failed, Note
from bridge.engines.cascade import Cascade, CascadeSettings
from bridge.engines.supervisor import Mind, Supervisor, begin
from tests.contract.call import SPEED
from tests.contract.far import Drop, voice
from tests.contract.test_contract import HELLO, OPEN, greeted
from tests.unit.engines.line import Line
from tests.unit.engines.parts import FakeBrain, FakeStt, FakeTts

OTHER = Agent("other", engine="other", greeting="Somebody else is here.")


async def other():
    """An engine that needs nothing."""
    return Cascade(FakeStt(*["again"] * 20), FakeBrain(), FakeTts(), CascadeSettings())


@pytest.fixture
def counted():
    """What has been counted since the test began."""
    before = faults.count.copy()
    return lambda: dict(faults.count - before)


async def fallen(far, agent):
    """A call of the agent, whose fallback is the other."""
    agent = replace(agent, greeting="Hello.")
    minds = [Mind(agent, partial(far.create, agent)), Mind(OTHER, other)]
    _, engine = await begin(minds)
    far.line = Line(engine, agent, real_time=True, speed=SPEED)
    return far.line


def one_line(caplog, far):
    """What the log says of it, which has no secret in it."""
    assert "Traceback" not in caplog.text
    for secret in ("sk-wrong", *far.environment().values()):
        assert secret not in caplog.text
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "\n" not in record.getMessage()
    return record.getMessage()


@pytest.mark.does("key")
@pytest.mark.parametrize("kind", ["missing", "refused"])
async def test_a_key_that_is_missing_or_wrong(far, agent, monkeypatch, caplog, counted, kind):
    if kind == "missing":
        monkeypatch.delenv(far.key_env)
    else:
        monkeypatch.setenv(far.key_env, "sk-wrong-key-0123456789")
    async with await fallen(far, agent) as line:
        await line.until(lambda: line.lines)
    assert line.lines == [OTHER.greeting]
    assert counted() == {(far.engine, kind): 1}
    assert far.key_env in one_line(caplog, far)


async def test_nobody_is_there(far, agent, caplog, counted):
    await far.refuse()
    async with await fallen(far, agent) as line:
        await line.until(lambda: line.lines)
    assert line.lines == [OTHER.greeting]
    assert counted() == {(far.engine, "lost"): 1}
    assert one_line(caplog, far)


async def test_a_connection_that_is_lost_and_not_to_be_had_again(far, agent, caplog, counted):
    far.greeting = [HELLO]
    far.answers.append([OPEN, Drop()])
    agent = replace(far.dressed(agent), engine_give_up_s=10.0)
    first = await far.create(agent)
    minds = [Mind(agent, partial(far.create, agent)), Mind(OTHER, other)]
    engine = Supervisor(minds, first, first_wait_s=0.0, clock=lambda: line.at_ms / 1000)
    far.line = line = Line(engine, agent, real_time=True, speed=SPEED)
    line.context["turns_by"] = line.turns.belong_to
    async with line:
        await greeted(line)
        await far.refuse()
        await line.speak(voice(600, line.rate, seed=9))
        stands_in = "agent other stands in"
        await line.until(lambda: stands_in in [note.text for note in line.of(Note)], 400_000)
        await line.until(lambda: not line.playout.playing)
        await line.speak(voice(600, line.rate, seed=9))
        await line.until(lambda: "You said again." in line.lines)
        assert not line.of(Failed)
    assert set(counted()) == {(far.engine, "lost")}
    assert "Traceback" not in caplog.text
