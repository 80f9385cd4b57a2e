"""The soak's judge is no use if it can't see what it is for: each thing is broken here once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.demo.voice import clip
from tests.lab.capture import PCMU, TABLES, Pcm
from tests.soak.figures import Sample, Soak, missed
from tests.soak.judge import Heard, Judge, alike, is_human
from tests.soak.phones import Call, Phones
from tests.soak.placer import Event
from tests.soak.wire import FRAME
from tests.soak.witness import Late, Witness

MS = 1_000_000


def packets(callers: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As they come: everybody's every 20 ms, one after the other; the payload says which it is."""
    number, caller = np.divmod(np.arange(callers * count), callers)
    at = number * 20 * MS + caller * MS + 1
    payloads = np.repeat(number[:, None], FRAME, axis=1).astype(np.uint8)
    return caller, at, payloads


def fed(keep: np.ndarray, batch: int, callers: int = 3, count: int = 300) -> list[Heard]:
    """What they heard of the packets to keep, which came `batch` at a time."""
    judge = Judge(callers, callers)
    caller, at, payloads = (x[keep] for x in packets(callers, count))
    for one in range(callers):
        judge.begin(one, keep_last=one == 0)
    for n in range(0, len(at), batch):
        judge.took(caller[n : n + batch], at[n : n + batch], payloads[n : n + batch])
    return [judge.end(one, int(at[-1])) for one in range(callers)]


@pytest.mark.parametrize("batch", [1, 7, 900])
def test_a_run_of_lost_packets_is_a_gap_of_that_caller(batch):
    caller, at, _ = packets(3, 300)
    lost = (caller == 1) & (at >= 2000 * MS) & (at < 2060 * MS)
    whole = fed(np.ones(len(at), bool), batch)
    assert [one.gaps for one in whole] == [[], [], []]
    found = fed(~lost, batch)
    assert [len(one.gaps) for one in found] == [0, 1, 0]
    ended, ms = found[1].gaps[0]
    assert (ended, round(ms)) == (2061 * MS + 1, 80)
    assert [one.packets for one in found] == [300, 297, 300]


