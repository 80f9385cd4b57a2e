"""The drills' short form: one death each, few calls, on a real Asterisk and Redis.

Gaps are `make drill`'s to judge, on an idle machine; what must never be lost is judged here.
"""

import pytest

from tests.drill.__main__ import hold


@pytest.mark.parametrize("name", ["kill_worker", "kill_media"])
def test_a_call_survives(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.drill.__main__.OUT", tmp_path)
    said = []
    found = hold(name, rounds=1, calls=6, say=said.append)
    assert found["calls"] == 6
    for key in ("lost", "transcript_lost", "greeted_twice", "two_voices", "leftovers"):
        assert not found[key], (key, said)
