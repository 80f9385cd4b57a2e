import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dialog.latency import STAGES, AudioClock, TurnLatency

WHOLE = TurnLatency(
    turn=3,
    last_voice=10.0,
    received=10.015,
    eager=10.21,
    decided=10.30,
    heard=10.10,
    transcript=10.18,
    first_token=10.181,
    first_audio=10.36,
    first_packet=10.38,
)


def test_stages_that_ran_during_the_silence_add_nothing_to_the_waiting():
    assert WHOLE.voice_to_voice_ms == pytest.approx(380)
    assert WHOLE.own() == pytest.approx(
        {"media_in": 15, "silence": 285, "stt": 80, "llm": 1, "tts": 179, "media_out": 20}
    )
    assert WHOLE.path() == pytest.approx(
        {"media_in": 15, "silence": 285, "stt": 0, "llm": 0, "tts": 60, "media_out": 20}
    )


@given(st.lists(st.none() | st.floats(0, 5), min_size=8, max_size=8))
def test_the_path_sums_up_to_voice_to_voice_whatever_is_known(stamps):
    names = ("received", "eager", "decided", "heard", "transcript", "first_token", "first_audio")
    one = TurnLatency(1, last_voice=0.0, **dict(zip(names, stamps, strict=False)))
    assert one.path() == {}
    one.first_packet = 5.0
    assert list(one.path()) == list(STAGES)
    assert sum(one.path().values()) == pytest.approx(5000)
    assert min(one.path().values()) >= 0
    assert one.line().startswith("turn 1: voice to voice 5000 ms")


def test_one_line_for_the_log():
    assert WHOLE.line() == (
        "turn 3: voice to voice 380 ms: media in 15, silence 285, STT 0 (took 80), "
        "LLM 0 (took 1), TTS 60 (took 179), media out 20"
    )
    assert TurnLatency(1, decided=3.0).line() == ""


def test_an_interruption_has_its_own_figures():
    cut = TurnLatency(2, onset=5.0, paused=5.06, dropped=5.4)
    assert cut.interruption() == pytest.approx({"paused": 60, "dropped": 400})
    assert cut.line() == "turn 2: interruption: paused after 60 ms, dropped after 400 ms"
    assert cut.record() == {
        "turn": 2,
        "at_s": {"onset": 5.0, "paused": 5.06, "dropped": 5.4},
        "interruption_ms": {"paused": 60.0, "dropped": 400.0},
    }


def test_the_record_holds_milliseconds():
    record = WHOLE.record()
    assert record["voice_to_voice_ms"] == 380.0
    assert record["path_ms"]["tts"] == 60.0
    assert record["own_ms"]["stt"] == 80.0


def test_the_earliest_arrivals_say_when_audio_was_spoken():
    clock = AudioClock()
    assert clock.at(0) is None
    for n, late in enumerate([0.030, 0.012, 0.050, 0.010, 0.040]):
        clock.arrived(n * 20, 100 + n * 0.02 + late)
    assert clock.at(500) == pytest.approx(100.510)


def test_a_clock_that_drifts_is_followed():
    clock = AudioClock()
    for n in range(4 * AudioClock.KEEP):
        clock.arrived(n * 20, n * 0.02 * 1.001)
    end_ms = 4 * AudioClock.KEEP * 20
    assert clock.at(end_ms) == pytest.approx(end_ms / 1000 * 1.001, abs=0.006)
