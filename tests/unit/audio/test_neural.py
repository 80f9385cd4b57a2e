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


def test_each_lane_has_its_own_state():
    network = Echo()
    bank = NeuralBank(network, 3)
    pcm = np.zeros((2, CONTEXT + CHUNK), np.int16)
    pcm[:, CONTEXT:] = [[16384], [-8192]]
    assert bank.judge(np.array([2, 0]), pcm).tolist() == [0.5, -0.25]
    bank.judge(np.array([0, 1]), pcm)
    assert network.feed["state"][0].max(axis=1).tolist() == [1, 0]
    bank.reset(np.array([0, 2]))
    bank.judge(np.array([0, 1, 2]), np.zeros((3, CONTEXT + CHUNK), np.int16))
    assert network.feed["state"][0].max(axis=1).tolist() == [0, 1, 0]


def test_a_larger_bank_keeps_what_the_lanes_have_heard():
    network = Echo()
    small, large = NeuralBank(network, 1), NeuralBank(network, 2)
    small.judge(np.array([0]), np.zeros((1, CONTEXT + CHUNK), np.int16))
    large.keep(small)
    large.judge(np.array([0, 1]), np.zeros((2, CONTEXT + CHUNK), np.int16))
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
    lines = np.pad(np.stack([voice, noise]), ((0, 0), (CONTEXT, 0)))
    chunks = [lines[:, at : at + CONTEXT + CHUNK] for at in range(0, len(voice), CHUNK)]
    likely = np.stack([bank.judge(np.arange(2), chunk) for chunk in chunks])
    assert (likely[:, 0] > 0.5).mean() > 0.8
    assert likely[:, 1].max() < 0.3
