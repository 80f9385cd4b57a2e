"""The judge, on calls made of tones whose every edge is known."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from bridge.filler import soft_sound
from tests.demo.judge import Mark, Takeover, Verdict, judge
from tests.demo.script import Script, Turn
from tests.lab.capture import PCMU, RATE, TABLES, Digit, Pcm, RtpPacket, lay_out
from tests.lab.tones import HUMAN_FRAMES, HUMAN_HZ, LOST_FRAMES, find_tones

START = 5000.0
WORDS = {300: "open nine to six", 400: "we sell gift cards", 500: "one moment please"}
EXACT_MS = 3.0


def hum(hz: float, ms: float) -> Pcm:
    t = np.arange(round(ms * 8)) / RATE
    return (8000 * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def hear(pcm: Pcm) -> Iterator[str]:
    """A speech-to-text for a language of hums, which mishears one word at first."""
    if not len(pcm):
        return
    spectrum = np.abs(np.fft.rfft(pcm.astype(float), RATE))
    text = WORDS.get(int(np.argmax(spectrum)), "?")
    yield text.replace("nine", "fine")
    yield text


@dataclass
class Call:
    """Both directions, to be filled with hums at given ms."""

    seconds: float = 10.0
    tracks: dict[bool, Pcm] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    digits: list[Digit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracks = {sent: np.zeros(int(self.seconds * RATE), np.int16) for sent in (True, False)}

    def caller(self, at: float, ms: float, turn: Turn) -> None:
        self._put(True, at, hum(250, ms))
        self.marks.append(Mark(turn, START + at / 1000))

    def agent(self, at: float, ms: float, hz: float = 300) -> None:
        self._put(False, at, hum(hz, ms))

    def human(self, at: float) -> None:
        self._put(False, at, (hum(650, 2000) + hum(1450, 2000)) // 2)

    def _put(self, sent: bool, at: float, sound: Pcm) -> None:
        begin = round(at * 8)
        self.tracks[sent][begin : begin + len(sound)] = sound

    def judge(
        self,
        script: Script | None = None,
        late: dict[int, float] | None = None,
        killed_ms: float | None = None,
    ) -> Verdict:
        """late: received packet number -> how many seconds late it comes"""
        turns = tuple(mark.turn for mark in self.marks)
        tracks = []
        for sent in (True, False):
            packets = []
            for n, frame in enumerate(self.tracks[sent].reshape(-1, 160)):
                delay = 0.02 if sent else (late or {}).get(n, 0.0)
                packets.append(
                    RtpPacket(
                        *(START + 0.02 * n + delay, 1, sent, PCMU, False, n, 160 * n, 1),
                        encode(frame),
                    )
                )
            tracks.append(lay_out(packets, sent=sent, start=START, end=START + self.seconds))
        return judge(
            *(script or Script("1", turns), self.marks, *tracks, self.digits, hear),
            killed_at=None if killed_ms is None else START + killed_ms / 1000,
        )


def encode(frame: Pcm) -> bytes:
    order = np.argsort(TABLES[PCMU], kind="stable")
    values = TABLES[PCMU][order].astype(int)
    place = np.clip(np.searchsorted(values, frame), 1, 255)
    nearer = place - (frame - values[place - 1] < values[place] - frame)
    return order[nearer].astype(np.uint8).tobytes()


HOURS = Turn(say="hours?", expect=("9", "6"))
CARDS = Turn(say="cards?", expect=("gift cards",), interrupt_after_ms=500)
NUMBER = Turn(dtmf="47", expect=("gift cards",))
HUMAN = Turn(say="human!", expect=("moment",), expect_extension="200")


def test_voice_to_voice_is_exact() -> None:
    call = Call()
    call.agent(300, 1000)
    call.caller(2001.5, 1000, HOURS)
    call.agent(3700.25, 1500)
    [turn] = call.judge().turns
    assert turn.right
    assert turn.heard == "open fine to six"  # and at a second hearing nine
    assert turn.voice_to_voice_ms == pytest.approx(698.75, abs=EXACT_MS)
    assert turn.barge_in_stop_ms is None


def test_a_late_packet_counts_from_when_it_came() -> None:
    call = Call()
    call.caller(2000, 1000, HOURS)
    call.agent(3600, 1500)
    late = {180: 0.06, 181: 0.04, 182: 0.02}  # the first of the answer, then a burst
    [turn] = call.judge(late=late).turns
    assert turn.voice_to_voice_ms == pytest.approx(660, abs=EXACT_MS)


def test_greeting() -> None:
    call = Call()
    call.agent(300, 1000, hz=400)
    call.caller(2000, 500, HOURS)
    call.agent(3000, 500)
    verdict = call.judge(Script("1", (HOURS,), greeting=("gift cards", "sunday")))
    assert verdict.greeting == "we sell gift cards"
    assert verdict.greeting_missing == ("sunday",)
    assert verdict.greeting_ms == pytest.approx(300, abs=EXACT_MS)


def test_a_wrong_answer_is_wrong() -> None:
    call = Call()
    call.caller(1000, 500, HOURS)
    call.agent(2000, 500, hz=400)
    verdict = call.judge()
    assert verdict.understood == 0
    assert verdict.turns[0].missing == ("9", "6")


def test_no_answer_is_wrong_and_has_no_latency() -> None:
    call = Call()
    call.agent(100, 500)
    call.caller(1000, 500, HOURS)
    verdict = call.judge()
    assert verdict.understood == 0
    assert verdict.voice_to_voice() is None
    assert verdict.turns[0].heard == ""


def test_a_turn_that_never_came_is_wrong() -> None:
    call = Call()
    call.caller(1000, 500, HOURS)
    call.agent(2000, 500)
    verdict = call.judge(Script("1", (HOURS, NUMBER)))
    assert [turn.right for turn in verdict.turns] == [True, False]


def test_an_answer_before_the_end_is_negative() -> None:
    call = Call()
    call.caller(1000, 1500, HOURS)
    call.agent(2200, 800)
    [turn] = call.judge().turns
    assert turn.voice_to_voice_ms == pytest.approx(-300, abs=EXACT_MS)


def interrupted(stop_ms: float) -> Call:
    call = Call()
    call.caller(500, 500, HOURS)
    call.agent(1500, 1500 + stop_ms)
    call.caller(3000, 1200, CARDS)
    call.agent(4800, 1000, hz=400)
    return call


def test_barge_in_is_exact_and_the_answer_is_its_own() -> None:
    verdict = interrupted(310).judge()
    assert verdict.barge_in_stop() == pytest.approx(310, abs=EXACT_MS)
    assert verdict.turns[1].heard == "we sell gift cards"
    assert verdict.turns[1].voice_to_voice_ms == pytest.approx(600, abs=EXACT_MS)
    assert verdict.understood == 2


def test_barge_in_counts_all_that_the_agent_says_meanwhile() -> None:
    call = interrupted(200)
    call.agent(3500, 400)  # after 300 ms it goes on
    verdict = call.judge()
    assert verdict.barge_in_stop() == pytest.approx(900, abs=EXACT_MS)
    assert verdict.turns[1].heard == "we sell gift cards"
    assert verdict.turns[1].voice_to_voice_ms == pytest.approx(600, abs=EXACT_MS)


def test_an_agent_that_never_stops() -> None:
    call = interrupted(1500)
    verdict = call.judge()
    assert verdict.barge_in_stop() == pytest.approx(1500, abs=EXACT_MS)


def test_falling_silent_between_two_words_is_a_stop_at_once() -> None:
    assert interrupted(-150).judge().barge_in_stop() == 0


def test_nothing_to_interrupt_is_no_stop() -> None:
    verdict = interrupted(-1200).judge()
    assert verdict.barge_in_stop() is None
    assert not verdict.turns[1].right


UH_HUH = Turn(say="uh-huh", expect=("gift cards",), interrupt_after_ms=500, goes_on=True)


def murmured(*agent: tuple[float, float, float]) -> Call:
    """The agent speaks from 1500 to 3080 and then as told; the caller says "uh-huh" at 3000."""
    call = Call()
    call.caller(500, 500, HOURS)
    call.agent(1500, 1580)
    call.caller(3000, 400, UH_HUH)
    for at, ms, hz in agent:
        call.agent(at, ms, hz)
    return call


def test_an_agent_that_holds_its_breath_and_goes_on() -> None:
    verdict = murmured((3700, 1000, 400)).judge()
    assert verdict.turns[1].held_ms == pytest.approx(620, abs=EXACT_MS)
    assert verdict.turns[1].right
    assert verdict.reversed == 1
    assert verdict.barge_in_stop() is None  # it is no interruption
    assert len([t for t in verdict.turns if t.voice_to_voice_ms is not None]) == 1


@pytest.mark.parametrize(
    "agent",
    [
        [],  # it stops for good
        [(5500, 1000, 400)],  # it says something much later
        [(3700, 1000, 500)],  # it goes on with something else
        [(3080, 1500, 300)],  # it does not even hold its breath, and says nothing new
    ],
)
def test_what_is_not_reversed(agent: list[tuple[float, float, float]]) -> None:
    assert murmured(*agent).judge().reversed == 0


def killed(at_ms: float, answer_ms: float = 5000, **how: Any) -> Takeover:
    """The agent speaks from 1600 to 3600, the caller from 4000 to 4400."""
    call = Call()
    call.caller(500, 500, replace(HOURS, kill_worker_after_ms=900))
    call.agent(1600, 2000)
    call.caller(4000, 400, HOURS)
    if answer_ms:
        call.agent(answer_ms, 800)
    seen = call.judge(killed_ms=at_ms, **how).takeover
    assert seen is not None
    return seen


def test_a_takeover_nobody_notices() -> None:
    seen = killed(2500)
    assert seen.in_mid_sentence
    assert seen.went_on_s == pytest.approx(1.1, abs=0.01)
    assert seen.packet_gap_ms == pytest.approx(20, abs=0.1)
    assert seen.answer_gap_ms == pytest.approx(2500, abs=EXACT_MS)
    assert seen.reaction_ms == pytest.approx(600, abs=EXACT_MS)
    assert seen.said_twice == ""


def test_gaps_count_from_the_last_packet_before_a_death_to_the_answer() -> None:
    assert killed(2501, late={125: 0.1, 126: 0.08, 127: 0.06, 128: 0.04}).packet_gap_ms > 100
    assert killed(2501, late={252: 0.3}).packet_gap_ms < 40  # when all is well again


@pytest.mark.parametrize("at_ms", [1500, 3700])
def test_a_death_in_silence_is_in_no_sentence(at_ms: float) -> None:
    assert not killed(at_ms).in_mid_sentence


def test_an_answer_that_never_comes() -> None:
    seen = killed(2500, answer_ms=0)
    assert seen.answer_gap_ms is None
    assert seen.packet_gap_ms == pytest.approx(20, abs=0.1)


def test_nobody_was_killed() -> None:
    assert murmured().judge().takeover is None


def test_a_second_greeting_is_counted() -> None:
    call = Call()
    call.agent(100, 300, hz=400)
    call.caller(1000, 500, HOURS)
    call.agent(2000, 500, hz=400)
    assert call.judge(Script("1", (HOURS,), greeting=("gift cards",))).greetings == 2


def test_ringing_is_no_speech() -> None:
    call = Call()
    call.caller(500, 500, HOURS)
    call.agent(1500, 1500)
    call._put(False, 4000, (hum(440, 500) + hum(480, 500)) // 2)
    verdict = call.judge()
    assert len(verdict.ringing) == 1
    assert len(verdict.received_speech) == 1


def test_keys_have_no_latency() -> None:
    call = Call()
    call.marks.append(Mark(NUMBER, START + 1))
    call.digits = [Digit("4", START + 1.1, START + 1.2), Digit("7", START + 1.3, START + 1.4)]
    call.agent(2500, 800, hz=400)
    [turn] = call.judge().turns
    assert turn.right
    assert turn.voice_to_voice_ms is None
    assert turn.caller == (START + 1.1, START + 1.4)


def test_transfer_is_heard() -> None:
    call = Call()
    call.caller(1000, 800, HUMAN)
    call.agent(2400, 800, hz=500)
    call.human(4000)
    call.agent(6500, 2000, hz=300)  # the human says hello
    verdict = call.judge()
    [turn] = verdict.turns
    assert [round(region.start / 8) for region in verdict.received_speech] == [2400, 6500]
    assert turn.transferred == pytest.approx(START + 4.0, abs=0.02)
    assert turn.heard == "one moment please"
    assert turn.voice_to_voice_ms == pytest.approx(600, abs=EXACT_MS)
    assert turn.right


def test_what_the_human_says_is_no_answer_of_the_agent() -> None:
    call = Call()
    call.caller(1000, 800, HUMAN)
    call.human(4000)
    call.agent(6500, 500, hz=300)
    [turn] = call.judge().turns
    assert turn.transferred is not None
    assert (turn.agent, turn.heard, turn.voice_to_voice_ms) == (None, "", None)


def test_tones_before_the_turn_are_no_transfer() -> None:
    call = Call()
    call.human(500)
    call.caller(4000, 800, HUMAN)
    call.agent(5400, 800, hz=500)
    [turn] = call.judge().turns
    assert turn.transferred is None


def test_no_transfer_is_wrong() -> None:
    call = Call()
    call.caller(1000, 800, HUMAN)
    call.agent(2400, 800, hz=500)
    [turn] = call.judge().turns
    assert turn.transferred is None
    assert not turn.right


def test_tones_are_told_from_voices() -> None:
    both = (hum(650, 1500) + hum(1450, 1500)) // 2
    silence = np.zeros(RATE, np.int16)

    def found(sound: Pcm, others: int = 1) -> list[tuple[float, float]]:
        pcm = np.concatenate([silence, sound, silence])
        tones = find_tones(pcm, HUMAN_HZ, HUMAN_FRAMES, others)
        return [(tone.start / RATE, tone.end / RATE) for tone in tones]

    assert found(both) == [pytest.approx((1.0, 2.5), abs=0.021)]
    assert found(hum(300, 2000)) == []
    assert found(both[: RATE // 2]) == []
    torn = both.copy()
    torn[RATE * 3 // 4 - 200 : RATE * 3 // 4 + 200] = (
        0  # two packets of the network's that are lost
    )
    assert found(torn) == []
    assert found(torn, LOST_FRAMES) == [pytest.approx((1.0, 2.5), abs=0.021)]


@pytest.mark.parametrize("cut_ms", [360, 200])
def test_the_sound_that_bridges_a_wait_is_no_answer(cut_ms: int) -> None:
    call = Call()
    call.caller(1000, 800, HOURS)
    call._put(False, 2700, soft_sound(RATE)[: cut_ms * 8])
    call.agent(2700 + cut_ms, 1500)
    [turn] = call.judge().turns
    assert turn.voice_to_voice_ms == pytest.approx(900 + cut_ms, abs=EXACT_MS)


def test_percentiles() -> None:
    call = Call(seconds=20)
    for n, delay in enumerate((500, 700, 900)):
        call.caller(1000 + 5000 * n, 1000, HOURS)
        call.agent(2000 + 5000 * n + delay, 1000)
    values = call.judge().voice_to_voice()
    assert values is not None
    assert values["p50"] == pytest.approx(700, abs=EXACT_MS)
    assert values["p95"] == pytest.approx(880, abs=EXACT_MS)
