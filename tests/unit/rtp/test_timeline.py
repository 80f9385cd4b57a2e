"""Audio time: one frame every 20 ms, whatever the network does."""

import numpy as np
import pytest

from bridge.audio.columns import heap
from bridge.rtp import timeline
from bridge.rtp.timeline import HOLD_MS, Timeline

CALL = np.array([0])


class Line:
    """One PCMU call; time and packets as the test says."""

    def __init__(self, rate=8, clock=8):
        self.columns = heap(timeline.SPEC, 1)
        self.t = Timeline(self.columns)
        self.t.begin(0.0, 0, rate, clock)
        self.rate = rate
        self.made_up = 0
        self.begun = False

    def clock_to(self, now):
        while len(self.t.supply(now)):
            self.t.advance(CALL, 20 * self.rate)
            self.made_up += 20
        return self

    def packet(self, now, ts, ms=20, lost=0, marker=False, quiet=False, restart=None):
        """Returns ms filled before it, whether that was loss, whether it goes up."""
        if restart is None:
            restart = not self.begun
        self.begun = True
        samples = ms * self.rate
        place = self.t.place(
            now, CALL, np.array([ts]), np.array([samples]), np.array([lost]),
            np.array([restart]), np.array([marker]), np.array([quiet]),
        )  # fmt: skip
        fill = int(place.fill[0])
        self.t.advance(CALL, fill + (samples if place.take[0] else 0))
        return fill // self.rate, bool(place.lost[0]), bool(place.take[0])

    @property
    def head(self):
        """ms of audio so far."""
        return int(self.t.head[0]) // self.rate


def steady(line, packets=10, start=0.0, ts=0):
    for i in range(packets):
        line.clock_to(start + 20 * (i + 1))
        line.packet(start + 20 * (i + 1), ts + 160 * i)
    return start + 20 * packets, ts + 160 * packets


def test_packets_carry_it():
    line = Line()
    steady(line, 50)
    assert (line.head, line.made_up) == (1000, 0)


def test_silence_before_the_first_packet_is_supplied():
    line = Line().clock_to(1000)
    assert line.head == pytest.approx(1000 - HOLD_MS, abs=20)
    line.packet(1000, 77_000)
    assert line.head == 1000


def test_the_clock_goes_on_when_nothing_comes():
    line = Line()
    now, _ = steady(line)
    line.clock_to(now + 3000)
    assert line.head == pytest.approx(now + 3000 - HOLD_MS, abs=20)


def test_a_lost_packet_is_filled_as_lost():
    line = Line()
    now, ts = steady(line)
    assert line.packet(now + 60, ts + 160, lost=1) == (20, True, True)
    assert line.head == now + 40


def test_a_talkspurt_gap_is_a_hole():
    line = Line()
    now, ts = steady(line)
    line.clock_to(now + 400)
    fill, lost, take = line.packet(now + 400, ts + 160 * 19, marker=True)
    assert (lost, take) == (False, True)
    assert line.head == now + 400
    assert fill > 0


def test_the_hole_of_a_digit_is_no_loss():
    line = Line()  # facts: sequence +9, timestamp +1760
    now, ts = steady(line)
    line.clock_to(now + 220)
    _, lost, _ = line.packet(now + 220, ts - 160 + 1760, lost=8)
    assert not lost
    assert line.head == now + 220


def test_a_transcoded_leg_hides_loss_in_the_timestamps():
    line = Line()
    now, ts = steady(line)
    assert line.packet(now + 80, ts + 480) == (60, True, True)


def test_an_absurd_timestamp_changes_nothing():
    line = Line()
    now, ts = steady(line)
    assert line.packet(now + 20, ts + 10**8) == (0, True, True)
    assert line.packet(now + 40, ts + 10**8 + 160)[0] == 0
    assert line.head == now + 40
    assert line.packet(now + 60, 5)[0] == 0
    assert line.head == now + 60


def test_the_timestamp_wraps():
    line = Line()
    steady(line, 20, ts=2**32 - 1600)
    assert (line.head, line.made_up) == (400, 0)


@pytest.mark.parametrize("ms", [10, 20, 30, 40, 60])
def test_packet_lengths(ms):
    line = Line()
    for i in range(60):
        now = ms * (i + 1)
        line.clock_to(now)
        line.packet(now, 8 * ms * i, ms=ms)
    assert (line.head, line.made_up) == (60 * ms, 0)


def test_clock_rate_is_not_sample_rate():
    line = Line(rate=16, clock=8)  # G.722
    for i in range(20):
        line.packet(20 * (i + 1), 160 * i)
    assert line.packet(20 * 22, 160 * 21, lost=1) == (20, True, True)
    assert line.head == 440


def test_a_short_hold_up_loses_nothing():
    line = Line()
    now, ts = steady(line)
    line.clock_to(now + 240)  # the network held 240 ms of packets back
    for i in range(12):
        assert line.packet(now + 240, ts + 160 * i)[2]
    assert line.head <= now + 240 + timeline.AHEAD_MS


def test_a_long_hold_up_is_bounded():
    line = Line()
    now, ts = steady(line)
    line.clock_to(now + 2000)
    taken = sum(line.packet(now + 2000, ts + 160 * i)[2] for i in range(100))
    assert 5 <= taken <= (timeline.AHEAD_MS + HOLD_MS) / 20 + 2
    assert line.head <= now + 2000 + timeline.AHEAD_MS
    # Then it goes on as ever.
    for i in range(20):
        assert line.packet(now + 2020 + 20 * i, ts + 160 * (100 + i), quiet=False)[2]


def test_a_clock_that_stood_still_in_a_pause_is_believed():
    line = Line()
    now, ts = steady(line)
    line.clock_to(now + 30_000)
    taken = [line.packet(now + 30_000 + 20 * i, ts + 160 * i)[2] for i in range(20)]
    assert all(taken[5:])


def test_without_a_pause_of_speech_it_is_trimmed_all_the_same():
    line = Line()
    period = 20 / 1.01
    for i in range(3000):
        now = period * (i + 1)
        line.packet(now, 160 * i, quiet=False)
    assert line.head - now < timeline.FORCE_MS + 150


@pytest.mark.parametrize("now", [7.0, 33.25, 99.9])
@pytest.mark.parametrize("rate", [8, 16])
def test_a_stream_begins_on_a_frame(now, rate):
    line = Line(rate)
    line.packet(now, 5000)
    # Else each 20 ms frame would wait for the packet after it.
    assert line.t.head[0] % (20 * rate) == 0
