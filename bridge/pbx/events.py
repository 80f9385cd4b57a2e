"""ARI's events, as far as a call cares for them: JSON text in, one small dataclass out.

Asterisk knows dozens of event types and gets more with every release; what is not in `_PARSERS` is
no error, it is None. Asterisk is asked to send only what we know (`TYPES`), because each call of
ours would else bring some twenty ChannelVarset, Dial and bridge events for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.pbx.base import Dtmf, Hold


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel, as Asterisk describes it in events and listings."""

    id: str
    name: str
    caller_number: str
    caller_name: str
    dialed: str
    language: str
    application: str
    """The dialplan application that it runs now, such as `Stasis` or `Dial`."""
    application_data: str
    """That application's arguments: `ari-bridge,receptionist`."""


@dataclass(frozen=True, slots=True)
class Started:
    """A channel entered our Stasis application: a caller's, or our own external media."""

    channel: Channel
    args: tuple[str, ...]
    app: str = ""
    """Of ours, which it entered."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A channel left our Stasis application, whatever the way."""

    channel_id: str
    app: str = ""
    """Of ours, which it left; it may have been moved to another of ours."""


@dataclass(frozen=True, slots=True)
class MoveFailed:
    """A channel that was to be moved to another application is still in ours."""

    channel_id: str


@dataclass(frozen=True, slots=True)
class HangupRequested:
    """A channel will be hung up; `Ended` follows."""

    channel_id: str


@dataclass(frozen=True, slots=True)
class Destroyed:
    """A channel is no more."""

    channel_id: str
    cause: int = 0
    """Why, as Q.850 has it; 0: not told."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A channel that was dialled was answered."""

    channel_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A channel that was dialled was not answered; `Destroyed` follows, which mostly knows less."""

    channel_id: str
    cause: int
    """As Q.850 has it."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that a leg's owner wants to know of the caller's channel."""

    channel_id: str
    what: Dtmf | Hold


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another WebSocket took our application's name: we get no events any more."""


@dataclass(frozen=True, slots=True)
class Echo:
    """An event that we sent to our application ourselves has come back."""


AriEvent = (
    Started
    | Ended
    | HangupRequested
    | Destroyed
    | Answered
    | Failed
    | Told
    | Replaced
    | MoveFailed
    | Echo
)
# Dial()'s words, where the far end is a dialplan and gives no cause.
_FAILED = {"BUSY": 17, "NOANSWER": 19, "CHANUNAVAIL": 20, "CONGESTION": 34}
ECHO = "ari-bridge-echo"
"""The name of that event."""


def parse(text: str) -> AriEvent | None:
    """What an event's text says; None for a type that we don't know.

    Raises:
        ValueError: it is no JSON, or lacks what an event of its type must have.
    """
    message = json.loads(text)
    try:
        parser = _PARSERS.get(message["type"])
        return None if parser is None else parser(message)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event of ARI's: {error!r}") from error


def channel(table: dict[str, Any]) -> Channel:
    """A `Channel` of Asterisk's JSON.

    Raises:
        KeyError, TypeError, AttributeError: it has no id, or is no channel at all.
    """
    caller = table.get("caller", {})
    dialplan = table.get("dialplan", {})
    return Channel(
        id=table["id"],
        name=table.get("name", ""),
        caller_number=caller.get("number", ""),
        caller_name=caller.get("name", ""),
        dialed=dialplan.get("exten", ""),
        language=table.get("language", ""),
        application=dialplan.get("app_name", ""),
        application_data=dialplan.get("app_data", ""),
    )


def _dialed(channel_id: str, status: str) -> Answered | Failed | None:
    if status == "ANSWER":
        return Answered(channel_id)
    return Failed(channel_id, _FAILED[status]) if status in _FAILED else None


_PARSERS: dict[str, Callable[[dict[str, Any]], AriEvent | None]] = {
    "StasisStart": lambda m: Started(
        channel(m["channel"]), tuple(m.get("args", ())), m.get("application", "")
    ),
    "StasisEnd": lambda m: Ended(m["channel"]["id"], m.get("application", "")),
    "ApplicationMoveFailed": lambda m: MoveFailed(m["channel"]["id"]),
    "ChannelHangupRequest": lambda m: HangupRequested(m["channel"]["id"]),
    "ChannelDestroyed": lambda m: Destroyed(m["channel"]["id"], int(m.get("cause", 0))),
    "Dial": lambda m: _dialed(m["peer"]["id"], m["dialstatus"]),
    "ChannelDtmfReceived": lambda m: Told(
        m["channel"]["id"], Dtmf(m["digit"], int(m["duration_ms"]))
    ),
    "ChannelHold": lambda m: Told(m["channel"]["id"], Hold(on=True)),
    "ChannelUnhold": lambda m: Told(m["channel"]["id"], Hold(on=False)),
    "ApplicationReplaced": lambda m: Replaced(),
    "ChannelUserevent": lambda m: Echo() if m["eventname"] == ECHO else None,
}
TYPES: tuple[str, ...] = tuple(_PARSERS)
"""The event types that we ask Asterisk for."""
