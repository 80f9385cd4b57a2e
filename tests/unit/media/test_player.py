"""What a worker puts in, what media takes out, and what of it was heard."""

import numpy as np
import pytest

from bridge.audio.resample import ResamplerBank
from bridge.media.downlink import PLAYING, Downlink
from bridge.media.inherited import Inherited
from bridge.media.player import MARGIN_S, Player, flush_all, pour
from bridge.media.reflex import ReflexBank
from bridge.media.slots import SlotMap

CALL = np.array([1])


class NoLink:
    """Keeps what was sent."""

    def __init__(self, calls):
        self.out = np.zeros((calls, 700), np.uint8)
        self.sent = []

    def send(self, calls, length):
        self.sent += [(int(c), self.out[i, :length].copy()) for i, c in enumerate(calls)]
        return len(calls)


class Line:
    def __init__(self, folder, rate=8000, codec=3):
        self.slots = SlotMap.create(folder / "slots", 2, 2000)
        self.c = self.slots.columns
        self.c["codec"][1] = codec
        self.link = NoLink(2)
        self.down = Downlink(self.slots, self.link, ReflexBank(self.slots.columns))
        self.player = Player(self.slots, 1, 0, rate)

    def tick(self, n=1):
        """Send n frames; returns their samples (n, 160) of L16."""
        start = len(self.link.sent)
        for _ in range(n):
            self.down.send(CALL)
        payloads = [data[12:].view(">i2") for _, data in self.link.sent[start:]]
        return np.array(payloads, np.int16)

    @property
    def numbers(self):
        heads = [data[:12] for _, data in self.link.sent]
        return [
            (int(h[2]) << 8 | int(h[3]), int.from_bytes(h[4:8].tobytes(), "big")) for h in heads
        ]


@pytest.fixture
def line(tmp_path):
    return Line(tmp_path)


def ramp(n, start=1):
    return (np.arange(n) % 1000 + start).astype(np.int16)


def test_samples_come_out_as_they_went_in(line):
    assert line.player.play(1, ramp(320)) == 320
    assert (line.tick(2).ravel() == ramp(320)).all()
    assert not line.tick().ravel()[80:].any()


def test_odd_pieces_are_joined_and_the_rest_waits_for_done(line):
    pcm = ramp(500)
    for at in range(0, 500, 37):
        line.player.play(1, pcm[at : at + 37])
    assert line.player.queued_ms == 60
    line.player.done(1)
    assert line.player.queued_ms == 80
    out = line.tick(4).ravel()
    assert (out[:500] == pcm).all()
    assert not out[500:].any()


def test_numbers_go_on_through_everything(line):
    line.player.play(1, ramp(800))
    line.tick(2)
    line.player.pause()
    line.tick(3)
    line.player.resume()
    line.tick(1)
    line.player.clear()
    line.tick(4)
    seq, ts = zip(*line.numbers, strict=True)
    assert set(np.diff(seq)) == {1}
    assert set(np.diff(ts)) == {160}


def test_heard_counts_what_went_out(line):
    line.player.play(7, ramp(480))
    line.player.done(7)
    line.player.play(8, ramp(160))
    assert line.player.heard(7) == 0
    line.tick(2)
    assert (line.player.heard(7), line.player.heard(8)) == (320, 0)
    line.tick(2)
    assert (line.player.heard(7), line.player.heard(8)) == (480, 160)


def test_padding_is_not_heard(line):
    line.player.play(7, ramp(100))
    line.player.done(7)
    line.tick()
    assert line.player.heard(7) == 100


def test_heard_items_tells_each_change_once(line):
    line.player.play(1, ramp(320))
    line.player.play(2, ramp(160))
    line.player.done(2)
    assert line.player.heard_items() == {}
    line.tick()
    assert line.player.heard_items() == {1: 160}
    line.tick(2)
    assert line.player.heard_items() == {1: 320, 2: 160}
    assert line.player.heard_items() == {}


