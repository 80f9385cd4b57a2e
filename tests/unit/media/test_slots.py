"""The shared map."""

import itertools

import numpy as np
import pytest

from bridge.audio.columns import Column
from bridge.errors import MediaError
from bridge.media import slots
from bridge.media.slots import FREE, OPEN, STATE_SPEC, SlotMap


def test_two_who_map_it_see_the_same(tmp_path):
    made = SlotMap.create(tmp_path / "slots", 3, 1000)
    seen = SlotMap.attach(tmp_path / "slots")
    made.columns["t_head"][2] = 12_345
    made.play[8][1, 0, 49] = 7
    assert seen.columns["t_head"][2] == 12_345
    assert (seen.columns["play"][1, 0, 49 * 160 : 50 * 160] == 7).all()
    assert set(seen.columns) == {*STATE_SPEC, "up", "play", "down"}


def test_columns_do_not_overlap(tmp_path):
    made = SlotMap.create(tmp_path / "slots", 3, 1000)
    spans = sorted((c.__array_interface__["data"][0], c.nbytes) for c in made.columns.values())
    assert all(a + n <= b for (a, n), (b, _) in itertools.pairwise(spans))


def test_at_every_rate_two_seconds_can_wait_to_be_read(tmp_path):
    made = SlotMap.create(tmp_path / "slots", 3, 1000)
    for rate, ring in made.up.items():
        ring[1] = rate
        assert (made.columns["up"][1, : 2400 * rate] == rate).all(), "views of the map itself"
        assert ring.shape == (3, 120, 20 * rate)


def test_every_row_begins_at_its_defaults(tmp_path):
    made = SlotMap.create(tmp_path / "slots", 3, 1000)
    for name, column in STATE_SPEC.items():
        empty = np.zeros(1, column.dtype) if column.dtype.startswith("S") else column.default
        assert (made.columns[name] == empty).all(), name


def test_reset_keeps_the_neighbours_and_counts_the_generation(tmp_path):
    made = SlotMap.create(tmp_path / "slots", 3, 1000)
    made.columns["t_head"][:] = 9
    made.reset(1)
    assert made.columns["t_head"].tolist() == [9, 0, 9]
    assert made.columns["generation"].tolist() == [0, 1, 0]


def test_an_unknown_version_is_refused(tmp_path):
    SlotMap.create(tmp_path / "slots", 3, 1000)
    data = bytearray((tmp_path / "slots").read_bytes())
    data[8] = 99
    (tmp_path / "slots").write_bytes(data)
    with pytest.raises(MediaError, match="same version of media and workers"):
        SlotMap.attach(tmp_path / "slots")


def test_nothing_there(tmp_path):
    with pytest.raises(MediaError, match="slots"):
        SlotMap.attach(tmp_path / "slots")


def test_a_file_system_without_room_for_the_slots(tmp_path):
    with pytest.raises(MediaError, match="set runtime_dir, or lower max_calls"):
        SlotMap.create(tmp_path / "slots", 2**31, 1000)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(MediaError, match="set runtime_dir"):
        SlotMap.create(tmp_path / "none" / "slots", 3, 1000)


# ---- the neighbouring version of the program


def other_version(path, step, lacks=(), more=()):
    """Make a map as that version would: some columns fewer, or some that we don't know."""
    slots.STATE_SPEC = {n: c for n, c in STATE_SPEC.items() if n not in lacks}
    slots.STATE_SPEC.update({name: Column("i8", 7) for name in more})
    slots.VERSION += step
    return SlotMap.create(path, 3, 1000)


@pytest.mark.parametrize(
    ("step", "lacks", "more"), [(-1, ("up_read", "dtx"), ()), (1, (), ("of_the_future",))]
)
def test_a_neighbours_map_is_used_while_it_has_calls(tmp_path, monkeypatch, step, lacks, more):
    path = tmp_path / "slots"
    with monkeypatch.context() as theirs:
        theirs.setattr(slots, "VERSION", slots.VERSION)
        theirs.setattr(slots, "STATE_SPEC", STATE_SPEC)
        made = other_version(path, step, lacks, more)
    made.columns["state"][1] = OPEN
    made.columns["out_seq"][1] = 1234
    taken = SlotMap.take_over(path, 3, 1000)
    assert taken.columns["out_seq"][1] == 1234
    assert taken.same(path)
    assert taken.columns["up_read"].tolist() == [-1, -1, -1]
    taken.reset(1)
    assert made.columns["out_seq"][1] == 0, "it is one map"
    assert SlotMap.take_over(path, 3, 1000).version == slots.VERSION, "without calls a new one"
    assert not taken.same(path)


def test_a_map_of_another_size_is_used_while_it_has_calls(tmp_path):
    made = SlotMap.create(tmp_path / "slots", 3, 1000)
    made.columns["state"][1] = OPEN
    assert SlotMap.take_over(tmp_path / "slots", 8, 2000).calls == 3
    made.columns["state"][1] = FREE
    assert SlotMap.take_over(tmp_path / "slots", 8, 2000).calls == 8


def test_a_column_of_another_form_is_no_neighbours(tmp_path, monkeypatch):
    path = tmp_path / "slots"
    with monkeypatch.context() as theirs:
        theirs.setattr(slots, "STATE_SPEC", {**STATE_SPEC, "up_read": Column("f4")})
        SlotMap.create(path, 3, 1000).columns["state"][1] = OPEN
    with pytest.raises(MediaError, match="another layout"):
        SlotMap.attach(path)
    assert (SlotMap.take_over(path, 3, 1000).columns["state"] == FREE).all()
