import numpy as np
import pytest

from bridge.agent import Agent, TurnSettings
from bridge.engines import echo
from bridge.engines.base import ReplyDone
from bridge.engines.echo import EchoEngine, EchoSettings
from tests.unit.engines.line import Line

AGENT = Agent("echo", engine="echo", turns=TurnSettings(barge_in="off"))


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("delay_ms", [0, 20, 200])
async def test_the_caller_hears_himself_later(delay_ms, rate):
    rng = np.random.default_rng(1)
    voice = rng.integers(-9000, 9000, rate).astype(np.int16)
    async with Line(EchoEngine(EchoSettings(delay_ms)), AGENT, line_rate=rate) as call:
        await call.speak(voice)
        await call.silence(delay_ms + 100)
    heard = np.concatenate(call.played)
    at = (delay_ms + 20) * rate // 1000  # what is heard in one frame goes out in the next
    assert np.array_equal(heard[at : at + len(voice)], voice)
    assert not heard[:at].any()


async def test_items_are_bounded(monkeypatch):
    monkeypatch.setattr(echo, "ITEM_MS", 400)
    async with Line(EchoEngine(EchoSettings(0)), AGENT) as call:
        await call.silence(1000)
    assert [h.heard_ms for h in call.heard] == [400, 400]
    assert len(call.of(ReplyDone)) == 2


async def test_an_echo_that_was_cut_goes_on_in_a_new_item():
    agent = Agent("echo", engine="echo")
    async with Line(EchoEngine(EchoSettings(0)), agent) as call:
        await call.silence(200)
        await call.press("5")
        await call.silence(200)
        heard = np.concatenate(call.played)
        await call.tone(100)
        await call.silence(100)
    assert [(h.item, h.cut) for h in call.heard] == [(1, True)]
    assert np.concatenate(call.played)[len(heard) :].any()


async def test_keys_show_in_the_transcript():
    async with Line(EchoEngine(EchoSettings(0)), AGENT) as call:
        await call.silence(200)
        await call.press("5")
        await call.silence(200)
    assert call.said == "(echo)  [5] "
