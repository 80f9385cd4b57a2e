"""What a worker asks of its slot."""

import numpy as np
import pytest

from bridge.audio.resample import ResamplerBank
from bridge.media.frames import Lane
from bridge.media.handle import DELAYS, ONSET, Slot
from bridge.media.player import Player
from bridge.media.slots import SlotMap

RNG = np.random.default_rng(5)
FRAMES = 40


def noise(samples, rms=3000):
    return np.rint(RNG.normal(0, rms, samples)).astype(np.int16)


def slot_that_heard(folder, up, down, heard, played):
    """A slot of which the caller's line brought `heard`, while `played` went out."""
    slots = SlotMap.create(folder / "slots", 2, 2000)
    c = slots.columns
    c["t_rate"][1], c["down_rate"][1] = up, down
    slots.up[up][1][:FRAMES] = heard.reshape(FRAMES, -1)
    slots.play[down][1][0, :FRAMES] = played.reshape(FRAMES, -1)
    c["t_head"][1], c["play_read"][1, 0] = FRAMES * 20 * up, FRAMES
    return Slot("call", 1, slots, None, Lane(1, up, 8000), Player(slots, 1, 0, 8000), None), c


@pytest.mark.parametrize(("up", "down"), [(8, 8), (16, 16), (24, 16), (16, 8), (24, 8)])
def test_an_echo_is_known_whatever_the_two_rates_are(tmp_path, up, down):
    played = noise(FRAMES * 20 * down)
    heard = np.roll(played, 100 * down) // 4
    if up != down:
        heard = ResamplerBank(down * 1000, up * 1000, 1).process(np.zeros(1, np.intp), heard[None])
    slot, c = slot_that_heard(tmp_path, up, down, heard, played)
    assert slot.is_echo()
    assert -14 < c["reflex_echo_db"][1] < -10
    assert FRAMES > ONSET + DELAYS


@pytest.mark.parametrize(("up", "down"), [(8, 8), (24, 16)])
def test_somebody_else_is_no_echo(tmp_path, up, down):
    heard, played = noise(FRAMES * 20 * up), noise(FRAMES * 20 * down)
    slot, _ = slot_that_heard(tmp_path, up, down, heard, played)
    assert not slot.is_echo()
