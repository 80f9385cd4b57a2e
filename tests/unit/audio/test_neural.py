import numpy as np
import pytest

from bridge.audio import neural
from bridge.audio.neural import CHUNK, CONTEXT, NeuralBank
from tests.demo.voice import clip


class Echo:
    """Tells how it was called: the probability is the chunk's mean, the state counts chunks."""

    def run(self, names, feed):
        self.feed = feed
        return feed["input"][:, -CHUNK:].mean(axis=1, keepdims=True), feed["state"] + 1


def test_each_lane_has_its_own_state_and_context():
    network = Echo()
    bank = NeuralBank(network, 3)
    lanes = np.array([2, 0])
    pcm = np.stack([np.full(CHUNK, 16384, np.int16), np.full(CHUNK, -8192, np.int16)])
    assert bank.judge(lanes, pcm).tolist() == [0.5, -0.25]
    assert not network.feed["input"][:, :CONTEXT].any()
    bank.judge(np.array([0, 1]), pcm)
    assert network.feed["input"][0, 0] == -0.25  # what came before it
    assert network.feed["input"][1, 0] == 0
    assert network.feed["state"][0].max(axis=1).tolist() == [1, 0]
    bank.reset(0)
    bank.judge(np.array([0]), pcm[:1])
    assert not network.feed["input"][:, :CONTEXT].any()
    assert not network.feed["state"].any()


def test_a_larger_bank_keeps_what_the_lanes_have_heard():
    network = Echo()
    small, large = NeuralBank(network, 1), NeuralBank(network, 2)
    small.judge(np.array([0]), np.full((1, CHUNK), 16384, np.int16))
    large.keep(small)
    large.judge(np.array([0, 1]), np.zeros((2, CHUNK), np.int16))
    assert network.feed["input"][:, 0].tolist() == [0.5, 0]
    assert network.feed["state"][0].max(axis=1).tolist() == [1, 0]


def test_without_the_package_it_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(neural, "_PACKAGE", "no_such_package")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        neural.load()


def test_the_real_one_tells_a_voice_from_noise():
    voice = clip("What are your opening hours on Saturday?").pcm
    voice = voice[: len(voice) // CHUNK * CHUNK]
    random = np.random.default_rng(1)
    noise = (random.standard_normal(len(voice)) * 1500).astype(np.int16)
    bank = NeuralBank(neural.load(), 2)
    chunks = np.stack([voice, noise]).reshape(2, -1, CHUNK)
    lanes = np.arange(2)
    likely = np.stack([bank.judge(lanes, chunks[:, n]) for n in range(chunks.shape[1])])
    assert (likely[:, 0] > 0.5).mean() > 0.8
    assert likely[:, 1].max() < 0.3
