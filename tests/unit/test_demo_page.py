"""That the finished call's page and timeline.png show the same: each difference is found."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.demo.judge import Judged, Takeover, Verdict
from tests.demo.page import contents, differences
from tests.demo.script import Turn
from tests.lab.capture import RATE, Digit, Track
from tests.lab.root import LabError

ZERO = 1000.0
"""When the recording begins; the capture a second before."""
SECONDS, PER_S = 20, 40


def voice(seed: int) -> Any:
    """Noise that comes and goes."""
    random = np.random.default_rng(seed)
    loud = np.repeat(random.integers(0, 2, SECONDS * 2) * 6000, RATE // 2)
    return (loud * random.uniform(-1, 1, len(loud))).astype(np.int16)


def track(pcm: Any, sent: bool) -> Track:
    silence = np.zeros(RATE, np.int16)
    none = np.zeros(0)
    whole = np.concatenate([silence, pcm])
    return Track(whole, ZERO - 1, none, none.astype(int), none.astype(int), sent)


def peaks(pcm: Any) -> list[int]:
    return [int(x) >> 7 for x in np.abs(pcm.reshape(-1, RATE // PER_S)).max(axis=1)]


SENT, RECEIVED = voice(1), voice(2)


def line(role: str, text: str, begin: float, end: float, cut: bool = False) -> dict[str, Any]:
    ms = {"begin_ms": round(begin * 1000), "end_ms": round(end * 1000)}
    return {"role": role, "text": text, "cut": cut, **ms}


def page() -> dict[str, Any]:
    return {
        "": {
            "result": "transferred",
            "recording_parts": 1,
            "latency": [
                {"at_s": {"paused": 5.9}, "clock_s": 1000.0, "interruption_ms": {"paused": 90}},
                {
                    "at_s": {"paused": 8.1, "resumed": 8.5},
                    "clock_s": 1000.0,
                    "interruption_ms": {"paused": 90, "resumed": 500},
                },
            ],
        },
        "transcript.json": {
            "zero": ZERO,
            "lines": [
                line("caller", "What time is it?", 1, 2),
                line("agent", "It is", 3, 6.1, cut=True),
                line("caller", "Stop.", 6.0, 6.5),
                line("event", "taken over", 12, 12),
                line("dtmf", "4", 14.1, 14.1),
            ],
        },
        "recording.json?part=0": {"started": ZERO, "rate": RATE},
        "peaks?part=0": {"per_s": PER_S, "caller": peaks(SENT), "agent": peaks(RECEIVED)},
    }


def judged(turn: Turn, begin: float, end: float, **more: Any) -> Judged:
    about = {"agent": None, "heard": "", "missing": (), "voice_to_voice_ms": None}
    return Judged(turn, (ZERO + begin, ZERO + end), **{**about, "barge_in_stop_ms": None, **more})


VERDICT = Verdict(
    *("", (), None),
    (
        judged(Turn(say="What time is it?"), 1, 2),
        judged(Turn(say="Stop.", interrupt_after_ms=900), 6, 6.5, barge_in_stop_ms=100.0),
        judged(Turn(say="Okay.", goes_on=True), 8, 8.4, held_ms=400.0),
        judged(Turn(dtmf="4#"), 14, 14.2),
        judged(Turn(say="stop"), 6.2, 6.6, transferred=ZERO + 18),
    ),
    *((), (), (), ()),
    20.0,
    Takeover(ZERO + 10, True, 1.0, 20.0, 900.0, 900.0, ZERO + 13, ""),
)
PRESSED = (Digit("4", ZERO + 14, ZERO + 14.1), Digit("#", ZERO + 14.2, ZERO + 14.3))


def found(shown: dict[str, Any], sent: Any = SENT, received: Any = RECEIVED) -> list[str]:
    return differences(shown, VERDICT, track(sent, True), track(received, False), PRESSED)


def test_what_shows_the_same_differs_in_nothing() -> None:
    assert found(page()) == []


def test_a_little_later_is_the_same() -> None:
    assert found(page(), np.roll(SENT, RATE // 10), np.roll(RECEIVED, -RATE // 10)) == []


@pytest.mark.parametrize("lacks", range(5))
def test_each_line_is_missed(lacks: int) -> None:
    shown = page()
    del shown["transcript.json"]["lines"][lacks]
    if lacks == 2:  # another line stands there
        del shown["transcript.json"]["lines"][0]
    assert found(shown)


@pytest.mark.parametrize("lacks", range(5))
def test_each_line_is_missed_where_it_should_be(lacks: int) -> None:
    shown = page()
    if lacks == 2:
        shown["transcript.json"]["lines"].pop(0)
        lacks = 1
    for ms in ("begin_ms", "end_ms"):
        shown["transcript.json"]["lines"][lacks][ms] += 40_000
    assert found(shown)


def test_who_went_on_and_who_was_transferred() -> None:
    shown = page()
    shown[""]["latency"].pop()
    shown[""]["result"] = "done"
    assert len(found(shown)) == 2


def test_a_takeover_that_never_was() -> None:
    shown = page()
    shown["transcript.json"]["lines"].append(line("event", "taken over", 15, 15))
    assert found(shown) == ["1 deaths of a worker, 2 takeovers on the page"]


def test_another_calls_voices() -> None:
    assert len(found(page(), RECEIVED, SENT)) == 2
    assert len(found(page(), np.roll(SENT, RATE), RECEIVED)) == 1


def test_a_page_without_sound() -> None:
    shown = page()
    del shown["peaks?part=0"]
    assert found(shown) == ["the page has no sound"]


def test_what_a_kept_page_holds_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "call.html"
    data = json.dumps(page()).replace("<", "\\u003c")
    file.write_text(f'<p>…</p><script type="application/json" id="saved">{data}</script>')
    assert contents(file) == page()
    file.write_text("<p>none</p>")
    with pytest.raises(LabError):
        contents(file)
