"""The receiving plane behind bad networks (tests/lab/link.py): what holds on all of them.

Time is simulated. Every millisecond of the audio names itself, so what comes up is known to the
millisecond: in order, none twice, how late.
"""

import gc
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.media.plane import Plane
from bridge.media.slots import CONCEALED, FRAME_MS, NOTHING_SENT, SlotMap
from bridge.rtp.jitter import MAX_ROUNDS, MAX_WAITING
from bridge.rtp.timeline import BEHIND_MS, MOST_AHEAD_MS
from tests.lab.link import (
    QUIETEST,
    RATE,
    Arrivals,
    Digit,
    Heard,
    Hidden,
    Impairment,
    Jump,
    NewSource,
    Pause,
    Wire,
    heard,
    marks,
    talk,
)

LONGEST_WAIT_MS = 120.0
"""For a gap, whatever was learnt."""
AHEAD_MS = MOST_AHEAD_MS + FRAME_MS
READ_MS = 400


@dataclass
class Came:
    """What one call's stream was."""

    ms: np.ndarray
    """Marks in their order: which ms of the talker's audio, as in the flow."""
    at_ms: np.ndarray
    """Audio time of each."""
    up_at: np.ndarray
    """ms of the clock when each had gone up."""
    sure: np.ndarray
    """Not in a frame that holds concealed audio, in which a mark may be a repetition."""
    flags: np.ndarray
    lag: np.ndarray
    """Of audio time behind the clock, ms, after each tick."""
    count: dict


