"""What a worker's connection to media does without one: the audio of all its slots at once."""

import numpy as np

from bridge.media.client import MediaClient
from bridge.media.slots import SlotMap


async def test_how_long_audio_that_flows_lasts_is_told_at_the_rate_of_each_engine(tmp_path):
    slots = SlotMap.create(tmp_path / "slots", 2, 1000)
    slots.columns["t_rate"][:] = 8
    client = MediaClient(None, -1, slots)
    frames, flows, straight, alone = client._frames, [], [], []

    def take(names, at_ms, pcm):
        straight.extend(names)
        return ()

    def hears(index):
        return lambda at_ms, pcm: alone.append(index)

    for index, rate in enumerate((8000, 16000)):
        lane = frames.open(index, rate)
        player = client._player(lane, 0)
        player.play(1, np.zeros(rate // 50, np.int16))
        player.flow.open(1, rate)
        flows.append(player.flow)
        frames.listen(lane, lambda up: None)
        frames.rest(lane, hears(index), 1000, None, (take, index), 0, 1000.0)
    assert all(flow.takes(1, 320) for flow in flows)
    client._pour(flows, np.ones((2, 320), np.int16))
    slots.columns["t_head"][:] = 2 * 160  # 40 ms of the caller's
    frames.read()
    assert (straight, alone) == ([0], [1])
