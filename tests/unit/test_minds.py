"""Agents' files change while calls come and go."""

import gc
import os

import pytest

from bridge.errors import ConfigError, EngineMissing
from bridge.minds import Minds

GOOD = "engine = 'echo'\nmax_call_s = 60\n"
BROKEN = {
    "half written": "engine = 'ec",
    "an unknown key": "engine = 'echo'\nmax_cal_s = 30\n",
    "a key that its engine doesn't know": "engine = 'echo'\n[echo]\ndelay = 3\n",
    "an engine that isn't there": "engine = 'eco'\n",
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "one.toml"
    path.write_text(GOOD)
    return path


@pytest.fixture
async def minds(file):
    minds = Minds(lambda: file.parent)
    await minds.prepare()
    yield minds
    await minds.close()


async def longest(minds):
    agent, engine = await minds.make("one")
    await engine.close()
    return agent.max_call_s


async def test_a_change_counts_from_the_next_call_on(minds, file):
    assert await longest(minds) == 60
    file.write_text(GOOD.replace("60", "90"))
    assert await longest(minds) == 90


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_file_keeps_the_agent_as_it_was_and_is_told_of_once(
    minds, file, caplog, what
):
    file.write_text(BROKEN[what])
    for _ in range(3):
        assert await longest(minds) == 60
    await minds.prepare()
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert "one.toml" in said or "eco" in said
    assert said.endswith("agent 'one' stays as it was")
    assert "\n" not in said
    file.write_text(GOOD.replace("60", "30"))
    assert await longest(minds) == 30


async def test_a_file_that_has_not_changed_is_not_read_again(minds, file, monkeypatch):
    os.utime(file, (1, 1))
    monkeypatch.setattr("bridge.minds._SETTLED_S", -1.0)
    assert await longest(minds) == 60
    one, two = [await minds.make("one") for _ in range(2)]
    assert one[0].turns is two[0].turns
    file.write_text(GOOD.replace("60", "90"))
    os.utime(file, (1, 1))  # of the same size as well
    assert await longest(minds) == 90


async def test_what_was_written_a_moment_ago_is_read_again(minds):
    one, two = [await minds.make("one") for _ in range(2)]
    assert one[0] == two[0]
    assert one[0].turns is not two[0].turns


async def test_calls_of_an_agent_that_has_not_changed_leave_nothing_behind(
    minds, file, monkeypatch
):
    os.utime(file, (1, 1))
    monkeypatch.setattr("bridge.minds._SETTLED_S", -1.0)
    asked = []
    monkeypatch.setattr("bridge.toolbox.keep", lambda agents: asked.append(len([*agents])))
    for _ in range(5):
        await longest(minds)
        gc.collect()
    assert asked == [2] * 5, "the file's, and the one that a call has"


async def test_a_file_that_is_gone_is_gone(minds, file):
    file.unlink()
    with pytest.raises(ConfigError, match="no agent 'one'"):
        await longest(minds)


async def test_what_was_never_good_is_an_error(file):
    file.write_text("engine = 'eco'")
    minds = Minds(lambda: file.parent)
    with pytest.raises(ConfigError, match="no engine 'eco'"):
        await longest(minds)
    file.write_text(GOOD)
    assert await longest(minds) == 60
    await minds.close()


async def test_an_engine_whose_module_is_missing_keeps_the_old(minds, file, monkeypatch):
    def missing(name):
        raise EngineMissing("engine 'offline' needs the extra")

    monkeypatch.setattr("bridge.engines.registry.entrance", missing)
    file.write_text("engine = 'offline'")
    assert await longest(minds) == 60