def test_a_pause_fades_and_goes_on_with_the_same_frame(line):
    line.player.play(1, np.full(800, 9000, np.int16))
    line.tick(2)
    line.player.pause()
    faded = line.tick().ravel()
    assert faded[0] == 9000
    assert (np.abs(np.diff(faded[:65].astype(int))) < 300).all()
    assert not faded[64:].any()
    assert not line.tick(5).any()
    assert line.player.heard(1) == 320
    line.player.resume()
    back = line.tick(3).ravel()
    assert back[0] < 300, "faded in"
    assert (back[64:] == 9000).all()
    assert line.player.heard(1) == 800


def test_clear_drops_and_what_was_heard_is_final(line):
    line.player.play(1, np.full(1600, 9000, np.int16))
    line.tick(3)
    line.player.clear()
    assert not line.player.cleared
    faded = line.tick().ravel()
    assert not faded[64:].any()
    assert line.player.cleared
    assert line.player.heard_items() == {1: 480}
    assert not line.tick(3).any()
    assert (line.player.heard(1), line.player.queued_ms) == (480, 0)


def test_what_is_played_after_a_clear_is_heard_in_full(line):
    line.player.play(1, ramp(800))
    line.tick(1)
    line.player.clear()
    line.player.play(2, ramp(320))
    line.player.done(2)
    line.tick(1)
    assert (line.tick(2).ravel() == ramp(320)).all()
    assert (line.player.heard(1), line.player.heard(2)) == (160, 320)


def test_what_was_less_than_a_frame_when_cleared_was_never_heard(line):
    line.player.play(1, ramp(200))
    line.tick(2)
    assert line.player.heard(1) == 160
    line.player.clear()
    line.player.play(2, ramp(100))
    line.player.clear()
    line.player.play(3, ramp(160))
    line.tick(2)
    assert [line.player.heard(n) for n in (1, 2, 3)] == [160, 0, 160]
    assert line.player.heard_items() == {1: 160, 2: 0, 3: 160}
    line.player.done(3)
    assert line.player.heard_items() == {3: 160}


def test_two_clears_before_media_looks(line):
    line.player.play(1, ramp(320))
    line.tick(1)
    line.player.clear()
    line.player.play(2, ramp(320))
    line.player.clear()
    line.player.play(3, ramp(160))
    line.tick(2)
    assert (line.player.heard(1), line.player.heard(2), line.player.heard(3)) == (160, 0, 160)


def test_clear_of_an_empty_queue(line):
    line.player.clear()
    assert line.player.cleared
    line.player.play(1, ramp(160))
    assert (line.tick().ravel() == ramp(160)).all()


def test_the_ring_is_bounded(line):
    taken = line.player.play(1, ramp(50_000))
    assert taken == 66 * 160, "what was just played stays, to know its echo by"
    assert line.player.play(1, ramp(160)) == 0
    line.tick(10)
    assert line.player.play(1, ramp(50_000)) == 1600


def test_more_than_a_ring_in_the_end(line):
    pcm = ramp(40_000)
    sent, out = 0, []
    while sent < len(pcm):
        sent += line.player.play(1, pcm[sent : sent + 3000])
        out.append(line.tick(5))
    line.player.done(1)
    out.append(line.tick(98))
    assert (np.concatenate([o.ravel() for o in out])[: len(pcm)] == pcm).all()
    assert line.player.heard(1) == len(pcm)


def test_an_underflow_dies_away_and_is_counted(line):
    line.player.play(1, np.full(160, 9000, np.int16))
    line.tick()
    dry = line.tick().ravel()
    assert 8000 < dry[0] <= 9000
    assert (np.abs(np.diff(dry.astype(int))) < 300).all()
    assert line.c["n_underflow"][1] == 1
    line.player.play(1, np.full(160, 9000, np.int16))
    line.player.done(1)
    line.tick(3)
    assert line.c["n_underflow"][1] == 1, "the end of an item is none"


