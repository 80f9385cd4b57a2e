"""Whom an agent may transfer to: what stands in its file, and nothing else."""

import pytest

from bridge.agent import parse
from bridge.errors import ConfigError


def settings(**table):
    return parse({"transfer": table}, "a", "a.toml").transfer


def test_an_extension_is_a_destination_of_its_own_name():
    there = settings(extensions=["200"], kind="attended", ring_s=10).find("200")
    assert (there.to, there.kind, there.ring_s) == ("200", "attended", 10)


def test_a_name_leads_where_its_table_says():
    table = settings(to={"sales": {"to": "queue:sales", "ring_s": 60}, "201": {}})
    assert table.find("sales").to == "queue:sales"
    assert table.find("201").to == "201"


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("_2XX", ["200", "299"], ["20", "2000", "300", "2ab", "200@x", ""]),
        ("_NZ.", ["211", "2199"], ["111", "20", "21"]),
        ("_[1-3]0!", ["10", "305"], ["40", "1"]),
        ("_+49.", ["+491"], ["491", "+49"]),
    ],
)
def test_a_pattern_takes_numbers_as_asterisks_does(pattern, yes, no):
    table = settings(to={pattern: {"to": "{number}@internal"}})
    for number in yes:
        assert table.find(number).to == f"{number}@internal"
    for number in no:
        with pytest.raises(ConfigError, match="not in the agent's"):
            table.find(number)


def test_a_pattern_is_no_name():
    with pytest.raises(ConfigError, match="there are: 100, _2XX"):
        settings(extensions=["100"], to={"_2XX": {}}).find("_2XX")


def test_nowhere_is_said_so():
    with pytest.raises(ConfigError, match="there are: none"):
        settings().find("200")
    assert not settings()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"to": {"_2Q": {}}}, "is no pattern"),
        ({"to": {"_": {}}}, "is no pattern"),
        ({"to": {"x": {"ring_s": 0}}}, "it takes 1 to 3600"),
        ({"ring_s": 0}, "it takes 1 to 3600"),
        ({"to": {"x": {"to": "200, please"}}}, "it takes an extension"),
        ({"to": {"x": {"to": "sip:ann"}}, "sip_endpoint": "t"}, "it takes an extension"),
        ({"to": {"x": {"kind": "warm"}}}, "'blind', 'attended', 'dialplan'"),
        ({"to": {"x": {"to": "sip:a@b"}}}, "sip_endpoint"),
        ({"to": {"x": {"to": "queue:a", "kind": "dialplan"}}}, "it takes an extension"),
    ],
)
def test_what_can_not_be_is_said_when_the_file_is_read(table, says):
    with pytest.raises(ConfigError, match=says):
        settings(**table)
