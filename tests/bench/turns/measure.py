"""What the calls were like, from the captures: every figure of the bench's real calls.

**Onset** and **end** of a voice are the corpus' truth, at the moment that the phone spoke those
samples. The agent is **silent** with the last audible sample of what he was saying
(`tests.bench.turns.follow`), a fade's included; a reply that begins anew is another matter. **Gone
for good** is what nobody can hear, as long as he is paused first: it is when the bridge decided,
by its own account (`dropped`), and never before the last sample that was heard.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from bridge.engines.cascade import CascadeSettings
from tests.bench.turns.calls import Held
from tests.bench.turns.follow import Reference, Stretch, follow
from tests.bench.turns.phones import Said
from tests.lab.capture import RATE
from tests.lab.speech import regions
from tests.lab.tones import without_waits

LATE_S = 1.5
"""An interruption that isn't taken this long after its end has been missed."""
RESUME_S = 2.5
"""A false one's agent goes on this long after its end at the latest."""
CLEAN_MS = 40.0
"""More of the agent's speech than this lost or repeated is a syllable."""
LEAD_MS = 10.0
"""Silence before the first audible sample of a sentence (`piper_process.LEAD_S`)."""
_SLOP_S = 0.03


@dataclass(frozen=True)
class Judged:
    """One clip of a call. Times in ms; None where it did not happen or can't be told."""

    said: Said
    wrong: str = ""
    void: str = ""
    """Why the clip says nothing: it met no agent who spoke."""
    paused_ms: float | None = None
    gone_ms: float | None = None
    heard_error_ms: float | None = None
    resumed: bool | None = None
    lost_ms: float = 0.0
    repeated_ms: float = 0.0
    voice_to_voice_ms: float | None = None


@dataclass
class _Track:
    """A call of the talker, followed."""

    held: Held
    reference: Reference
    stretches: list[Stretch] = field(init=False)

    def __post_init__(self) -> None:
        self.stretches = follow(without_waits(self.held.received.pcm), self.reference)
        time = self.held.received.time
        self.times = [(time(s.heard[0]), time(s.heard[1] - 1)) for s in self.stretches]

    def voice(self, said: Said) -> tuple[float, float]:
        """When the clip's voice, or noise, began and ended."""
        clip = said.clip
        first, last = (clip.onset_ms, clip.end_ms) if clip.speech else (0.0, clip.length_ms)
        return tuple(  # type: ignore[return-value]
            self.held.spoken_at(said.at + round(ms * RATE / 1000)) for ms in (first, last)
        )

    def at(self, moment: float) -> int | None:
        """Which stretch is being heard then."""
        for n, (begin, end) in enumerate(self.times):
            if begin <= moment + _SLOP_S and moment <= end:
                return n
        return None


def reference(held: Held) -> Reference:
    """From a call in which nobody disturbed the agent."""
    return Reference(held.received.pcm)


def interruptions(held: Held, text: Reference) -> list[Judged]:
    """Judge a call of interruptions."""
    track = _Track(held, text)
    return [_interruption(track, said) for said in held.phone.said if _counts(said)]


def _interruption(track: _Track, said: Said) -> Judged:
    onset, end = track.voice(said)
    n = track.at(onset)
    if n is None or track.stretches[n].how == "other":
        return Judged(said, void="the agent wasn't speaking")
    n, paused = _pauses(track, n, end + LATE_S)
    paused_ms = (paused - onset) * 1000
    goes_on = n + 1 < len(track.stretches) and track.stretches[n + 1].how == "on"
    if track.times[n][1] > end + LATE_S or goes_on:
        return Judged(said, "missed", paused_ms=paused_ms if not goes_on else None)
    decided = _decided(track.held, onset)
    gone = None if decided is None else (max(decided, paused) - onset) * 1000
    return Judged(said, paused_ms=paused_ms, gone_ms=gone, heard_error_ms=_heard(track, n))


def _pauses(track: _Track, n: int, until: float) -> tuple[int, float]:
    """Follow pauses that were refuted, in one interruption of several words: the last one, and when
    the first began."""
    first = track.times[n][1]
    while n + 1 < len(track.stretches) and track.stretches[n + 1].how == "on":
        if track.times[n + 1][0] > until:
            break
        n += 1
    return n, first


def false_ones(held: Held, text: Reference) -> list[Judged]:
    """Judge a call of coughs and the like."""
    track = _Track(held, text)
    return [_false(track, said) for said in held.phone.said if _counts(said)]


