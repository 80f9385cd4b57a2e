"""The callers' audio out of the map: to each call, and to whoever hears all together."""

import pytest

from bridge.media.frames import Frames
from bridge.media.slots import CONCEALED, DROPPED, ECHO, SPEECH, SlotMap


@pytest.fixture
def slots(tmp_path):
    made = SlotMap.create(tmp_path / "slots", 4, 1000)
    made.columns["t_rate"][:] = [8, 8, 16, 8]
    return made


def put(slots, index, flags):
    """Frames numbered from 1 in each sample, with such flags."""
    rate = int(slots.columns["t_rate"][index])
    for flag in flags:
        n = int(slots.columns["t_head"][index]) // (rate * 20)
        slots.up[rate][index, n] = 100 * index + n + 1
        slots.columns["up_flags"][index, n] = flag
        slots.columns["t_head"][index] += rate * 20


def test_who_hears_all_gets_them_as_they_came_and_after_the_calls(slots):
    frames, told, order = Frames(slots), {}, []
    for index in (0, 1, 2, 3):
        lane = frames.open(index, 16000)
        if index != 3:  # nobody listens there yet
            frames.listen(lane, lambda up, index=index: order.append((index, len(up.pcm))))

    def tap(rows, rate, pcm, fired):
        order.append("tap")
        for row, line, flags in zip(rows.tolist(), pcm, fired.tolist(), strict=True):
            told[row] = (rate, line[:: rate // 50].tolist(), flags)

    frames.tap = tap
    put(slots, 0, [SPEECH, 0])
    put(slots, 1, [SPEECH | ECHO, SPEECH | CONCEALED])
    put(slots, 2, [SPEECH | DROPPED])
    put(slots, 3, [SPEECH])
    frames.read()
    assert told == {
        0: (8000, [1, 2], [True, False]),
        1: (8000, [101, 102], [False, True]),
        2: (16000, [201], [False]),
    }
    assert order == [(0, 640), (1, 640), "tap", "tap"]
    frames.read()
    assert order.count("tap") == 2, "nothing has come"
