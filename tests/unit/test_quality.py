"""The quality of both legs, asked of parts that say what they are told to."""

import asyncio
import json

import pytest

from bridge import quality
from bridge.errors import PbxGone, PbxUnreachable
from bridge.quality import LineQuality

TOLD = {
    "received": 950.0,
    "lost": 50.0,
    "jitter_ms": 10.0,
    "sent": 1000.0,
    "lost_there": 200.0,
    "jitter_there_ms": 0.0,
    "round_trip_ms": 80.0,
}


class Parts:
    """A leg that gives the next of `answers`, a slot and a store."""

    def __init__(self, *answers):
        self.answers, self.record = list(answers), {}

    async def statistics(self):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stats(self):
        return {"mos": 4.2, "lost": 3.0}

    def put(self, call_id, **fields):
        self.record |= fields


@pytest.fixture
def watched(monkeypatch):
    """Watch at once until the caller is gone; what is in the record then."""
    monkeypatch.setattr(quality, "FIRST_S", 0)
    monkeypatch.setattr(quality, "EVERY_S", 0)

    def watch(*answers):
        parts = Parts(*answers, PbxGone("hung up"))
        line = LineQuality("c1", parts, parts, parts)
        asyncio.run(line.watch())
        assert parts.answers == []
        return line, json.loads(parts.record.get("audio", "{}"))

    return watch


def test_both_legs_are_put_down(watched):
    line, record = watched(TOLD)
    assert record == line.now()
    assert (record["mos"], record["lost"]) == (4.2, 3)
    caller = record["caller"]
    assert TOLD.items() <= caller.items()
    assert (caller["loss_percent"], caller["loss_percent_there"]) == (5.0, 20.0)
    assert 4.4 > caller["mos"] > 3.5 > caller["mos_there"] > 2


def test_the_last_answer_stays(watched):
    _, record = watched({**TOLD, "received": 1.0}, TOLD, {}, PbxUnreachable("away"))
    assert record["caller"]["received"] == 950


def test_a_caller_without_rtp(watched):
    _, record = watched({})
    assert record == {"mos": 4.2, "lost": 3}


def test_before_the_pbx_was_asked():
    parts = Parts()
    assert LineQuality("c1", parts, parts, parts).now() == {"mos": 4.2, "lost": 3}


def test_a_bad_second_is_a_line_of_the_transcript(monkeypatch):
    class Losing:
        """Loses so many packets between two looks; then the call is over."""

        def __init__(self, *losses):
            self.losses, self.sum, self.lines = [0, *losses], 0, []

        def stats(self):
            return {}

        @property
        def lost(self):
            if not self.losses:
                raise PbxGone("hung up")
            self.sum += self.losses.pop(0)
            return self.sum

        def say(self, call_id, line):
            self.lines.append((line.role, line.text))

    monkeypatch.setattr(quality, "LOOK_S", 0)
    parts = Losing(0, 3, 9, 12, 50, 2, -2, 10, 0)
    with pytest.raises(PbxGone):
        asyncio.run(LineQuality("c1", parts, parts, parts).watch_losses())
    assert parts.lines == [
        ("event", "lost 62 packets of the caller's audio"),
        ("event", "lost 10 packets of the caller's audio"),
    ]