def test_one_lost_packet_is_none():
    caller, at, _ = packets(3, 300)
    assert not fed(~((caller == 1) & (at // MS == 2001)), 16)[1].gaps


def test_silence_at_the_end_is_a_gap():
    judge = Judge(1, 1)
    judge.begin(0, keep_last=False)
    caller, at, payloads = packets(1, 10)
    judge.took(caller, at, payloads)
    assert [round(ms) for _, ms in judge.end(0, int(at[-1]) + 70 * MS).gaps] == [70]


def test_what_comes_of_nobody_or_after_the_end_does_not_count():
    judge = Judge(4, 1)
    judge.begin(2, keep_last=False)
    caller, at, payloads = packets(3, 10)
    judge.took(caller * 2 - 2, at, payloads)  # callers -2, 0 and 2, of whom only the last calls
    assert judge.end(2, int(at[-1])).packets == 10
    judge.took(caller, at + 10**9, payloads)
    judge.begin(2, keep_last=False)
    assert judge.end(2, 0).packets == 0


def test_first_or_last_sound_is_kept():
    last, first, _ = (one.sound.reshape(-1, FRAME)[:, 0] for one in fed(np.ones(900, bool), 11))
    assert (first == TABLES[PCMU][np.arange(250)]).all()
    assert (last == TABLES[PCMU][np.arange(50, 300) % 256]).all()


def test_sound_is_told_from_other_sound():
    one, other = clip("Where can I park?").pcm, clip("What are your opening hours?").pcm
    said = np.concatenate([one, other, one])
    heard = said[3000 : 3000 + 12_000]
    noise = np.random.default_rng(1).normal(0, 200, len(heard)).astype(np.int16)
    found = alike(heard + noise, said)
    assert found is not None
    assert found > 0.9
    wrong = alike(other[:10_000], np.concatenate([one, one[:4000]]))
    assert wrong is not None
    assert wrong < 0.5
    assert alike(np.zeros(16_000, np.int16), said) is None
    assert alike(heard[:4000], said) is None


@pytest.mark.parametrize(("silent_ms", "wrong"), [(0, False), (280, False), (900, True)])
def test_a_greeting_may_begin_a_moment_late(silent_ms, wrong):
    speech = clip("Hello, this is the book shop at the harbor. How can I help you today?").pcm
    greeting = np.concatenate([np.zeros(400, np.int16), speech, np.zeros(40_000, np.int16)])
    greeting = greeting[:40_000]
    phones = Phones(1, 1, lambda _: False, [greeting])
    heard = np.concatenate([np.zeros(8 * silent_ms, np.int16), greeting])[:40_000]
    phones._examine(one := call(1, echo=False, heard=Heard(sound=heard)))
    assert one.wrong is wrong


def test_the_human_is_known_by_two_tones():
    t = np.arange(16_000) / 8000

    def tone(*hz: int) -> Pcm:
        return np.sum([4000 * np.sin(2 * np.pi * f * t) for f in hz], axis=0).astype(np.int16)

    assert is_human(np.concatenate([np.zeros(4000, np.int16), tone(650, 1450)]))
    assert not is_human(tone(650))
    assert not is_human(clip("What are your opening hours?").pcm)


def who_was_late(media_paused: bool, blind: bool = False, still: str = "") -> str:
    """A caller missed what was due from 1.02 to 1.1 s; slots 0 to 2 are in use, 3 is not."""
    states, sent = np.array([1, 1, 1, 0], np.uint8), np.zeros(4, np.int64)
    one, other = [(0.5, 0.6), (1.02, 1.06)], [(0.9, 0.99), (1.04, 1.08)]
    spans = {"": [[], []], "one": [one, []], "both": [one, other], "in turn": [one, other[:1]]}
    witness = Witness(states, sent, lambda: spans[still])
    for ms in range(0, 1200, 5):
        if ms % 20 == 0 and not (media_paused and 1020 <= ms < 1100):
            sent[:3] += 1
        if not (blind and 1020 <= ms < 1100):
            witness.look(ms * MS)
    return witness.blame(1001 * MS, 1101 * MS).by


def test_who_was_late_is_told_by_who_else_was():
    assert who_was_late(media_paused=True) == "media"
    assert who_was_late(media_paused=False) == "asterisk"
    assert who_was_late(media_paused=False, blind=True) == "callers"
    assert who_was_late(media_paused=True, blind=True) == "callers"
    assert who_was_late(media_paused=True, blind=True, still="both") == "machine"
    assert who_was_late(media_paused=True, still="one") == "processor"
    assert who_was_late(media_paused=True, still="in turn") == "processor"


def test_one_call_that_media_forgot_is_its_fault():
    states, sent = np.ones(4, np.uint8), np.zeros(4, np.int64)
    witness = Witness(states, sent)
    for ms in range(0, 1200, 5):
        if ms % 20 == 0:
            sent += [1, 1, ms < 1020 or ms >= 1100, 1]
        witness.look(ms * MS)
    assert witness.blame(1001 * MS, 1101 * MS).by == "media"
    assert witness.blame(101 * MS, 201 * MS).by == "asterisk"


def call(began_s: float, **changes: object) -> Call:
    begun = Event("try", 1, int(began_s * 1000))
    good = {"setup_ms": 40, "up_ns": int(began_s * 1e9), "alike": 0.98, "ended_ns": int(1e12)}
    good["heard"] = Heard(packets=500, first_ns=int(began_s * 1e9) + 1)
    return Call(1, changes.pop("echo", True), begun, 20.0, **{**good, **changes})  # type: ignore[arg-type]


def soak(*more: Call, up: int = 101, growth: float = 1.0, left: int = 0) -> Soak:
    memory = [(int(s * 1e9), {"media": 100, "a": 400 + growth * (s > 50)}) for s in range(100)]
    calls = [*(call(s) for s in range(1, 90)), call(110, shed=True, alike=0.1), *more]
    found = Soak(0, 100.0, 110, full_ns=int(1e10), shed_ns=int(1e11), memory=memory, calls=calls)
    found.samples = [Sample(s, up if s >= 10 else s) for s in range(100)]
    found.left_over = {"channels": left, "slots": 0}
    found.more = {"judge_dropped": 0, "died": []}
    found.stages = [{"answer": 4.0}, {"agent": 1.0, "answer": 6.0}]
    return found


def test_the_summary_names_stages_processes_and_who_was_late():
    late = call(50, heard=gap(52))
    found = soak(late, growth=3.0)
    found.late = {late.heard.gaps[0]: Late("machine", {"machine": 40.0})}
    told = found.summary()
    assert told["late"] == {"machine": 1}
    assert told["stages_ms"]["answer"]["max"] == 6.0  # type: ignore[index]
    assert told["rss_by_process"] == {"media": [100.0, 100.0], "a": [400.0, 403.0]}
    assert found.odd()[-1]["late"] == [("machine", {"machine": 40.0})]
    assert found.odd()[-1]["gaps_at_s"] == [52.0]
    assert missed(told) == ["audio_gaps is 1, not 0"]


def gap(at_s: float) -> Heard:
    return Heard(packets=5, first_ns=1, gaps=[(int(at_s * 1e9), 80.0)])


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (soak(), ""),
        (soak(call(50, setup_ms=None)), "failed_setups"),
        (soak(call(50, lost=True)), "lost"),
        (soak(call(50, setup_ms=400), call(51, setup_ms=400)), "setup_ms p99"),
        (soak(call(50, heard=gap(52))), "audio_gaps"),
        (soak(call(50, heard=Heard())), "unheard"),
        (soak(call(50, alike=0.3)), "wrong_audio"),
        (soak(call(50, alike=0.1, shed=True)), "shed_early"),
        (soak(up=99), "calls is 99"),
        (soak(growth=11.0), "rss_growth_mib"),
        (soak(left=1), "leftovers"),
        (soak(call(110, setup_ms=None)), "shed_ok"),
        (soak(call(50, heard=gap(103))), "shed_ok"),
        (soak(call(111, alike=0.2)), "shed_ok"),
    ],
)
def test_each_goal_can_be_missed(found, what):
    lines = missed(found.summary())
    assert len(lines) == bool(what), lines
    assert all(line.startswith(what) for line in lines)


def test_without_one_turned_away_the_cap_was_not_tried():
    found = soak()
    found.calls = [one for one in found.calls if not one.shed]
    assert [line.split()[0] for line in missed(found.summary())] == ["shed_ok"]