def _false(track: _Track, said: Said) -> Judged:
    begin, end = track.voice(said)
    n = track.at(begin)
    if n is None or track.stretches[n].how == "other":
        return Judged(said, void="the agent wasn't speaking")
    stopped: list[Stretch] = []
    while track.times[n][1] < end + 0.5:
        if track.stretches[n].at[1] >= len(track.reference.pcm) - RATE // 2:
            return Judged(said, void="the agent had said all")
        if n + 1 == len(track.stretches) or track.stretches[n + 1].how != "on":
            return Judged(said, "cut", paused_ms=(track.times[n][1] - begin) * 1000)
        if track.times[n + 1][0] > end + RESUME_S:
            return Judged(said, "resumed late")
        n += 1
        stopped.append(track.stretches[n])
    if not stopped:
        return Judged(said)
    lost, repeated = (max(getattr(s, key) for s in stopped) for key in ("lost_ms", "repeated_ms"))
    clean = max(lost, repeated) <= CLEAN_MS
    return Judged(said, resumed=clean, lost_ms=lost, repeated_ms=repeated)


def keys(held: Held, text: Reference) -> list[float]:
    """From the moment a key was let go, of which the PBX tells at once, until the agent is silent,
    ms; of each key that met an agent who spoke."""
    track = _Track(held, text)
    found = [(key.at, track.at(key.at)) for key in held.phone.keys]
    return [(track.times[n][1] - at) * 1000 for at, n in found if n is not None]


def greeting(held: Held) -> float | None:
    """From the first packet that the caller gets, silence though it be, to the agent's first
    sample, ms."""
    begins = _begins(held)
    return (begins[0] - float(held.received.at.min())) * 1000 if begins else None


def questions(held: Held) -> list[Judged]:
    """Judge a call of questions: voice to voice."""
    spoken = [s for s in held.phone.said if s.clip.kind == "question"]
    agent = _begins(held)
    out = []
    for said, following in zip(spoken, [*spoken[1:], None], strict=True):
        end = held.spoken_at(said.at + round(said.clip.end_ms * RATE / 1000))
        begin = held.spoken_at(said.at)
        until = held.spoken_at(following.at) if following else float("inf")
        first = next((t for t in agent if begin < t < until), None)
        if first is None:
            out.append(Judged(said, "no answer"))
        else:
            out.append(Judged(said, voice_to_voice_ms=(first - end) * 1000))
    return out


def sentences(held: Held) -> list[Judged]:
    """Judge a call of sentences with pauses: whether the agent spoke inside one."""
    spoken = [s for s in held.phone.said if s.clip.kind == "paused"]
    agent = _begins(held)
    out = []
    for said, following in zip(spoken, [*spoken[1:], None], strict=True):
        places = [said.at + round(x * RATE / 1000) for span in said.clip.speech for x in span]
        begin, end = held.spoken_at(places[0]), held.spoken_at(places[-1])
        until = held.spoken_at(following.at) if following else float("inf")
        first = next((t for t in agent if begin < t < until), None)
        if first is None:
            out.append(Judged(said, "no answer"))
        elif first < end:
            out.append(Judged(said, "ended inside"))
        else:
            out.append(Judged(said, voice_to_voice_ms=(first - end) * 1000))
    return out


def _begins(held: Held) -> list[float]:
    """When the agent began to speak; a sound that bridges a wait is no speech."""
    return [held.received.time(r.start) for r in regions(without_waits(held.received.pcm))]


def _counts(said: Said) -> bool:
    """What a caller said to get the agent talking again is no part of the bench."""
    return said.clip.kind in ("interruption", "false")


def _decided(held: Held, onset: float) -> float | None:
    """When the bridge dropped what it was saying: the first decision after the onset."""
    stamps = [turn.get("at_s", {}) for turn in json.loads(held.record.get("latency") or "[]")]
    times = [own["dropped"] + held.clock for own in stamps if "dropped" in own]
    return next((t for t in sorted(times) if onset - _SLOP_S < t < onset + 8.0), None)


def _heard(track: _Track, n: int) -> float | None:
    """How far the session's account of a reply that was cut is from the capture, ms.

    The capture can't tell a place within a silence from another one in it: between them the account
    is right.
    """
    first = n
    while first and track.stretches[first].how == "on":
        first -= 1
    began, ended = track.times[first][0], track.times[n][1]
    # An item is told once it is over: before the next reply begins, after this one did.
    later = zip(track.stretches[n + 1 :], track.times[n + 1 :], strict=True)
    until = min([ended + 2.0, *(begin for s, (begin, _) in later if s.how == "start")])
    items = [
        float(line["heard_ms"])
        for line in track.held.lines
        if line["role"] == "agent" and line.get("heard_ms") and began < float(line["at"]) < until
    ]
    # A pause between two sentences belongs to neither.
    told = sum(items) + CascadeSettings.sentence_gap_ms * max(len(items) - 1, 0)
    least = track.stretches[n].at[1] * 1000 / RATE + LEAD_MS
    silence = track.reference.loud[track.stretches[n].at[1] // 80 + 1 :]
    quiet = next((k for k, loud in enumerate(silence) if loud), 0)
    return max(0.0, told - least - 10 * quiet, least - told)


def of(judged: Sequence[Judged], name: str) -> list[float]:
    """The values of a field that are known."""
    return [value for j in judged if (value := getattr(j, name)) is not None]
