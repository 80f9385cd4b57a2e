"""The demo's goals, its account of the stored transcript, and the rows of its picture."""

import itertools
import random
from typing import Any

import pytest

from tests.demo.picture import rows
from tests.demo.report import clock, goals, live_line, missing_lines
from tests.demo.script import Script, Turn

SCRIPT = Script(
    "700",
    (
        Turn(say="a", expect=("x",)),
        Turn(say="b", expect=("x",), interrupt_after_ms=900),
        Turn(say="uh-huh", expect=("x",), interrupt_after_ms=900, goes_on=True),
        Turn(dtmf="47#", expect=("x",)),
        Turn(say="d", expect=("x",), kill_worker_after_ms=500),
        Turn(say="c", expect_extension="200"),
    ),
    greeting=("hello",),
)
GOOD: dict[str, Any] = {
    "turns": 7,
    "agent_understood": 7,
    "barge_in_stop_ms": 250.0,
    "voice_to_voice_ms": {"p50": 500.0, "p95": 2000.0},
    "reversed_barge_ins": 1,
    "takeover_packet_gap_ms": 60.0,
    "takeover_answer_gap_ms": 3500.0,
    "takeover_in_mid_sentence": True,
    "takeover_said_twice": "",
    "greetings": 1,
    "transfer_reached": True,
    "transcript_in_redis": True,
    "leftover_channels": 0,
    "page_agrees": True,
}


def missed(script: Script = SCRIPT, *, shipped: bool = True, **changes: Any) -> list[str]:
    return [g.key for g in goals({**GOOD, **changes}, script, shipped=shipped) if not g.met]


def test_at_the_limits_every_goal_is_met() -> None:
    assert missed() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("turns", 5),
        ("page_agrees", False),
        ("agent_understood", 5),
        ("barge_in_stop_ms", 250.1),
        ("barge_in_stop_ms", None),
        ("voice_to_voice_ms", {"p50": 500.1, "p95": 901}),
        ("voice_to_voice_ms", {"p50": -200.0, "p95": 500.0}),  # it talks over the caller
        ("voice_to_voice_ms", None),
        ("reversed_barge_ins", 0),
        ("takeover_packet_gap_ms", 60.1),
        ("takeover_packet_gap_ms", None),
        ("takeover_answer_gap_ms", 3500.1),
        ("takeover_answer_gap_ms", None),
        ("takeover_in_mid_sentence", False),
        ("takeover_said_twice", "please enter your order"),
        ("greetings", 2),
        ("transfer_reached", False),
        ("transcript_in_redis", False),
        ("leftover_channels", 1),
    ],
)
def test_each_goal_can_be_missed(key: str, value: object) -> None:
    assert key in missed(**{key: value})


def test_another_script_need_not_have_it_all() -> None:
    short = Script("700", (Turn(say="a", expect=("x",)),))
    changes: dict[str, Any] = {"turns": 1, "agent_understood": 1, "barge_in_stop_ms": None}
    assert missed(short, shipped=False, transfer_reached=False, **changes) == []
    keys = Script("700", (Turn(dtmf="1", expect=("x",)),))
    changes["voice_to_voice_ms"] = None  # nobody spoke, so there is nothing to measure
    assert missed(keys, shipped=False, transfer_reached=False, **changes) == []


def line(role: str, text: str, **more: str) -> dict[str, str]:
    return {"v": "1", "at": "1007.25", "role": role, "text": text} | more


WHOLE = [
    *[line("caller", "a")] * 4,
    *[line("agent", "b")] * 5,
    line("event", "taken over"),
    line("dtmf", "4"),
    line("dtmf", "7"),
]


def test_a_whole_transcript_lacks_nothing() -> None:
    assert missing_lines(SCRIPT, WHOLE) == []
    assert missing_lines(SCRIPT, [*WHOLE[:-2], line("dtmf", "47#")]) == []


@pytest.mark.parametrize(
    ("left_out", "says"),
    [
        (0, "3 lines of the caller's"),
        (4, "4 lines of the agent's"),
        (9, "0 takeovers"),
        (10, "keys 7"),
    ],
)
def test_what_a_transcript_lacks_is_said(left_out: int, says: str) -> None:
    [lack] = missing_lines(SCRIPT, [entry for n, entry in enumerate(WHOLE) if n != left_out])
    assert lack.startswith(says)


def test_lines_of_another_form_are_not_trusted() -> None:
    assert missing_lines(SCRIPT, [*WHOLE, {**line("event", "x"), "v": "2"}]) == [
        "1 lines of an unknown form"
    ]


def test_live_lines() -> None:
    assert live_line(line("caller", "Hi"), 1000.0) == " 0:07.2  caller  Hi"
    agent = line("agent", "We are", heard_ms="1240", cut="1")
    assert live_line(agent, 1000.0) == " 0:07.2  agent   We are   (1.2 s heard, interrupted)"
    assert clock(187.04) == "3:07.0"


@pytest.mark.parametrize("seed", range(5))
def test_rows_cover_the_call_and_end_before_turns(seed: int) -> None:
    rng = random.Random(seed)
    starts = sorted(rng.uniform(0, 170) for _ in range(20))
    parts = rows(starts, 180.0)
    assert parts[0][0] == 0
    assert parts[-1][1] == 180.0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
    cuts = {round(begin + 0.4, 6) for begin, _ in parts[1:]}
    assert cuts <= {round(s, 6) for s in starts}
    longest = max(b - a for a, b in zip([0, *starts], [*starts, 180.0], strict=True))
    assert max(end - begin for begin, end in parts) <= max(22.0, longest) + 0.4


def test_a_call_without_turns_is_one_row() -> None:
    assert rows([], 12.0) == [(0.0, 12.0)]
