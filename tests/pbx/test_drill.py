"""The drills' short form: few calls and deaths, on a real Asterisk and Redis.

Gaps are `make drill`'s to judge, on an idle machine; what must never be lost is judged here.
"""

import pytest

from tests.drill.plans import PLANS
from tests.drill.stage import Options
from tests.drill.tally import ZEROS, missed


@pytest.mark.parametrize("name", ["kill_worker", "kill_media"])
def test_a_call_survives(name, tmp_path):
    said = []
    options = Options(rounds=2, calls=6, say=said.append, out=tmp_path, voids=False)
    found = PLANS[name].hold(options).summary()
    assert found["calls"] == 6
    assert not any(found[key] for key in ZEROS), said
    assert not any(found["leftovers"].values()), said


def test_it_shows_where_nobody_takes_over(tmp_path):
    # Twice: whoever was only listening to the first worker that died asks in the second round.
    said = []
    options = Options(2, 4, takeover=False, say=said.append, out=tmp_path, voids=False)
    found = PLANS["kill_worker"].hold(options).summary()
    assert found["takeovers"] == 0
    assert found["lost"] or found["unanswered"], (found, said)
    assert any("answer_gap_ms" in line for line in missed(found, PLANS["kill_worker"].goals))
