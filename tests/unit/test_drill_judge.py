"""The drills' judge: what is made of a caller's packets, and of a transcript."""

import numpy as np
import pytest

from tests.drill.judge import Call, same_words
from tests.drill.still import common
from tests.drill.tally import Tally
from tests.lab.capture import PCMU as ULAW
from tests.lab.capture import TABLES, RtpPacket

SILENCE = b"\xff" * 160


def packet(at, payload=SILENCE):
    return RtpPacket(at, 4000, False, ULAW, False, 0, 0, 1, payload)


def tone(hz, packets):
    wave = 8000 * np.sin(2 * np.pi * hz * np.arange(160 * packets) / 8000)
    octets = np.abs(wave[:, None] - TABLES[ULAW].astype(float)).argmin(axis=1).astype(np.uint8)
    return [octets[n : n + 160].tobytes() for n in range(0, len(octets), 160)]


def test_the_longest_gap_and_when_it_began():
    call = Call([packet(100 + at) for at in (0.0, 0.02, 0.04, 0.11, 0.13)])
    assert call.gap(100.0, 100.14) == pytest.approx((70, 100.04))
    assert call.gap(100.0, 100.4) == pytest.approx((270, 100.13)), "the end is missing"
    assert call.gap(99.9, 100.14) == pytest.approx((100, 99.9)), "so is the beginning"
    assert call.gap(100.05, 100.1) == pytest.approx((50, 100.05)), "nothing came at all"


def test_a_few_rounds_in_which_the_machine_stood_still_are_void():
    both = [(100.0, 100.02), (200.0, 200.01)]
    tally = Tally(still=lambda: [[*both, (300.0, 300.5)], both])
    assert not tally.void(99.0, 101.0), "nobody would hold it again"
    tally.may_be_void = 2
    assert not tally.void(190.0, 210.0), "not for long enough"
    assert not tally.void(101.0, 102.0)
    assert not tally.void(299.0, 301.0), "one processor is not the machine"
    assert tally.one_still_ms(300.4, 301.0) == pytest.approx(500)
    assert [tally.void(99.0, 101.0) for _ in range(3)] == [True, True, False]
    assert tally.summary()["void_rounds"] == 2


def test_it_stood_still_where_all_its_processors_did():
    first, second = [(1.0, 1.05), (2.0, 2.01)], [(0.9, 0.95), (1.02, 1.06), (3.0, 3.1)]
    assert common([first, second]) == [(1.02, 1.05)]
    assert common([first, second, []]) == []
    assert common([first]) == first


def test_a_sentence_is_a_tone_and_two_tones_at_once_are_two_voices():
    one = tone(300, 30)
    call = Call([packet(n / 50, sound) for n, sound in enumerate(one)])
    assert call.words() == [("bab", 3.0)]
    assert not call.two_voices()
    wave = TABLES[ULAW][np.frombuffer(b"".join(one), np.uint8)].astype(float)
    other = TABLES[ULAW][np.frombuffer(b"".join(tone(1500, 30)), np.uint8)].astype(float)
    mixed = np.abs((wave + other)[:, None] - TABLES[ULAW].astype(float)).argmin(axis=1)
    sounds = mixed.astype(np.uint8).reshape(-1, 160)
    assert Call([packet(n / 50, s.tobytes()) for n, s in enumerate(sounds)]).two_voices()


def test_how_old_what_is_noted_of_a_sentence_is():
    call = Call([packet(100 + n / 50, sound) for n, sound in enumerate(tone(300, 100))])
    assert call.age_ms(300, 600, 101.0, 99.0) == pytest.approx(400)
    assert call.age_ms(300, 1200, 101.0, 99.0) == 0, "the sound was on its way"
    assert call.age_ms(300, 600, 102.5, 99.0) is None, "it is over"
    assert call.age_ms(400, 600, 101.0, 99.0) is None, "it was never said"


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ([("bab", 1.0)] * 20, True),
        ([("bab", 1.0)] * 18, True),  # in pieces, each in whole words
        ([("bab", 1.0)] * 16, False),
        ([("bab", 1.0)] * 24, False),
        ([("bab", 1.0)] * 20 + [("dad", 1.0)] * 3, False),  # not heard at all
        ([], False),
    ],
)
def test_a_transcript_tells_what_was_heard(written, same):
    assert same_words([("bab", 20.0)], written) is same
