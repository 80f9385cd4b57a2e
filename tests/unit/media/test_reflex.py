"""The agent falls silent the moment the caller makes himself heard, and not at its own echo."""

import numpy as np
import pytest

from bridge.audio.columns import heap
from bridge.audio.speech import SPEC as SPEECH_SPEC
from bridge.audio.speech import SpeechBank
from bridge.media.reflex import HELD_MS, SPEC, ReflexBank

RNG = np.random.default_rng(5)
CALL = np.array([0])


def voice(frames, rms=3000, syllable=10):
    """Speech-like noise: syllables of 200 ms that rise and fall, with dips between them."""
    envelope = np.sin(np.linspace(0, np.pi, syllable * 160)) ** 2
    shape = np.tile(envelope, -(-frames // syllable))[: frames * 160]
    return (RNG.normal(0, rms * 1.6, frames * 160) * shape).clip(-32768, 32767).reshape(-1, 160)


class Line:
    """One call: frames played and frames heard, both 20 ms, in lockstep."""

    def __init__(self, delay_ms=0, echo_db=None):
        self.c = heap({**SPEC, **SPEECH_SPEC}, 1)
        self.reflex, self.speech = ReflexBank(self.c), SpeechBank(self.c)
        self.delay, self.gain = delay_ms * 8, 0 if echo_db is None else 10 ** (echo_db / 20)
        self.past = np.zeros(8000)
        self.tripped_at, self.flags = [], []
        self.n = 0
        self.c["reflex"][0] = 2
        for _ in range(20):
            self.frame()

    def frame(self, agent=None, caller=None):
        pcm = np.zeros(160) if agent is None or self.reflex.holds(CALL)[0] else agent
        if pcm.any():
            self.reflex.played(CALL, pcm.astype(np.int16)[None])
        self.past = np.concatenate((self.past[160:], pcm))
        end = len(self.past) - self.delay
        heard = self.past[end - 160 : end] * self.gain + RNG.normal(0, 10, 160)
        if caller is not None:
            heard = heard + caller
        heard = heard.clip(-32768, 32767).astype(np.int16)[None]
        before = int(self.c["reflex_count"][0])
        speech, level = self.speech.judge(CALL, heard)
        echo = self.reflex.heard(CALL, level, speech)
        if self.n % 4 == 0:  # as often as media does
            self.speech.learn()
            self.reflex.learn()
        self.flags.append(bool(speech[0] and not echo[0]))
        if int(self.c["reflex_count"][0]) != before:
            self.tripped_at.append(self.n)
        self.n += 1

    def run(self, agent, caller=()):
        begin = self.n
        for i, frame in enumerate(agent):
            self.frame(frame, caller[i] if i < len(caller) else None)
        return [n - begin for n in self.tripped_at if n >= begin]


def test_two_frames_of_speech_trip_it_once():
    line = Line()
    line.run(voice(100))
    assert line.tripped_at == []
    speech = np.concatenate((np.zeros((10, 160)), voice(40, syllable=40)))
    [at] = line.run(voice(50), speech)
    assert 11 <= at <= 14


def test_a_click_does_not_trip_it():
    line = Line()
    click = np.zeros((50, 160))
    click[10] = 5000
    assert line.run(voice(50), click) == []


def test_a_trip_halts_until_it_is_dealt_with_or_time_is_over():
    line = Line()
    line.run(voice(20), voice(20))
    assert line.tripped_at
    held = [bool(line.reflex.holds(CALL)[0]) for _ in range(2 * HELD_MS // 20)]
    assert 0 < sum(held) <= HELD_MS // 20, "nobody dealt with it: it lets go by itself"
    assert not held[-1]
    line.c["reflex_done"][0] = line.c["reflex_count"][0]
    line.run(voice(20))
    line.run(voice(10), voice(10))
    assert line.reflex.holds(CALL)[0], "and can be tripped again"
    line.c["reflex_done"][0] = line.c["reflex_count"][0]
    assert not line.reflex.holds(CALL)[0]


def test_it_is_tripped_by_the_edge_of_speech_not_by_its_lasting():
    line = Line()
    line.c["reflex"][0] = 0
    line.run(np.zeros((60, 160)), RNG.normal(0, 2000, (60, 160)))
    line.c["reflex"][0] = 2
    assert line.run(voice(40), RNG.normal(0, 2000, (40, 160))) == []


def test_unarmed_it_only_flags():
    line = Line()
    line.c["reflex"][0] = 0
    assert line.run(voice(50), voice(50)) == []
    assert any(line.flags[-50:])


@pytest.mark.parametrize("delay_ms", [20, 45, 90, 150, 250])
def test_own_echo_trips_nothing(delay_ms):
    line = Line(delay_ms, echo_db=-15)
    assert line.run(voice(400)) == []
    assert line.run(np.zeros((30, 160))) == [], "nor does its tail"
    assert not any(line.flags)


@pytest.mark.parametrize("delay_ms", [20, 90, 250])
def test_a_caller_is_heard_over_the_echo(delay_ms):
    line = Line(delay_ms, echo_db=-15)
    line.run(voice(150))
    speech = np.concatenate((np.zeros((10, 160)), voice(40, rms=3000, syllable=40)))
    [at, *_] = line.run(voice(50), speech)
    assert 11 <= at <= 19, "his voice rises for 400 ms"


def test_without_an_echo_a_soft_caller_is_heard():
    line = Line()
    line.run(voice(100))
    speech = np.concatenate((np.zeros((10, 160)), RNG.normal(0, 400, (40, 160))))
    [at] = line.run(voice(50), speech)
    assert 11 <= at <= 12


def test_an_echo_that_a_worker_has_measured_is_believed():
    line = Line(60, echo_db=-15)
    line.c["echo_bound_db"][0] = -60
    assert line.run(voice(100))
    line.c["reflex_done"][0] = line.c["reflex_count"][0]
    line.c["reflex_echo_db"][0] = -15
    assert line.run(voice(200)) == []
