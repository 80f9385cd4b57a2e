"""Who of the workers is dead: a rule on what Redis says of them. Pure.

Two things are known of a worker: how long it has not renewed its lease, by Redis' own clock, and
which media process it uses, so who shares its host (`Member.place`).

    left              it says so itself, and has let go of its calls
    lease run out     it was not heard of for `TTL_S`: dead, or frozen
    host silent       no worker of its host was heard of for `HOST_TTL_S`: the whole host is gone

The last is quicker because nobody else can tell: where a worker dies and its host lives on, the
media process says so at once. A worker that is only held up is spared as long as a neighbour beats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from bridge.sessions.base import Member

TTL_S = 3.0
HOST_TTL_S = 1.5
BEAT_S = 0.3


def member(name: str, left_ms: float, about: str) -> Member:
    """What the registry holds of a worker; `left_ms` is what is left of its lease."""
    said = json.loads(about)
    left = bool(said.get("left", False))
    return Member(
        name=name,
        alive=left_ms > 0 and not left,
        started=float(said.get("started", 0)),
        load=int(said.get("load", 0)),
        takes=bool(said.get("takes", False)),
        place=str(said.get("place", "")),
        active=int(said.get("active", 0)),
        left=left,
        kept=bool(said.get("kept", True)),
        idle_s=max(0.0, TTL_S - left_ms / 1000),
    )


def last_heard(members: Iterable[Member]) -> Mapping[str, float]:
    """For each host, how long ago any of its workers was heard of, s."""
    idle: dict[str, float] = {}
    for one in members:
        idle[one.place] = min(idle.get(one.place, one.idle_s), one.idle_s)
    return idle


def dead(members: Iterable[Member], place: str, trusted_s: float) -> list[str]:
    """Names of the workers that are dead.

    Args:
        members: as Redis tells.
        place: our own host, which the media process watches.
        trusted_s: for how long Redis has answered us well without a break. Who was not heard of
            while Redis was slow or away may well live.
    """
    everybody = list(members)
    silent = last_heard(m for m in everybody if not m.left)
    return [
        one.name
        for one in everybody
        if one.left
        or (not one.alive and trusted_s >= TTL_S)
        or (
            one.place != place
            and trusted_s >= HOST_TTL_S
            and silent.get(one.place, 0.0) >= HOST_TTL_S
        )
    ]


def next_look_s(members: Iterable[Member], place: str) -> float:
    """How long until a silent host would be known to be dead; at most a beat."""
    hosts = {p: s for p, s in last_heard(members).items() if p != place}
    waits = [HOST_TTL_S - s + 0.01 for s in hosts.values() if s < HOST_TTL_S]
    return max(0.05, min([BEAT_S, *waits]))