@pytest.mark.parametrize("rate", [16000, 24000, 48000])
def test_resampled_it_is_the_same_length_and_heard_in_full(tmp_path, rate):
    line = Line(tmp_path, rate)
    t = np.arange(rate // 2) / rate
    pcm = np.rint(9000 * np.sin(2 * np.pi * 700 * t)).astype(np.int16)
    for at in range(0, len(pcm), 777):
        line.player.play(1, pcm[at : at + 777])
    line.player.done(1)
    out = line.tick(26).ravel()
    want = np.rint(9000 * np.sin(2 * np.pi * 700 * np.arange(4000) / 8000))
    assert np.abs(out[100:3900].astype(int) - want[84:3884]).max() < 150
    assert line.player.heard(1) == len(pcm)


@pytest.mark.parametrize("rate", [16000, 24000])
def test_heard_in_the_middle_is_exact_to_the_frame(tmp_path, rate):
    line = Line(tmp_path, rate)
    line.player.play(1, np.ones(rate, np.int16))
    line.tick(10)
    assert abs(line.player.heard(1) - rate * 0.2) <= rate * 0.02
    line.player.clear()
    line.tick()
    assert abs(line.player.heard(1) - rate * 0.2) <= rate * 0.02


def test_an_owner_s_heir_plays_after_what_was_queued(line):
    line.player.play(1, ramp(320))
    line.tick()
    line.down.hand_over(1)
    heir = Player(line.slots, 1, line.down.newest_ring(1), 8000)
    heir.play(9, ramp(160, 5000))
    line.player.play(1, ramp(320, 9000))  # a zombie goes on writing, unheard
    out = line.tick(3)
    assert (out[0] == ramp(320)[160:]).all()
    assert (out[1] == ramp(160, 5000)).all()
    assert not out[2][80:].any()
    assert heir.heard(9) == 160


def test_an_heir_may_drop_what_was_queued(line):
    line.player.play(1, np.full(1600, 9000, np.int16))
    line.tick()
    line.down.hand_over(1)
    heir = Player(line.slots, 1, line.down.newest_ring(1), 8000)
    heir.clear()
    assert not line.tick().ravel()[64:].any()
    assert not line.tick().any()


def test_what_was_queued_outlives_an_heir_who_said_nothing(line):
    line.player.play(1, ramp(480))
    line.tick()
    line.down.hand_over(1)
    dead = line.down.newest_ring(1)
    line.tick()
    line.down.hand_over(1)
    assert line.down.newest_ring(1) == dead
    left = Inherited(line.slots, 1, 1 - dead)
    assert [one.samples for one in left.items] == [480]
    heir = Player(line.slots, 1, dead, 8000)
    heir.play(9, ramp(160, 5000))
    out = line.tick(2)
    assert (out[0] == ramp(480)[320:]).all()
    assert (out[1] == ramp(160, 5000)).all()


def test_what_two_owners_had_queued_is_all_played(line):
    line.player.play(1, ramp(480))
    line.tick()
    line.down.hand_over(1)
    second = Player(line.slots, 1, line.down.newest_ring(1), 8000)
    second.forget_items()
    second.play(2, ramp(160, 5000))
    second.done(2)
    second.play(3, ramp(160, 7000))
    line.player.play(9, ramp(320, 9000))  # the first is a zombie
    line.down.hand_over(1)
    assert line.down.newest_ring(1) == second.ring
    left = Inherited(line.slots, 1, 1 - second.ring)
    assert [(one.item, one.samples, one.done) for one in left.items] == [
        (1, 480, True),
        (2, 160, True),
        (3, 160, False),
    ]
    third = Player(line.slots, 1, second.ring, 8000)
    third.forget_items()
    third.play(4, ramp(160, 9000))
    out = line.tick(5)
    assert (out[:2].ravel() == ramp(480)[160:]).all()
    assert (out[2] == ramp(160, 5000)).all()
    assert (out[3] == ramp(160, 7000)).all()
    assert (out[4] == ramp(160, 9000)).all()
    assert left.heard_items() == {1: 480, 2: 160, 3: 160}
    assert third.heard(4) == 160


def test_what_an_owner_had_dropped_no_heir_plays(line):
    line.player.play(1, ramp(480))
    line.tick()
    line.down.hand_over(1)
    second = Player(line.slots, 1, line.down.newest_ring(1), 8000)
    second.clear()
    line.down.hand_over(1)
    assert not line.tick(3)[:, 80:].any()


def test_an_owner_who_said_nothing_leaves_nothing(line):
    line.down.hand_over(1)
    line.tick()
    line.down.hand_over(1)
    left = Inherited(line.slots, 1, 1 - line.down.newest_ring(1))
    assert left.items == ()
    assert left.heard_items() == {}


@pytest.mark.parametrize("carried_out", [True, False])
def test_what_an_owner_had_dropped_is_known_as_far_as_it_was_heard(line, carried_out):
    line.player.play(1, ramp(160))
    line.player.done(1)
    line.player.play(2, ramp(480))
    line.player.play(3, ramp(320))
    line.tick(2)
    line.player.clear()
    if carried_out:
        line.tick()
    line.down.hand_over(1)
    left = Inherited(line.slots, 1, 1 - line.down.newest_ring(1))
    assert [(one.item, one.samples, one.heard, one.cut) for one in left.items] == [
        (1, 160, 160, False),
        (2, 480, 160, True),
        (3, 320, 0, True),
    ]
    line.tick(2)
    assert left.heard_items() == {1: 160}
    assert left.queued_ms == 0


class Watched(np.ndarray):
    """A column at which somebody looks whenever something was written into it."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.look()


@pytest.mark.parametrize("column", ["play_cuts", "play_cut_count", "play_read"])
@pytest.mark.parametrize("heard", [lambda player: player.heard_items(), lambda p: p.heard(1)])
def test_who_looks_while_media_carries_out_a_clear_takes_nothing_of_it_for_heard(
    line, column, heard
):
    line.player.play(1, ramp(480))
    line.player.done(1)
    line.tick()
    line.player.clear()
    line.c[column] = line.c[column].view(Watched)
    line.c[column].look = lambda: heard(line.player)
    line.tick()
    assert line.player.heard(1) == 160


def test_what_was_said_after_a_clear_is_not_cut(line):
    line.player.play(1, ramp(480))
    line.tick()
    line.player.clear()
    line.player.play(2, ramp(480))
    line.tick(3)
    line.down.hand_over(1)
    left = Inherited(line.slots, 1, 1 - line.down.newest_ring(1))
    assert [(one.item, one.heard, one.cut) for one in left.items] == [
        (1, 160, True),
        (2, 320, False),
    ]


def test_dtx_sends_nothing_in_silence(line):
    line.c["dtx"][1] = True
    line.player.play(1, ramp(160))
    line.player.done(1)
    line.tick(3)
    line.player.play(2, ramp(160))
    line.tick(1)
    heads = [d for _, d in line.link.sent]
    assert len(heads) == 3, "the frame, its dying away, the next"
    assert line.numbers[2][1] - line.numbers[0][1] == 480
    assert [int(h[1]) >> 7 for h in heads][2] == 1, "marker: a talkspurt begins"
    assert line.c["out_state"][1] == PLAYING


@pytest.mark.parametrize("size", [1, 7, 166, 333, 1999])
@pytest.mark.parametrize("alone", [True, False])
def test_pieces_of_any_size_are_published_as_they_come(tmp_path, size, alone):
    slots, due = SlotMap.create(tmp_path / "slots", 8, 2000), []
    bank = ResamplerBank(16000, 8000, 8)
    players = [
        Player(slots, n, 0, 16000, lambda one, _: due.append(one), bank)
        for n in range(1 if alone else 5)
    ]
    given = 0
    for _ in range(max(4, 2000 // size)):
        for player in players:
            assert player.play(1, np.full(size, 1000, np.int16)) == size
        given += size
        round_of, due[:] = list(due), []
        flush_all(round_of)
        # What isn't a whole block (2.5 ms) of the resampler, or a whole frame, waits for more.
        least = (given - 40) // 2 // 160
        assert all(slots.columns["play_write"][p.index, 0] >= least for p in players)
    assert (slots.columns["play_write"][: len(players), 0] > 2).all()


def test_a_stream_that_begins_with_one_frame_waits_for_the_next(tmp_path):
    slots, told = SlotMap.create(tmp_path / "slots", 2, 2000), []
    player = Player(slots, 0, 0, 8000, lambda one, wait_s: told.append(wait_s))

    def given(frames, item=1):
        told.clear()
        player.play(item, np.full(160 * frames, 1000, np.int16))
        return told.copy()

    assert given(1) == [MARGIN_S]
    assert given(1) == [0.0], "the next is there sooner"
    assert given(1) == [], "it was told"
    flush_all([player])
    assert slots.columns["play_write"][0, 0] == 3
    assert given(1) == [0.0], "what comes then is no beginning"
    flush_all([player])
    slots.columns["play_read"][0, 0] = 4
    assert given(1) == [0.0], "nor is what comes of an item that ran dry"
    player.done(1)
    slots.columns["play_read"][0, 0] = slots.columns["play_write"][0, 0]
    assert given(3, item=2) == [0.0], "it has what lasts"
    player.done(2)
    assert given(1, item=3) == [0.0], "something is being played"
    player.done(3)
    slots.columns["play_read"][0, 0] = slots.columns["play_write"][0, 0]
    assert given(1, item=4) == [MARGIN_S]
    player.done(4)
    assert slots.columns["play_write"][0, 0] == slots.columns["play_read"][0, 0] + 1


def played(folder, rates, steps, flows):
    """What is in the rings of players of these rates, whose audio flows or goes the long way."""
    slots, due = SlotMap.create(folder / f"slots-{flows}", len(rates), 2000), []
    banks = {rate: ResamplerBank(rate, 8000, len(rates)) for rate in set(rates) - {8000}}
    players = [
        Player(slots, n, 0, rate, lambda one, _: due.append(one), banks.get(rate))
        for n, rate in enumerate(rates)
    ]
    given = np.zeros(len(rates), int)
    for number, (some, pcm) in enumerate(steps):
        if flows and number:
            pour([players[n] for n in some], some, pcm[some])
        else:
            for n in some:
                players[n].play(1, pcm[n])
        flush_all(due)
        due.clear()
        given[some] += pcm.shape[1]
    for player in players:
        player.done(1)
    slots.columns["play_read"][:] = slots.columns["play_write"]
    assert [player.heard(1) for player in players] == given.tolist()
    return slots.columns["play_write"][:, 0].tolist(), slots.play[8][:, 0].astype(int)


@pytest.mark.parametrize("rates", [(8000,) * 4, (16000,) * 4, (8000, 16000, 24000, 16000)])
def test_what_flows_is_played_and_heard_like_what_goes_the_long_way(tmp_path, rates):
    rng = np.random.default_rng(3)
    steps = [(np.arange(4), rng.integers(-8000, 8000, (4, 480), np.int16))]
    for n in (480, 480, 480, 7, 480, 333, 140, 480, 480, 480, 1920, 480):
        some = rng.permutation(4)[: rng.integers(1, 5)]
        steps.append((some, rng.integers(-8000, 8000, (4, n), np.int16)))
    (ends, flowed), (as_many, given) = (played(tmp_path, rates, steps, f) for f in (True, False))
    assert ends == as_many
    assert np.abs(flowed - given).max() <= 1
    assert np.abs(flowed).max() > 1000
