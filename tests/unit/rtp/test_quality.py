"""The E-model against figures of its recommendation, and percentiles of a histogram."""

import numpy as np
import pytest

from bridge.audio.codecs import CODECS
from bridge.rtp.quality import LATE_MS, judge, mos

PCMU = CODECS["PCMU"]


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


# G.107.1: R = 129 of the best there is, less Ie (13 for G.722), by 1.29 is 99.6 and 89.5.
@pytest.mark.parametrize(
    ("codec", "opinion"),
    [("PCMU", 4.40), ("PCMA", 4.40), ("L16", 4.40), ("L16/16000", 4.5), ("G722", 4.33)],
)
def test_each_codec_by_itself(codec, opinion):
    assert mos(0, 0, CODECS[codec]) == pytest.approx(opinion, abs=0.015)


@pytest.mark.parametrize("codec", CODECS)
def test_losses_are_heard_in_every_codec(codec):
    at = [mos(loss, 0, CODECS[codec]) for loss in (0, 1, 3, 10, 50)]
    assert at == sorted(at, reverse=True)
    assert 1 <= at[-1] < 2.7


def test_percentiles():
    q = judge(1000, 10, 200, histogram(*[0.5] * 90, *[18] * 8, 90, 900), PCMU)
    assert q.late_ms == (1.0, 20.0, 100.0)
    assert q.loss_percent == pytest.approx(0.99, abs=0.01)
    assert q.concealed_ms == 200


def test_nothing_yet():
    q = judge(0, 0, 0, histogram(), PCMU)
    assert (q.loss_percent, q.late_ms) == (0, (0, 0, 0))
    assert q.mos == pytest.approx(4.4, abs=0.02)
