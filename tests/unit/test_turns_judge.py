"""The judge of the turns' bench: fed with doctored captures, it has to see what was doctored."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.bench.corpus import encode
from tests.bench.turns import measure
from tests.bench.turns.calls import Held
from tests.bench.turns.corpus import Clip
from tests.bench.turns.follow import Reference, follow
from tests.bench.turns.phones import Said
from tests.lab.capture import PCMU, RATE, Pcm, RtpPacket, lay_out

ZERO = 1000.0
"""Epoch second of the calls' first packet."""


def speech(seed: int, seconds: float) -> Pcm:
    """Something that is as uneven as speech: noise in syllables, of another pitch each."""
    random = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * RATE:
        n = int(random.integers(1000, 1800))
        t = np.arange(n) / RATE
        wave = sum(np.sin(2 * np.pi * random.uniform(100, 3000) * t) for _ in range(6))
        parts += [4000 * wave * np.hanning(n) ** 0.3 / 3, np.zeros(int(random.integers(80, 300)))]
    return np.concatenate(parts)[: int(seconds * RATE)].astype(np.int16)


def silence(ms: float) -> Pcm:
    return np.zeros(round(ms * 8), np.int16)


TALK = speech(1, 12.0)
TEXT = Reference(np.concatenate([silence(300), TALK, silence(300)]))
PAUSE = 3000 * 8
"""Where in the talk the caller is heard."""


def quantised(pcm: Pcm) -> Pcm:
    """With PCMU's grain, which what follows a pause has as well."""
    return pcm + (np.arange(len(pcm)) % 3 - 1).astype(np.int16)


# ---- following a text ----------------------------------------------------------------------------


def stretches(*parts: Pcm) -> list[tuple[str, float, float]]:
    found = follow(quantised(np.concatenate([silence(500), *parts, silence(500)])), TEXT)
    return [(s.how, s.lost_ms, s.repeated_ms) for s in found]


def test_an_undisturbed_talk_is_one_stretch() -> None:
    [(how, lost, repeated)] = stretches(TALK)
    assert (how, lost, repeated) == ("start", 0, 0)


def test_a_clean_pause_loses_and_repeats_nothing() -> None:
    found = stretches(TALK[:PAUSE], silence(700), TALK[PAUSE:])
    assert [how for how, *_ in found] == ["start", "on"]
    assert max(found[1][1:]) <= 20


@pytest.mark.parametrize("ms", [100, 180, 400])
def test_a_lost_syllable_is_seen(ms: int) -> None:
    found = stretches(TALK[:PAUSE], silence(700), TALK[PAUSE + ms * 8 :])
    assert found[1][0] == "on"
    assert found[1][1] > measure.CLEAN_MS


@pytest.mark.parametrize("ms", [100, 180, 400])
def test_a_repeated_syllable_is_seen(ms: int) -> None:
    found = stretches(TALK[:PAUSE], silence(700), TALK[PAUSE - ms * 8 :])
    assert found[1][0] == "on"
    assert found[1][2] > measure.CLEAN_MS


def test_something_lost_without_a_pause_is_seen() -> None:
    found = stretches(TALK[:PAUSE], TALK[PAUSE + 2400 :])
    assert found[1][0] == "on"
    assert found[1][1] > measure.CLEAN_MS


@pytest.mark.parametrize("ms", [80, 120, 250])
def test_an_agent_stopped_again_at_once_went_on(ms: int) -> None:
    on = PAUSE + ms * 8
    found = stretches(TALK[:PAUSE], silence(400), TALK[PAUSE:on], silence(400), TALK[on:])
    assert [how for how, *_ in found] == ["start", "on", "on"]
    assert max(max(some[1:]) for some in found) <= 20


def test_a_talk_that_begins_anew_does_not_go_on() -> None:
    assert [how for how, *_ in stretches(TALK[: 6 * RATE], silence(600), TALK)] == [
        "start",
        "start",
    ]


def test_another_text_is_another() -> None:
    found = stretches(TALK[: 6 * RATE], silence(600), speech(2, 3.0))
    assert {how for how, *_ in found[1:]} == {"other"}


# ---- calls ---------------------------------------------------------------------------------------

ONSET_MS = 3000.0
"""When the caller's clip begins, after the call's first packet; the agent talks from 0 on."""


def clip(kind: str, ms: float = 600.0, **more: Any) -> Clip:
    spans = more.pop("speech", ((0.0, ms),))
    return Clip(
        *("one", "held_out", kind, "short", "v", "t", -20.0),  # type: ignore[arg-type]
        length_ms=ms,
        speech=spans,
        **more,
    )


