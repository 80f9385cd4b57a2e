"""The E-model against figures of its recommendation, and percentiles of a histogram."""

import numpy as np
import pytest

from bridge.rtp.quality import LATE_MS, judge, mos


def histogram(*late_ms):
    counts = np.zeros(len(LATE_MS) + 1, np.uint32)
    np.add.at(counts, np.searchsorted(LATE_MS, np.array(late_ms)), 1)
    return counts


# R = 93.2 is a MOS of 4.41 (G.107 Annex B); R = 70 is 3.60, R = 50 is 2.58.
@pytest.mark.parametrize(("r", "opinion"), [(92.7, 4.40), (70, 3.60), (50, 2.58)])
def test_opinion_of_r(r, opinion):
    by_loss = 93.2 - 0.48 - r
    loss = 25.1 * by_loss / (95 - by_loss)
    assert mos(loss, 0) == pytest.approx(opinion, abs=0.02)


def test_loss_and_delay_are_heard():
    assert mos(0, 0) > mos(1, 0) > mos(3, 0) > mos(10, 0) > mos(50, 0) >= 1
    assert mos(0, 0) > mos(0, 150) > mos(0, 400)
    assert mos(3, 0) == pytest.approx(4.1, abs=0.1), "3 % concealed is still good"


def test_percentiles():
    q = judge(1000, 10, 200, histogram(*[0.5] * 90, *[18] * 8, 90, 900))
    assert q.late_ms == (1.0, 20.0, 100.0)
    assert q.loss_percent == pytest.approx(0.99, abs=0.01)
    assert q.concealed_ms == 200


def test_nothing_yet():
    q = judge(0, 0, 0, histogram())
    assert (q.loss_percent, q.late_ms) == (0, (0, 0, 0))
    assert q.mos == pytest.approx(4.4, abs=0.02)
