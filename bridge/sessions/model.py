"""What is remembered of a call, and how it stands in Redis.

A call is one hash and one stream; their names share a hash tag, so a Cluster keeps them together:

    ari-bridge:{ID}:call         hash    the `Record`, one field each, as text
    ari-bridge:{ID}:transcript   stream  one `Line` an entry, in order, agent text as heard
    ari-bridge:{ID}:keys         list    keys pressed while it went from owner to owner
    ari-bridge:calls             zset    every call that is still stored, by the time it began
    ari-bridge:live              hash    the owner of every call that hasn't ended
    ari-bridge:rejoin:AGENT:NUMBER       the last call of a caller whose line dropped, for a while
    ari-bridge:{records}:stream  stream  calls that ended, for the webhook that hasn't taken them

The first two carry `v`, the version of their form. Two neighbouring versions hand calls to each
other: what one doesn't know it leaves as it is, and what is missing has a default. Times are
seconds since the epoch. An ended call stays for `RedisSettings.keep_ended_s`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FORM = "1"
PREFIX = "ari-bridge"
INDEX = f"{PREFIX}:calls"
LIVE = f"{PREFIX}:live"
RECORDS = f"{PREFIX}:{{records}}:stream"

BARGE_IN = "barge-in"
"""The event that the caller has cut the agent short."""

Role = Literal["caller", "agent", "dtmf", "event"]
State = Literal["setup", "ringing", "talking", "ended"]
Direction = Literal["in", "out"]


def call_key(call_id: str) -> str:
    """Name of the call's hash."""
    return f"{PREFIX}:{{{call_id}}}:call"


def transcript_key(call_id: str) -> str:
    """Name of the call's transcript stream."""
    return f"{PREFIX}:{{{call_id}}}:transcript"


def keys_key(call_id: str) -> str:
    """Where keys wait that were pressed between two owners."""
    return f"{PREFIX}:{{{call_id}}}:keys"


def rejoin_key(agent: str, caller: str) -> str:
    """Where the call is named that this caller may go on with."""
    return f"{PREFIX}:rejoin:{agent}:{caller}"


CUT_OFF = ("hung-up", "lost", "failed", "shutdown")
"""Results of calls that the agent didn't bring to an end."""
_NOBODY = ("", "anonymous", "unknown", "private", "restricted", "unavailable", "withheld")


def known_caller(number: str) -> bool:
    """Whether a number says who calls."""
    return number.strip().lower() not in _NOBODY


@dataclass(slots=True)
class Record:
    """The state of one call."""

    call_id: str
    agent: str = ""
    engine: str = ""
    worker: str = ""
    """The owner. Every write carries the owner's `fence`; one lower than stored is refused."""
    fence: int = 0
    pbx: str = ""
    bridge_id: str = ""
    """The mixing bridge that was made for the call."""
    media_id: str = ""
    """The external-media channel that was made for the call."""
    media_port: str = ""
    """Where its RTP comes from at that host, if that is a relay of ours."""
    joined: str = ""
    """Not empty: the caller was put into that mixing bridge."""
    place: str = ""
    """Where its audio flows: the media process' `Member.place`."""
    media_address: str = ""
    """That media process' address for RTP."""
    numbers: str = ""
    """SSRC, sequence number and timestamp of our packets to the PBX at `numbers_at`."""
    numbers_at: float = 0.0
    net_s: str = ""
    """The time limit that the PBX had for the call before we set ours, s; empty: not changed."""
    callee: str = ""
    """`ringing` or `answered`: somebody was rung for the caller, who is set aside meanwhile."""
    callee_id: str = ""
    """His channel."""
    rate: int = 0
    """The engine's sample rate, Hz; 0 until the conversation has begun."""
    progress: str = ""
    """A `bridge.sessions.progress.Progress`."""
    direction: Direction = "in"
    """`out`: we have called."""
    caller: str = ""
    """The number of who talks with the agent, whichever side has called."""
    caller_id: str = ""
    """Of a call of ours: the number that was shown."""
    dialed: str = ""
    order: str = ""
    """Of a call of ours: how the PBX was to call, a `bridge.pbx.base.Outgoing` as JSON."""
    variables: str = ""
    """What the dialplan passed besides the agent's name: a list, JSON."""
    codec: str = ""
    state: State = "setup"
    result: str = ""
    """How it ended: `hung-up`, `transferred`, `done`, `failed`, `unknown-agent`, `shutdown`; of a
    call of ours also `busy`, `no-answer`, `congestion`, `unavailable`, `machine`, `cancelled`."""
    reason: str = ""
    """One line more about the result, for people."""
    latency: str = ""
    """Of each turn and interruption where its time went: a list of `TurnLatency.record`, JSON."""
    audio: str = ""
    """How good the audio is, on both legs: `LineQuality.now`, as JSON; at the end, how it was."""
    recording: str = ""
    """JSON: `{"parts": [paths without suffix], "on": bool, "started": s, "since": s}`, `since` when
    `on` was changed, 0: never. Empty: not recorded."""
    started: float = 0.0
    answered: float = 0.0
    ended: float = 0.0
    rejoin_s: int = 0
    """How long after a cut-off the caller may go on with the conversation; 0: not at all."""
    other: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What a newer version of the program wrote; kept as it is."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Record:
        """Read a hash back; missing fields have their defaults, unknown ones go to `other`."""
        known = {f.name: f.type for f in dataclasses.fields(cls) if f.name != "other"}
        read = {"float": float, "int": int}
        ours = {
            name: read.get(str(known[name]), str)(text)
            for name, text in fields.items()
            if name in known
        }
        other = {name: text for name, text in fields.items() if name not in (*known, "v")}
        return cls(**ours, other=other)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a transcript."""

    at: float
    role: Role
    text: str
    heard_ms: int | None = None
    """Of agent speech: how much of it the caller heard."""
    cut: bool = False
    """The caller interrupted it."""
    begin: float = 0.0
    """When it was begun to be said; 0: not known."""
    end: float = 0.0
    """The same of its end."""

    def fields(self) -> dict[str, str]:
        """As a stream entry."""
        entry = {"v": FORM, "at": f"{self.at:.3f}", "role": self.role, "text": self.text}
        if self.heard_ms is not None:
            entry |= {"heard_ms": str(self.heard_ms), "cut": str(int(self.cut))}
        if self.begin:
            entry |= {"begin": f"{self.begin:.3f}", "end": f"{self.end:.3f}"}
        return entry

    @classmethod
    def from_fields(cls, entry: Mapping[str, str]) -> Line:
        """Read a stream entry back."""
        heard = entry.get("heard_ms")
        role: Role = entry["role"]  # type: ignore[assignment]
        return cls(
            at=float(entry["at"]),
            role=role,
            text=entry["text"],
            heard_ms=None if heard is None else int(heard),
            cut=entry.get("cut") == "1",
            begin=float(entry.get("begin", 0)),
            end=float(entry.get("end", 0)),
        )