def call(
    agent: Pcm, said: Clip, at_ms: float = ONSET_MS, dropped_ms: float = 0.0, heard_ms: float = 0.0
) -> Held:
    """A call in which the phone received `agent` and the caller gave a clip."""
    packets = []
    for sent, pcm in ((False, agent), (True, np.zeros_like(agent))):
        whole = pcm[: len(pcm) // 160 * 160].reshape(-1, 160)
        for n, frame in enumerate(whole):
            at = ZERO + 0.02 * (n + sent)  # a frame leaves when it has been spoken
            packets.append(
                RtpPacket(at, 1, sent, PCMU, False, n, 160 * n, 7, encode(frame).tobytes())
            )
    end = max(p.at for p in packets)
    phone: Any = SimpleNamespace(packets=packets, said=[Said(said, round(at_ms * 8), 0)])
    record = {"latency": json.dumps([{"at_s": {"dropped": ZERO + dropped_ms / 1000}}])}
    lines = [{"role": "agent", "heard_ms": str(heard_ms), "at": str(ZERO + 4.0)}]
    return Held(
        "talker",
        phone,
        *(lay_out(packets, sent=sent, start=ZERO, end=end) for sent in (True, False)),
        record=record,
        lines=lines if heard_ms else [],
    )


def at(ms: float) -> int:
    return round(ms * 8)


@pytest.mark.parametrize("after", [80, 300])
def test_when_the_agent_falls_silent_is_seen(after: int) -> None:
    stop = ONSET_MS + after
    held = call(
        np.concatenate([TALK[: at(stop)], silence(6000)]), clip("interruption"), dropped_ms=3350
    )
    [judged] = measure.interruptions(held, TEXT)
    assert judged.wrong == ""
    assert judged.paused_ms == pytest.approx(after, abs=45)  # a word may end just before
    assert judged.gone_ms == pytest.approx(max(350, after), abs=2)


def test_an_agent_that_talks_on_has_missed_it() -> None:
    [judged] = measure.interruptions(call(TALK, clip("interruption")), TEXT)
    assert judged.wrong == "missed"


def test_an_agent_that_goes_on_has_missed_it() -> None:
    agent = np.concatenate([TALK[: at(3080)], silence(800), TALK[at(3080) :]])
    [judged] = measure.interruptions(call(agent, clip("interruption")), TEXT)
    assert judged.wrong == "missed"


def test_a_new_answer_is_not_going_on() -> None:
    agent = np.concatenate([TALK[: at(3080)], silence(1500), TALK])
    [judged] = measure.interruptions(call(agent, clip("interruption")), TEXT)
    assert judged.wrong == ""


@pytest.mark.parametrize(("told", "wrong"), [(3080, 0), (3380, 300), (2780, 300)])
def test_an_account_that_is_wrong_is_seen(told: int, wrong: int) -> None:
    agent = np.concatenate([TALK[: at(3080)], silence(6000)])
    [judged] = measure.interruptions(call(agent, clip("interruption"), heard_ms=told), TEXT)
    assert judged.heard_error_ms is not None
    assert judged.heard_error_ms == pytest.approx(wrong, abs=60 if wrong else 15)


def test_the_account_of_the_reply_before_is_not_of_this_one() -> None:
    agent = np.concatenate([TALK[: at(1500)], silence(800), TALK[: at(3000)], silence(5000)])
    held = call(agent, clip("interruption"), at_ms=5250, heard_ms=3000)
    held.lines[0]["at"] = str(ZERO + 5.5)
    before = {"role": "agent", "heard_ms": "1500", "at": str(ZERO + 2.2)}
    held.lines.insert(0, before)
    [judged] = measure.interruptions(held, TEXT)
    assert judged.heard_error_ms is not None
    assert judged.heard_error_ms <= 20


def false_one(*agent: Pcm) -> measure.Judged:
    [judged] = measure.false_ones(call(np.concatenate(agent), clip("false")), TEXT)
    return judged


def test_a_cough_that_nobody_minds_is_fine() -> None:
    judged = false_one(TALK)
    assert (judged.wrong, judged.resumed) == ("", None)


def test_going_on_cleanly_is_fine() -> None:
    judged = false_one(TALK[: at(3080)], silence(700), TALK[at(3080) :])
    assert (judged.wrong, judged.resumed) == ("", True)


@pytest.mark.parametrize("from_ms", [2880, 3280])
def test_going_on_elsewhere_is_not_clean(from_ms: int) -> None:
    judged = false_one(TALK[: at(3080)], silence(700), TALK[at(from_ms) :])
    assert (judged.wrong, judged.resumed) == ("", False)


def test_going_on_after_ages_is_wrong() -> None:
    agent = [TALK[: at(3080)], silence(3600), TALK[at(3080) :]]
    assert false_one(*agent).wrong == "resumed late"


def test_an_agent_that_stops_for_good_was_cut() -> None:
    assert false_one(TALK[: at(3080)], silence(6000)).wrong == "cut"


def test_an_agent_that_answers_a_cough_was_cut() -> None:
    assert false_one(TALK[: at(3080)], silence(900), TALK).wrong == "cut"


def test_a_silent_agent_tells_nothing() -> None:
    assert false_one(TALK[: at(2000)], silence(6000)).void


# ---- questions and sentences ---------------------------------------------------------------------


@pytest.mark.parametrize("delay", [250, 900])
def test_voice_to_voice_is_from_last_to_first_sample(delay: int) -> None:
    agent = np.concatenate([silence(ONSET_MS + 600 + delay), TALK])
    [judged] = measure.questions(call(agent, clip("question")))
    assert judged.voice_to_voice_ms == pytest.approx(delay, abs=15)


def test_no_answer_is_no_figure() -> None:
    [judged] = measure.questions(call(silence(8000), clip("question")))
    assert judged.wrong == "no answer"


@pytest.mark.parametrize(("answer_ms", "wrong"), [(900, "ended inside"), (1600, "")])
def test_an_answer_inside_a_sentence_is_seen(answer_ms: int, wrong: str) -> None:
    said = clip("paused", 1400.0, speech=((0.0, 500.0), (1000.0, 1400.0)))
    agent = np.concatenate([silence(ONSET_MS + answer_ms), TALK])
    [judged] = measure.sentences(call(agent, said))
    assert judged.wrong == wrong
