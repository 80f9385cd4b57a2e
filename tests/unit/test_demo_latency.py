"""The bridge's record of where the time went, laid beside what was captured."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.demo.latency import Stages, stages


def verdict(*ends: float) -> Any:
    turns = [SimpleNamespace(caller=(end - 1.0, end)) for end in ends]
    return SimpleNamespace(turns=[*turns, SimpleNamespace(caller=None)])


def record(*turns: dict[str, Any]) -> dict[str, str]:
    return {"latency": json.dumps(turns)}


def test_a_turn_is_found_by_the_moment_the_caller_fell_silent() -> None:
    path = {"silence": 280.0, "stt": 40.0}
    worked = {"heard": 20.25, "transcript": 20.35, "first_audio": 20.5}
    work = {"stt": (pytest.approx(150), pytest.approx(250))}
    stored = record(
        {"turn": 4, "at_s": {"last_voice": 20.1, **worked}, "path_ms": path},
        {"turn": 5, "at_s": {"onset": 12.0}},  # an interruption that came to nothing
    )
    assert stages(stored, verdict(1010.0, 1020.0), 1000.0) == {1: Stages(path, work)}


def test_no_record_is_no_picture() -> None:
    assert stages({}, verdict(1010.0), 1000.0) == {}
    far = record({"turn": 1, "at_s": {"last_voice": 15.0}, "path_ms": {"silence": 1.0}})
    assert stages(far, verdict(1010.0), 1000.0) == {}