class Line:
    """Calls on the plane, each with what its talker sends and what arrives of it."""

    def __init__(self, flows, links, seed=0, keep=True):
        self.flows, self.keep = flows, keep
        both = zip(flows, links, strict=True)
        self.arrivals = [link.carry(flow, seed + i) for i, (flow, link) in enumerate(both)]
        self.wire = Wire(flows, self.arrivals)
        self.end = max(float(a.at[-1]) for a in self.arrivals if len(a.at))
        with tempfile.TemporaryDirectory() as folder:  # what is mapped stays
            self.slots = SlotMap.create(Path(folder) / "slots", len(flows), 1000)
        self.plane = Plane(self.slots, self.wire, 0.0)
        for call in range(len(flows)):
            source = self.wire.source(call)
            assert self.plane.open(0.0, f"c{call}", source, "L16") == call
        self.up = self.plane.up
        self.c = self.slots.columns
        self.ticks, self.heads = [], []
        self.lag_most, self.lag_least = 0.0, 0.0
        self._read = np.zeros(len(flows), np.int64)
        self._pcm = [[] for _ in flows]
        self._flags = [[] for _ in flows]
        self.most_waiting = 0

    def tick(self, now):
        self.wire.now = now
        # As the plane's tick does, but that nothing is sent.
        self.up.receive(now)
        self.up.supply(now)
        head = self.c["t_head"].copy()
        lag = now - head / RATE
        self.lag_most = max(self.lag_most, float(lag.max()))
        self.lag_least = min(self.lag_least, float(lag.min()))
        self.most_waiting = max(self.most_waiting, int(self.c["j_waiting"].max()))
        if not self.keep:
            return
        self.ticks.append(now)
        self.heads.append(head)
        if (head - self._read).max() >= READ_MS * RATE:
            self._collect()

    def run(self, period=5.0, hold_ups=(), after_ms=600.0):
        """Tick until all has come and `after_ms` more.

        Args:
            period: ms between ticks.
            hold_ups: (ms, length): no tick in this time, for we were held up ourselves.
        """
        now, until = 0.0, self.end + after_ms
        while now < until:
            now += period
            for begin, length in hold_ups:
                if begin <= now < begin + length:
                    self._collect()  # workers are not held up
                    now = begin + length
            self.tick(now)
        return self.came()

    def _collect(self):
        """Read the whole frames that are new."""
        frame = FRAME_MS * RATE
        ring = self.slots.up[RATE].shape[1]
        for call, head in enumerate(self.c["t_head"].tolist()):
            new = np.arange(self._read[call] // frame, head // frame)
            assert len(new) <= ring, "audio was overwritten before it could be read"
            self._pcm[call].append(self.slots.up[RATE][call, new % ring].ravel())
            self._flags[call].append(self.c["up_flags"][call, new % ring])
            self._read[call] = head // frame * frame

    def came(self):
        self._collect()
        return [self._came(call) for call in range(len(self.flows))]

    def _came(self, call):
        pcm, flags = np.concatenate(self._pcm[call]), np.concatenate(self._flags[call])
        found: Heard = heard(pcm, len(self.flows))
        made = flags & (CONCEALED | NOTHING_SENT) != 0
        ends = (found.at + RATE - 1) // (FRAME_MS * RATE)
        sure = ~(made[found.at // (FRAME_MS * RATE)] | made[ends])
        assert (found.call[sure] == call).all(), "another call's audio"
        own = found.call == call
        heads, ticks = np.array([h[call] for h in self.heads]), np.array(self.ticks)
        up_at = ticks[np.searchsorted(heads, found.at[own] + RATE, "left")]
        # Marks come again after a span: the one that was spoken last before it went up is meant.
        span = (1 << 16) // len(self.flows)
        spoken = up_at - self.flows[call].at[0]
        ms = found.ms[own] + np.floor((spoken - found.ms[own] + 500) / span) * span
        c = self.c
        return Came(
            ms=ms.astype(np.int64),
            at_ms=found.at[own] / RATE,
            up_at=up_at,
            sure=sure[own],
            flags=flags,
            lag=ticks - heads / RATE,
            count={name[2:]: float(c[name][call]) for name in c if name.startswith("n_")},
        )


def came_at(flow, arrivals, ms):
    """When the packet that holds each ms first arrived; infinite for what never did."""
    first = np.full(len(flow), np.inf)
    np.minimum.at(first, arrivals.packet, arrivals.at)
    packet = np.searchsorted(flow.first, ms, "right") - 1
    return first[packet]


def waits(line, came, call=0):
    """How long after its packet's arrival each ms went up; the sure ones."""
    ms = came.ms[came.sure]
    return came.up_at[came.sure] - came_at(line.flows[call], line.arrivals[call], ms)


def one(flow, link, seed=0, **run):
    line = Line([flow], [link], seed)
    return line, *line.run(**run)


# ---- what holds on every network -----------------------------------------------------------------


def check(line, came, period, hold_up=0.0):
    """The promises, for every call of a line."""
    for call, (x, arrivals) in enumerate(zip(came, line.arrivals, strict=True)):
        sure = x.ms[x.sure]
        assert (np.diff(sure) > 0).all(), "in order, and none twice"
        waited = waits(line, x, call)
        assert (waited >= 0).all()
        assert waited.max(initial=0) <= LONGEST_WAIT_MS + 2 * period + hold_up, "delay is bounded"
        assert x.lag.max() <= BEHIND_MS + hold_up, "a frame a ptime: none missing"
        assert x.lag.min() >= -AHEAD_MS, "a frame a ptime: none too many"
        assert len(x.flags) * FRAME_MS == pytest.approx(line.ticks[-1], abs=BEHIND_MS + hold_up)
        assert x.count["received"] == len(arrivals.at), "every packet is accounted for"
        assert line.c["j_waiting"][call] == 0, "nothing waits for ever"
    assert line.most_waiting <= MAX_WAITING + MAX_ROUNDS
    assert len(line.up.jitter) == 0


rates = st.sampled_from([0.0, 0.01, 0.03, 0.1, 0.2])
links = st.builds(
    Impairment,
    loss=rates,
    burst=st.sampled_from([(0.0, 1.0, 0.0), (0.01, 0.25, 0.7), (0.005, 0.05, 1.0)]),
    delay=st.sampled_from([0.0, 40.0]),
    jitter=st.sampled_from([0.0, 5.0, 30.0, 80.0]),
    spike=st.sampled_from([(0.0, 0.0), (0.005, 150.0), (0.01, 400.0)]),
    stalls=st.sampled_from([(), ((1500.0, 300.0),), ((1000.0, 2000.0),)]),
    in_order=st.booleans(),
    overtaken=rates,
    duplicates=rates,
)
happenings = st.one_of(
    st.builds(Pause, st.sampled_from([60.0, 400.0, 1500.0]), st.booleans()),
    st.builds(Digit),
    st.builds(NewSource),
    st.builds(Jump, st.sampled_from([-(10**8), -8000, -480, 320, 10**8])),
    st.builds(Hidden, st.integers(1, 6)),
)
talkers = st.fixed_dictionaries(
    {
        "ptime": st.sampled_from([10, 20, 20, 30, 40, 60]),
        "ppm": st.sampled_from([-300.0, 0.0, 300.0]),
        "events": st.lists(st.tuples(st.integers(500, 4500).map(float), happenings), max_size=4),
        "start_ms": st.sampled_from([0.0, 7.0, 300.0]),
        "seed": st.integers(0, 99),
    }
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,  # a seeded network: the same in every run
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    calls=st.lists(st.tuples(talkers, links), min_size=1, max_size=3),
    seed=st.integers(0, 999),
    period=st.sampled_from([2.5, 5.0, 10.0]),
    hold_up=st.sampled_from([0.0, 0.0, 60.0, 250.0]),
)
@example(  # gaps after gaps, each waited for as long as may be
    calls=[
        (
            {"ptime": 10, "ppm": -300.0, "events": [], "start_ms": 0.0, "seed": 0},
            Impairment(delay=0.0, in_order=False),
        ),
        (
            {"ptime": 10, "ppm": -300.0, "events": [], "start_ms": 0.0, "seed": 0},
            Impairment(loss=0.2, delay=0.0, jitter=80.0, in_order=False, overtaken=0.1),
        ),
    ],
    seed=0,
    period=2.5,
    hold_up=0.0,
)
def test_what_holds_on_every_network(calls, seed, period, hold_up):
    line = Line([talk(5.0, **how) for how, _ in calls], [link for _, link in calls], seed)
    came = line.run(period, hold_ups=[(2000.0, hold_up)] if hold_up else [])
    check(line, came, period, hold_up)


# ---- each impairment by itself -------------------------------------------------------------------

CLEAN = Impairment(delay=0.0)


def all_ms(flow, call=0, calls=1):
    """Every ms that was sent and whose mark is looked at."""
    ms = (flow.first[:, None] + np.arange(flow.ptime)).ravel()
    return ms[np.abs(marks(call, calls, ms).astype(int)) >= QUIETEST]


def missing(flow, came):
    """The ms that were sent and did not come up."""
    return np.setdiff1d(all_ms(flow), came.ms)


@pytest.mark.parametrize("ptime", [10, 20, 30, 40, 60])
def test_a_clean_network_adds_nothing(ptime):
    flow = talk(3.0, ptime=ptime)
    line, came = one(flow, CLEAN)
    assert not len(missing(flow, came))
    held = waits(line, came)
    # Up in the tick in which it came, but where a frame's end is in the next packet.
    assert held.max() < 5 + (0 if ptime % FRAME_MS == 0 else ptime)
    assert {
        k: came.count[k] for k in ("lost", "late", "stale", "jump", "trimmed")
    } == dict.fromkeys(("lost", "late", "stale", "jump", "trimmed"), 0)


@pytest.mark.parametrize("jitter", [10.0, 30.0])
def test_jitter_that_keeps_the_order_costs_no_delay_of_ours(jitter):
    flow = talk(5.0)
    line, came = one(flow, Impairment(jitter=jitter))
    assert not len(missing(flow, came))
    assert waits(line, came).max() < FRAME_MS + 5
    assert came.count["lost"] == 0


def test_who_was_overtaken_within_the_deadline_is_waited_for():
    flow = talk(10.0)
    _, came = one(flow, Impairment(jitter=8.0, in_order=False, overtaken=0.02), seed=4)
    never = 1 - came.count["late"] * flow.ptime / len(all_ms(flow))
    assert came.count["reordered"] > 3
    assert len(missing(flow, came)) / len(all_ms(flow)) <= 1 - never + 0.005


def test_duplicates_are_not_heard_twice():
    flow = talk(5.0)
    line, came = one(flow, Impairment(duplicates=0.5, overtaken=0.01))
    check(line, [came], 5.0)
    assert came.count["duplicate"] > 80


@pytest.mark.parametrize(
    ("link", "least", "most"),
    [
        (Impairment(loss=0.03), 0.015, 0.045),
        (Impairment(burst=(0.02, 0.25, 0.9)), 0.01, 0.15),
    ],
)
def test_loss_is_counted_and_nothing_else_is_lost(link, least, most):
    flow = talk(20.0)
    line, came = one(flow, link)
    gone = len(flow) - len(np.unique(line.arrivals[0].packet))
    assert least < gone / len(flow) < most
    assert came.count["lost"] == pytest.approx(gone, abs=4)  # at the very end nobody can know
    # A few ms after each gap are blended with what was made up.
    assert len(missing(flow, came)) / len(all_ms(flow)) < gone / len(flow) * 1.5


def test_pauses_are_no_loss():
    flow = talk(12.0, events=[(1000.0 * k, Pause(600.0)) for k in range(1, 8)])
    line, came = one(flow, CLEAN)
    check(line, [came], 5.0)
    assert (came.count["lost"], came.count["stale"], came.count["jump"]) == (0, 0, 0)
    assert len(missing(flow, came)) < 8 * 8, "a blend after each pause at most"
    assert came.count["concealed_ms"] <= 9 * 60


def test_pauses_in_which_the_timestamps_stand_still():
    flow = talk(40.0, events=[(2000.0 * k, Pause(1000.0, frozen=True)) for k in range(1, 19)])
    line, came = one(flow, CLEAN)
    check(line, [came], 5.0)  # audio time does not fall behind, pause by pause
    assert len(missing(flow, came)) / 18 < 100, "of each talkspurt 60 ms and a blend at most"


class Slower:
    """A link that from 2 s on takes so many ms more."""

    def __init__(self, more):
        self.more = more

    def carry(self, flow, seed):
        return Arrivals(flow.at + self.more * (flow.at > 2000), np.arange(len(flow)))


@pytest.mark.parametrize(("ptime", "more"), [(20, 80), (60, 40)])
def test_a_pause_exactly_as_long_as_what_the_clock_supplied(ptime, more):
    """Nothing is to be filled then, and nothing stays to be made good."""
    flow = talk(8.0, ptime=ptime, events=[(3000.0, Pause(3000.0))])
    _, came = one(flow, Slower(more))
    assert (came.count["stale"], came.count["jump"]) == (0, 0)


def test_the_hole_of_a_digit_is_no_loss():
    flow = talk(8.0, events=[(1000.0 * k, Digit()) for k in range(1, 7)])
    line, came = one(flow, CLEAN)
    check(line, [came], 5.0)
    assert (came.count["lost"], came.count["stale"], came.count["jump"]) == (0, 0, 0)
    assert len(missing(flow, came)) < 6 * 8


def test_another_source_in_mid_call_costs_its_first_packet():
    flow = talk(8.0, events=[(1000.0 * k, NewSource()) for k in range(1, 7)])
    line, came = one(flow, CLEAN)
    check(line, [came], 5.0)
    assert len(missing(flow, came)) <= 6 * (20 + 4)
    assert came.count["resync"] == 6


@pytest.mark.parametrize("ticks", [10**8, -(10**8)])
def test_timestamps_that_jump_change_nothing(ticks):
    flow = talk(5.0, events=[(1000.0 * k, Jump(ticks)) for k in range(1, 4)])
    line, came = one(flow, CLEAN)
    check(line, [came], 5.0)
    assert not len(missing(flow, came))
    assert (came.count["jump"], came.count["lost"]) == (3, 0)


def test_timestamps_that_claim_too_much_make_no_time():
    flow = talk(12.0, events=[(1000.0 * k, Jump(3200)) for k in range(1, 11)])
    line, came = one(flow, CLEAN)
    check(line, [came], 5.0)


def test_loss_that_a_transcoding_leg_hid_is_concealed():
    flow = talk(8.0, events=[(1000.0 * k, Hidden(2)) for k in range(1, 7)])
    line, came = one(flow, CLEAN)
    check(line, [came], 5.0)
    assert 6 * 40 <= came.count["concealed_ms"] <= 6 * 40 + 60  # and the end


def test_a_burst_after_a_stall():
    flow = talk(8.0)
    line, came = one(flow, Impairment(delay=0.0, stalls=((2000.0, 2000.0),)))
    check(line, [came], 5.0)
    gone = missing(flow, came)
    assert gone.min() >= 2000 - FRAME_MS
    assert gone[gone < 4000].max() <= 4000 - 150, "the newest of the burst goes up"
    assert (gone >= 4000).sum() <= 10 * FRAME_MS, "audio time comes back to the clock"


class Without:
    """A link that loses these packets and does nothing else."""

    def __init__(self, *packets):
        self.packets = packets

    def carry(self, flow, seed):
        kept = np.setdiff1d(np.arange(len(flow)), self.packets)
        return Arrivals(flow.at[kept], kept)


@pytest.mark.parametrize("lost", [(50,), (50, 51), (50, 51, 52), (50, 51, 52, 53)])
def test_ticks_that_come_unevenly_make_no_frame_too_many(lost):
    """The clock takes over while what came after the gap still waits for it."""
    calls = 9
    flows = [talk(2.0, start_ms=2.3 * call) for call in range(calls)]
    for seed in range(6):
        line = Line(flows, [Without(*lost)] * calls)
        random, now = np.random.default_rng(seed), 0.0
        while now < line.end:
            now += 5 + random.uniform(0, 10)
            line.tick(now)
        for came in line.came():
            audio = (came.at_ms - came.ms)[came.sure]
            assert (audio == audio[0]).all(), "audio time is the talker's, before and after"


@pytest.mark.parametrize(("calls", "ptime"), [(1, 10), (1, 20), (3, 60), (20, 10)])
def test_held_up_ourselves_for_two_seconds_loses_nothing(calls, ptime):
    """All that came meanwhile is still to be read; of many calls more than a tick reads."""
    flows = [talk(6.0, ptime=ptime, start_ms=3.0 * call) for call in range(calls)]
    line = Line(flows, [CLEAN] * calls)
    came = line.run(hold_ups=[(2000.0, 2000.0)])
    check(line, came, 5.0, 2000.0)
    for call, x in enumerate(came):
        assert not len(np.setdiff1d(all_ms(flows[call], call, calls), x.ms))
        names = ("lost", "overflow", "stale", "inserted", "trimmed")
        assert {name: x.count[name] for name in names} == dict.fromkeys(names, 0)


class EveryOther:
    """A link that loses every other packet, and brings the rest 20 times too fast."""

    def carry(self, flow, seed):
        kept = np.arange(0, len(flow), 2)
        return Arrivals(flow.at[kept] / 20, kept)


def test_a_flood_of_gaps_stays_within_the_pool():
    calls = 8
    line = Line([talk(8.0, ptime=10)] * calls, [EveryOther()] * calls)
    most = 0
    for now in np.arange(5.0, 1200.0, 5.0):
        line.tick(now)
        most = max(most, len(line.up.jitter))
    assert 100 < most <= max(256, 4 * calls)
    assert line.most_waiting <= MAX_WAITING + MAX_ROUNDS
    assert len(line.up.jitter) == 0


# ---- an hour -------------------------------------------------------------------------------------


def test_an_hour_with_clocks_that_differ():
    """±300 ppm make 1.08 s in an hour: slips make it good, no drift, no growth."""
    ptime, period = 60, 120.0
    flows = [talk(3600.0, ptime=ptime, ppm=ppm) for ppm in (300.0, -300.0)]
    line = Line(flows, [Impairment(jitter=5.0)] * 2, keep=False)
    blocks = []
    for number, now in enumerate(np.arange(period, line.end, period).tolist()):
        line.tick(now)
        if number % 5000 == 1000:
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    assert line.lag_most <= BEHIND_MS + period
    assert line.lag_least >= -AHEAD_MS
    made_good = line.c["n_trimmed"][0] * ptime, line.c["n_inserted"][1] * FRAME_MS
    assert made_good == pytest.approx((1080, 1080), abs=150)
    assert line.c["n_lost"].tolist() == line.c["n_stale"].tolist() == [0, 0]
    assert max(blocks[1:]) - blocks[0] < 200, "nothing grows"
