"""Destinations in an operator's words, and reasons in words that complete a sentence."""

import pytest

from bridge.errors import PbxRefused
from bridge.pbx.destinations import endpoint_of, place_of, why


@pytest.mark.parametrize(
    ("to", "endpoint"),
    [
        ("200", "Local/200@here/n"),
        ("200@there", "Local/200@there/n"),
        ("queue:sales", "Local/sales@ari-bridge-queue/n"),
        ("sip:ann@10.0.0.1:5070", "PJSIP/trunk/sip:ann@10.0.0.1:5070"),
        ("sips:+49123@b.example;transport=tls", "PJSIP/trunk/sips:+49123@b.example;transport=tls"),
    ],
)
def test_what_asterisk_dials(to, endpoint):
    assert endpoint_of(to, "here", "trunk") == endpoint


@pytest.mark.parametrize(
    "to",
    [
        *("", "@there", "200@", "a b", "200)", "${SHELL(x)}", "queue:", "200&PJSIP/x", "../2"),
        *("sip:", "sip:ann", "sip:ann@", "sip:a@b/c", "sip:a@b&PJSIP/d", "PJSIP/ann", "200@x/n"),
    ],
)
def test_nothing_else_is_dialled(to):
    with pytest.raises(PbxRefused):
        endpoint_of(to, "here", "trunk")


@pytest.mark.parametrize("via", ["", "a/b", "x&y"])
def test_a_sip_uri_needs_an_endpoint(via):
    with pytest.raises(PbxRefused, match="sip_endpoint"):
        endpoint_of("sip:ann@b.example", "here", via)


def test_places():
    assert place_of("200", "here") == ("200", "here")
    assert place_of("sip:a@b", "here") is None


def test_why():
    assert why(17) == "busy"
    assert why(0) == "not reachable"
    assert why(99) == "not reachable (cause 99)"
