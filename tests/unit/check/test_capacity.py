"""About how many calls: more cores and a faster machine carry more, local speech carries less."""

from bridge.agent import Agent
from bridge.check import capacity


def calls(engine="echo", options=None, **more):
    given = {"asterisk_here": False, "work_ms": capacity.WORK_MS, "cores": 1, **more}
    return capacity.calls(Agent("a", engine=engine, options=options or {}), **given)


def test_what_a_call_costs():
    assert calls() == int(700 / 5.3)
    assert calls(cores=2) == int(1400 / 5.3)
    assert calls(work_ms=capacity.WORK_MS / 2) == int(1400 / 5.3)
    assert calls(asterisk_here=True) == int(700 / 10.3)
    assert calls("offline") == int(700 / (5.3 + 20 + 76))
    parts = {"stt": {"provider": "moonshine"}, "llm": {"provider": "openai"}, "tts": {}}
    assert calls("cascade", parts) == int(700 / 25.3)
    assert calls("openai-realtime") == calls()
    assert calls("offline", work_ms=1000.0) == 1


def test_the_piece_of_work_takes_time():
    assert capacity.work_ms(3) > 0
