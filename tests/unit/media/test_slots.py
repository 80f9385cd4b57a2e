"""The shared map."""

import itertools

import numpy as np
import pytest

from bridge.errors import MediaError
from bridge.media.slots import STATE_SPEC, SlotMap


def test_two_who_map_it_see_the_same(tmp_path):
    made = SlotMap.create(tmp_path / "slots", 3, 1000)
    seen = SlotMap.attach(tmp_path / "slots")
    made.columns["t_head"][2] = 12_345
    made.play[8][1, 0, 49] = 7
    assert seen.columns["t_head"][2] == 12_345
    assert (seen.columns["play"][1, 0, 49 * 160 : 50 * 160] == 7).all()
    assert set(seen.columns) == {*STATE_SPEC, "up", "play"}


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
