"""The operator's rules of who may be called."""

import pytest

from bridge import outbound
from bridge.outbound import NotAllowed, OutboundSettings

RULES = OutboundSettings(
    enabled=True,
    destinations=("+4930*", "200", "alice"),
    endpoint="PJSIP/{to}@trunk",
    agents=("reminder",),
    caller_ids=("+49301", "+49302"),
    ring_s=30,
)


@pytest.mark.parametrize(
    ("to", "called"),
    [
        ("+4930123", "+4930123"),
        ("+49 (30) 12-3", "+4930123"),
        ("200", "200"),
        ("2-00", "200"),
        ("alice", "alice"),
    ],
)
def test_who_may_be_called(to, called):
    assert outbound.destination(RULES, to) == called


@pytest.mark.parametrize(
    "to",
    [
        *("+4931123", "4930123", "2000", "alices", "", " ", "+", "*72", "*", "200#", "alice@evil"),
        *("PJSIP/200", "Local/200@internal", "200&201", "200,30", "${EVIL}", "٢٠٠"),
        *("+4930" + "1" * 40, "+4930123@trunk2", "+4930;x", "alice/../bob", "-alice"),
    ],
)
def test_who_may_not(to):
    with pytest.raises(NotAllowed):
        outbound.destination(RULES, to)


def test_it_is_off_by_default():
    with pytest.raises(NotAllowed, match="enabled = true"):
        outbound.destination(OutboundSettings(), "200")


def test_numbers_that_are_shown():
    assert outbound.caller_id(RULES, "") == "+49301"
    assert outbound.caller_id(RULES, "+49302") == "+49302"
    assert outbound.caller_id(OutboundSettings(), "") == ""
    with pytest.raises(NotAllowed, match="caller_ids"):
        outbound.caller_id(RULES, "110")


def test_agents_and_how_long_it_rings():
    assert outbound.agent(RULES, "reminder") == "reminder"
    assert outbound.agent(OutboundSettings(), "any") == "any"
    with pytest.raises(NotAllowed, match="agents"):
        outbound.agent(RULES, "sales")
    assert (outbound.ring_s(RULES, None), outbound.ring_s(RULES, 5)) == (30, 5)
    for asked in (0, -1, 31):
        with pytest.raises(NotAllowed, match="1 to 30"):
            outbound.ring_s(RULES, asked)


def test_variables_are_no_functions():
    given = {"order": "17", "who": "Ann, or Bob"}
    assert outbound.variables(given) == given
    for name in ("SHELL(rm)", "a b", "", "1a", "x,y"):
        with pytest.raises(NotAllowed, match="names are"):
            outbound.variables({name: "1"})
    for value in ("a\nb", "x" * 1001):
        with pytest.raises(NotAllowed, match="too long"):
            outbound.variables({"a": value})
    with pytest.raises(NotAllowed, match="50"):
        outbound.variables({f"v{n}": "" for n in range(51)})


def test_how_the_pbx_calls():
    assert outbound.endpoint(RULES, "+4930123") == "PJSIP/+4930123@trunk"
    local = OutboundSettings(endpoint="Local/{to}@out")
    assert outbound.endpoint(local, "200") == "Local/200@out/n"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"destinations": ("*",)}, "beginnings"),
        ({"destinations": ("+49*30",)}, "beginnings"),
        ({"enabled": True}, "say who may be called"),
        ({"enabled": True, "destinations": ("1",), "endpoint": "PJSIP/1"}, "takes something like"),
        ({"ring_s": 0}, "the least is 1"),
        ({"ring_s": 601}, "the most is 600"),
        ({"max_calls": 0}, "the least is 1"),
        ({"caller_ids": ("Ann",)}, "takes numbers"),
    ],
)
def test_rules_that_can_not_be_meant(settings, told):
    with pytest.raises(ValueError, match=told):
        OutboundSettings(**settings)
