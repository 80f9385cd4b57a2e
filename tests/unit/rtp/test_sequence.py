"""Numbers that wrap."""

import numpy as np
import pytest

from bridge.rtp.sequence import ahead16, ahead32


@pytest.mark.parametrize(
    ("number", "reference", "ahead"),
    [(5, 3, 2), (3, 5, -2), (0, 65535, 1), (65535, 0, -1), (32768, 0, -32768), (32767, 0, 32767)],
)
def test_sequence_numbers(number, reference, ahead):
    assert ahead16(np.array([number]), np.array([reference]))[0] == ahead


@pytest.mark.parametrize(
    ("stamp", "reference", "ahead"),
    [(160, 0, 160), (100, 2**32 - 60, 160), (2**32 - 60, 100, -160), (2**31, 0, -(2**31))],
)
def test_timestamps(stamp, reference, ahead):
    assert ahead32(np.array([stamp]), np.array([reference]))[0] == ahead
