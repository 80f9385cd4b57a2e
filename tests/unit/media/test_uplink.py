"""From datagrams to frames: the rules, each on a link made for it; and what holds on any link."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.audio import g711
from bridge.media.slots import CONCEALED, DROPPED, LATE, NOTHING_SENT, SPEECH
from bridge.rtp.quality import LATE_MS
from bridge.rtp.timeline import AHEAD_MS, HOLD_MS
from tests.unit.media.simulated import Simulation, coded, level, number, packet


def stream(n, start=20.0, seq=100, ts=0, lose=(), first=0):
    """n packets on time, but those in `lose`."""
    return [
        (start + 20 * k, packet(seq + k, ts + 160 * k, coded(first + k)), 1)
        for k in range(n)
        if k not in lose
    ]


def shown(sim, call=0):
    """The numbers of the frames that came up as they were sent, in order."""
    sent = zip(sim.frames[call], sim.flags[call], strict=True)
    numbers = [number(frame) for frame, flags in sent if not flags & (CONCEALED | NOTHING_SENT)]
    return [n for n in numbers if n is not None]


def test_every_packet_is_a_frame(tmp_path):
    sim = Simulation(tmp_path).run_to(2000, stream(90))
    assert shown(sim) == list(range(90))
    assert sim.count("concealed_ms") <= 60, "only at the end, where nothing came any more"


def test_a_lost_packet_is_concealed_and_nothing_moves(tmp_path):
    sim = Simulation(tmp_path).run_to(1000, stream(40, lose={10, 20, 21}))
    flags = sim.flags[0]
    at = next(i for i, f in enumerate(sim.frames[0]) if number(f) == 0)
    assert [i - at for i, f in enumerate(flags[: at + 40]) if f & CONCEALED] == [10, 20, 21]
    assert (sim.count("lost"), sim.count("concealed_ms") >= 60) == (3, True)


@pytest.mark.parametrize("late", LATE)
def test_what_stands_in_for_a_lost_packet(tmp_path, late):
    sim = Simulation(tmp_path, late=LATE.index(late)).run_to(600, stream(20, lose={10}))
    lost = next(i for i, f in enumerate(sim.flags[0]) if f & CONCEALED)
    frame, flags = sim.frames[0][lost], sim.flags[0][lost]
    assert bool(flags & DROPPED) == (late == "drop")
    if late in ("silence", "drop"):
        assert not frame.any()
    else:
        assert np.abs(frame).max() > 300
    if late == "replay":
        assert (frame[:80] == level(9)).all(), "faded only after 10 ms"


def test_concealment_ends_in_the_line_s_noise(tmp_path):
    rng = np.random.default_rng(1)
    sim = Simulation(tmp_path)
    noisy = [
        (20.0 + 20 * k, packet(k, 160 * k, g711.encode_ulaw(
            rng.normal(0, 60, 160).astype(np.int16)).tobytes()), 1)
        for k in range(100)
    ]  # fmt: skip
    sim.run_to(4000, noisy)
    tail = np.concatenate(sim.frames[0][-50:]).astype(float)
    assert 20 < np.sqrt((tail**2).mean()) < 90
    assert all(f == NOTHING_SENT for f in sim.flags[0][-50:]), "and no speech"


def test_before_the_first_packet_there_is_silence_and_time_goes_on(tmp_path):
    sim = Simulation(tmp_path).run_to(1000)
    assert not sim.pcm().any()
    assert len(sim.frames[0]) * 20 == pytest.approx(1000 - HOLD_MS, abs=25)


def test_telephone_events_are_not_played_and_not_lost(tmp_path):
    events = [
        (220.0 + 20 * k, packet(110 + k, 1600, b"\x05\x0a\x00\xa0", kind=101, marker=k == 0), 1)
        for k in range(11)
    ]
    arrivals = stream(10) + events + stream(10, start=440, seq=121, ts=160 * 21, first=50)
    sim = Simulation(tmp_path).run_to(700, arrivals)
    assert shown(sim) == [*range(10), *range(50, 60)]
    assert (sim.count("lost"), sim.count("wrong_type")) == (0, 11)


def test_comfort_noise_packets_are_not_played(tmp_path):
    cn = [(220.0, packet(110, 1600, b"\x30", kind=13), 1)]
    arrivals = stream(10) + cn + stream(10, start=620, seq=111, ts=160 * 30, first=50)
    sim = Simulation(tmp_path).run_to(900, arrivals)
    assert shown(sim) == [*range(10), *range(50, 60)]
    assert sim.count("lost") == 0
    assert len(sim.frames[0]) * 20 >= 800


@pytest.mark.parametrize("ms", [10, 30, 40, 60])
def test_packets_of_other_lengths(tmp_path, ms):
    ramp = (np.arange(8 * 600) % 2000 + 300).astype(np.int16)
    codes = g711.encode_ulaw(ramp)
    arrivals = [
        (
            float(ms * (k + 1)),
            packet(k, 8 * ms * k, codes[8 * ms * k : 8 * ms * (k + 1)].tobytes()),
            1,
        )
        for k in range(600 // ms)
    ]
    sim = Simulation(tmp_path).run_to(700, arrivals)
    pcm, want = sim.pcm(), g711.decode_ulaw(codes)
    begin = int(np.flatnonzero(pcm)[0])
    assert (pcm[begin : begin + len(want) - 160] == want[:-160]).all()


def test_rtcp_and_rubbish_are_counted(tmp_path):
    rubbish = [
        (100.0, b"\x80\xc8" + b"\0" * 30, 1),
        (100.0, b"no", 1),
        (100.0, b"\0" * 40, 1),
        (100.0, packet(5, 5, b"x"), 77),
    ]
    sim = Simulation(tmp_path).run_to(500, sorted(stream(20) + rubbish, key=lambda a: a[0]))
    counted = {k: v for k, v in sim.plane.up.count.items() if v}
    assert counted == {"rtcp": 1, "truncated": 1, "version": 1, "unknown_source": 1}
    assert shown(sim) == list(range(20))
    assert sim.count("bad") == 3


def test_a_new_ssrc_in_mid_call(tmp_path):
    second = [
        (220.0 + 20 * k, packet(9000 + k, 77_000 + 160 * k, coded(100 + k), ssrc=0x99), 1)
        for k in range(10)
    ]
    sim = Simulation(tmp_path).run_to(450, stream(10) + second)
    assert shown(sim) == [*range(10), *range(101, 110)], "its first packet is the price"


def test_a_jump_of_timestamps_with_unbroken_sequence(tmp_path):
    arrivals = stream(10) + stream(10, start=220, seq=110, ts=10**8, first=50)
    sim = Simulation(tmp_path).run_to(400, arrivals)
    assert shown(sim) == [*range(10), *range(50, 60)]
    assert sim.count("concealed_ms") <= 60


def test_a_burst_after_a_stall_of_two_seconds(tmp_path):
    held = [
        (2220.0, data, port) for _, data, port in stream(100, start=0, seq=110, ts=1600, first=10)
    ]
    after = stream(50, start=2240, seq=210, ts=1600 + 16_000, first=110)
    sim = Simulation(tmp_path).run_to(3300, stream(10) + held + after)
    numbers = shown(sim)
    again = numbers[10:]
    assert again[0] > 90, "the oldest of it are stale"
    assert len(again) >= 60
    assert len(set(range(110, 160)) - set(again)) == sim.count("trimmed") <= 2
    assert len(sim.frames[0]) * 20 <= 3300 + AHEAD_MS


def test_a_flood_does_not_stop_the_clock(tmp_path):
    """While there is more to read the clock waits: not for ever."""
    sim = Simulation(tmp_path).run_to(300, stream(10))
    head = len(sim.frames[0])

    def strangers():
        n = len(sim.link.buffer)
        return n, np.full(n, 172), np.full(n, 12_345)

    sim.link.receive = strangers
    sim.run_to(600)
    assert len(sim.frames[0]) == head
    sim.run_to(1500)
    assert len(sim.frames[0]) * 20 >= 1500 - HOLD_MS - 20


@pytest.mark.parametrize(("calls", "every_ms"), [(3, 20), (150, 40)])
def test_many_gaps_are_given_up_together_and_none_far_from_its_deadline(tmp_path, calls, every_ms):
    """Of each call a packet is lost, one call after the other."""
    sim = Simulation(tmp_path, calls=calls)
    arrivals = [
        (20.0 + 20 * k + call * 0.05, packet(100 + k, 160 * k, coded(k), kind=0), call + 1)
        for call in range(calls)
        for k in range(40)
        if k != 10 + call % 15
    ]
    began = np.array([20.0 + 20 * (11 + call % 15) + call * 0.05 for call in range(calls)])
    ended, looks = np.full(calls, np.inf), []
    expire = sim.plane.up.jitter.expire

    def noted(now):
        looks.append(sim.now)
        return expire(now)

    sim.plane.up.jitter.expire = noted
    sim.run_to(200, sorted((a for a in arrivals if a[0] <= 200), key=lambda a: a[0]))
    rest = sorted((a for a in arrivals if a[0] > 200), key=lambda a: a[0])
    while sim.now < 760:
        now = sim.now + 5
        sim.run_to(now, [a for a in rest if now - 5 < a[0] <= now])
        ended[np.isinf(ended) & (sim.c["n_lost"] > 0)] = now
    waited = ended - began
    assert (waited >= 60 - 17.5).all()
    assert (waited <= 60 + every_ms - 12.5 + 5).all()
    crowded = [b - a for a, b in itertools.pairwise(looks) if 300 < a < 480]
    assert set(crowded) == {every_ms}
    assert all(shown(sim, call) for call in range(calls))


def test_speech_is_flagged(tmp_path):
    t = np.arange(160 * 20)
    tone = g711.encode_ulaw(np.rint(6000 * np.sin(t * 0.3)).astype(np.int16))
    arrivals = [
        (20.0 + 20 * k, packet(k, 160 * k, tone[160 * k : 160 * k + 160].tobytes()), 1)
        for k in range(20)
    ]
    sim = Simulation(tmp_path).run_to(1500, arrivals)
    assert sum(f & SPEECH for f in sim.flags[0]) in range(20, 24)


@st.composite
def links(draw):
    """(seed, loss, burst length, jitter ms, duplicates, skew ppm, spike ms)."""
    return (
        draw(st.integers(0, 2**32 - 1)),
        draw(st.sampled_from([0.0, 0.01, 0.05, 0.2])),
        draw(st.sampled_from([1, 3, 10])),
        draw(st.sampled_from([0.0, 5.0, 30.0, 80.0])),
        draw(st.sampled_from([0.0, 0.05])),
        draw(st.sampled_from([-300, 0, 300])),
        draw(st.sampled_from([0.0, 150.0, 700.0])),
    )


def impaired(link, n):
    seed, loss, burst, jitter, twice, skew, spike = link
    rng = np.random.default_rng(seed)
    bad, held, out = False, 0.0, []
    for k in range(n):
        bad = rng.random() < ((1 - 1 / burst) if bad else loss / burst / max(1 - loss, 0.1))
        if spike and rng.random() < 0.01:
            held = spike
        held = max(0.0, held - 20)
        if bad:
            continue
        at = 20 * (k + 1) * (1 + skew / 1e6) + rng.uniform(0, jitter) + held
        data = packet(65_400 + k, 2**32 - 20_000 + 160 * k, coded(k))
        out.append((at, data, 1))
        if rng.random() < twice:
            out.append((at + rng.uniform(0, 40), data, 1))
    return sorted(out, key=lambda a: a[0])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(links())
def test_on_any_link(tmp_path, link):
    n = 190
    sim = Simulation(tmp_path)
    most = 0
    for part in range(1, 9):
        end = 20 * (n + 60) * part / 8
        begin = sim.now
        sim.run_to(end, [a for a in impaired(link, n) if begin < a[0] <= end])
        most = max(most, len(sim.plane.up.jitter))
        # One frame a ptime: audio time is the time, within what the rules allow.
        ahead = len(sim.frames[0]) * 20 - sim.now
        assert -(HOLD_MS + 700 + 40) <= ahead <= AHEAD_MS + 40
    numbers = shown(sim)
    assert numbers == sorted(set(numbers)), "in order, none twice"
    assert most <= 48, "what waits is bounded"
    assert len(sim.plane.up.jitter) == 0
    gone = sum(sim.count(x) for x in ("late", "stale", "trimmed", "wild", "overflow", "duplicate"))
    assert len(numbers) == sim.count("received") - gone, (
        "what came and is not accounted for came up"
    )


def test_lateness_is_kept(tmp_path):
    arrivals = [
        (20.0 * (k + 1) + (45 if k % 10 == 5 else 0), packet(k, 160 * k, coded(k)), 1)
        for k in range(300)
    ]
    sim = Simulation(tmp_path).run_to(6200, sorted(arrivals, key=lambda a: a[0]))
    late = sim.c["q_late"][0]
    behind = late[np.searchsorted(LATE_MS, 30) :].sum() / late.sum()
    assert 0.07 < behind < 0.4, "a tenth, and those that waited for them"
    assert late.sum() == 300
