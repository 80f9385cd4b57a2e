import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.pbx.base import Dtmf, Hold
from bridge.pbx.events import (
    TYPES,
    Channel,
    Destroyed,
    Echo,
    Ended,
    Failed,
    HangupRequested,
    MoveFailed,
    Replaced,
    Started,
    Told,
    parse,
)

# As Asterisk 22.10.1 sent it.
CHANNEL = {
    "id": "1795364884.6",
    "name": "PJSIP/anonymous-00000002",
    "state": "Ring",
    "protocol_id": "1-2@127.0.0.1",
    "caller": {"name": "Ann", "number": "555"},
    "connected": {"name": "", "number": ""},
    "accountcode": "",
    "dialplan": {
        "context": "callers",
        "exten": "700",
        "priority": 2,
        "app_name": "Stasis",
        "app_data": "ari-bridge,receptionist,two",
    },
    "creationtime": "2026-11-22T16:25:46.425+0000",
    "language": "en",
}


def event(kind, **more):
    return json.dumps({"type": kind, "timestamp": "2026", "channel": CHANNEL, **more})


def dial(status):
    return json.dumps({"type": "Dial", "peer": CHANNEL, "dialstatus": status, "dialstring": "x"})


def test_start():
    assert parse(event("StasisStart", args=["receptionist", "two"])) == Started(
        Channel(
            id="1795364884.6",
            name="PJSIP/anonymous-00000002",
            caller_number="555",
            caller_name="Ann",
            dialed="700",
            language="en",
            application="Stasis",
            application_data="ari-bridge,receptionist,two",
        ),
        ("receptionist", "two"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (event("StasisEnd"), Ended("1795364884.6")),
        (event("ChannelHangupRequest", cause=16, soft=True), HangupRequested("1795364884.6")),
        (event("ChannelDestroyed", cause=16, cause_txt="x"), Destroyed("1795364884.6", 16)),
        (dial("BUSY"), Failed("1795364884.6", 17)),
        (dial("CONGESTION"), Failed("1795364884.6", 34)),
        (dial("RINGING"), None),
        (
            event("ChannelDtmfReceived", digit="#", duration_ms=100),
            Told("1795364884.6", Dtmf("#", 100)),
        ),
        (event("ChannelHold"), Told("1795364884.6", Hold(on=True))),
        (event("ChannelUnhold"), Told("1795364884.6", Hold(on=False))),
        (json.dumps({"type": "ApplicationReplaced", "application": "x"}), Replaced()),
        (event("ApplicationMoveFailed", destination="y"), MoveFailed("1795364884.6")),
        (event("StasisEnd", application="x"), Ended("1795364884.6", "x")),
        (json.dumps({"type": "ChannelUserevent", "eventname": "ari-bridge-echo"}), Echo()),
        (event("ChannelUserevent", eventname="somebody's"), None),
    ],
)
def test_what_a_call_cares_for(text, said):
    assert parse(text) == said


def test_every_type_that_we_ask_for_is_tested_here():
    tested = {"StasisStart", "StasisEnd", "ChannelHangupRequest", "ChannelDestroyed"}
    tested |= {"ChannelDtmfReceived", "ChannelHold", "ChannelUnhold", "ApplicationReplaced"}
    tested |= {"ApplicationMoveFailed", "ChannelUserevent", "Dial"}
    assert set(TYPES) == tested


def test_an_unknown_type_is_nothing():
    assert parse(event("ChannelTransferredToMars")) is None


def test_a_channel_may_lack_what_is_not_its_id():
    message = {"type": "StasisStart", "channel": {"id": "1.1"}}
    assert parse(json.dumps(message)).channel.id == "1.1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"type": "StasisEnd"}',
        '{"type": "StasisEnd", "channel": null}',
        '{"type": "StasisStart", "channel": {"id": "1", "caller": "Ann"}}',
        '{"type": "ChannelDtmfReceived", "channel": {"id": "1"}, "digit": "1"}',
    ],
)
def test_what_is_no_event_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse(text)


VALUES = st.sampled_from(
    [None, True, 3, -0.5, "", "x", [], ["x"], {}, {"id": None}, {"id": "1"}, {"id": 1, "caller": 2}]
)


@settings(deadline=None)
@given(
    st.sampled_from(TYPES),
    st.dictionaries(st.sampled_from(["channel", "args", "digit", "duration_ms"]), VALUES),
)
def test_nothing_but_a_value_error(kind, rest):
    with contextlib.suppress(ValueError):
        parse(json.dumps({**rest, "type": kind}))
