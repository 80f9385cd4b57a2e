"""What the C library keeps of what was freed, and gives back when it is told to."""

from pathlib import Path

import numpy as np

from bridge.media.memory import give_back

BLOCK, COUNT = 64 << 10, 1024


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def test_holes_between_what_is_still_used_are_given_back():
    blocks = [np.ones(BLOCK, np.uint8) for _ in range(COUNT)]
    kept = blocks[::16]
    del blocks
    before = resident_mib()
    assert give_back()
    assert before - resident_mib() > COUNT * BLOCK / 2**20 / 2
    assert all(block.all() for block in kept)
