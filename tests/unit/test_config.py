"""bridge.toml as a whole: one Asterisk or several, and what a reload changes."""

import pytest

from bridge.config import load, reload
from bridge.errors import ConfigError

ONE = '[asterisk]\nurl = "http://10.0.0.1:8088"\n'
TWO = """
[[asterisk]]
name = "north"
url = "http://10.0.0.1:8088"
[[asterisk]]
name = "south"
url = "http://10.0.0.2:8088"
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine").mkdir()
    return tmp_path / "bridge.toml"


def test_one_asterisk_needs_no_name(file):
    file.write_text(ONE)
    (one,) = load(file).asterisk
    assert (one.name, one.url) == ("", "http://10.0.0.1:8088")
    assert one.call_of("1.2") == "1.2" == one.channel_of("1.2")


def test_several_asterisks_have_calls_of_their_own(file):
    file.write_text(TWO)
    north, south = load(file).asterisk
    assert north.call_of("1.2") == "north-1.2" != south.call_of("1.2")
    assert north.channel_of("north-1.2") == "1.2"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TWO.replace("south", "north"), "'name' of its own"),
        (TWO.replace('name = "south"\n', ""), "'name' of its own"),
        (TWO.replace("south", "south-east"), "letters and digits"),
        ("asterisk = []", "takes tables"),
        ("asterisk = [1]", "takes tables"),
        ('[[asterisk]]\nuri = "x"', "did you mean 'url'"),
    ],
)
def test_what_is_wrong_with_several_is_said(file, text, told):
    file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        load(file)


def test_a_reload_changes_what_it_can_and_names_the_rest(file):
    file.write_text(ONE)
    before = load(file)
    file.write_text(
        '[asterisk]\nurl = "http://10.0.0.9:8088"\n[media]\nport = 7002\n[worker]\ndrain_s = 5.0\n'
        'takeover = false\n[log]\nlevel = "debug"\n[agents]\nfolder = "mine"\n'
    )
    after, ignored = reload(before, file)
    assert (after.worker.drain_s, after.log.level) == (5.0, "debug")
    assert after.agents.folder.endswith("mine")
    assert (after.asterisk, after.media.port) == (before.asterisk, before.media.port)
    assert after.worker.takeover is True
    assert ignored == ["[asterisk]", "[media] port", "[worker] takeover"]


def test_a_reload_of_the_same_ignores_nothing(file):
    file.write_text(ONE)
    assert reload(load(file), file) == (load(file), [])


def test_a_bad_file_is_not_reloaded(file):
    file.write_text(ONE)
    before = load(file)
    file.write_text("[asterisk")
    with pytest.raises(ConfigError, match="no TOML"):
        reload(before, file)
