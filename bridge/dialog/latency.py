"""How long a turn took, and where: one record a turn, all stamps from one monotonic clock.

Stamps are seconds of that clock, given by whoever sees the thing happen; what didn't happen stays
None (a reply that was interrupted has no first packet). The caller's own time is milliseconds of
his audio: `AudioClock` maps it to the clock, so that "last voice" is the end of his last frame of
speech and not the moment, a hangover later, at which a detector was sure of it.

    media_in   last voice → its frame reached the worker
    silence    ... → the turn was decided to be over (the hangover)
    stt        transcription begun → words known
    llm        words known → first token of the answer
    tts        first token → first audio of it
    media_out  audio there and turn decided → first packet of it sent

STT, LLM and TTS mostly run during the silence (the turn is prepared at the eager end). So there are
two views: `own`, how long each stage took by itself, and `path`, what each added to what the caller
waited, which sums up to voice to voice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

STAGES = ("media_in", "silence", "stt", "llm", "tts", "media_out")
"""In the order of their ends."""

_STAMPS = (
    "last_voice",
    "received",
    "eager",
    "decided",
    "heard",
    "transcript",
    "first_token",
    "first_audio",
    "first_packet",
    "onset",
    "paused",
    "resumed",
    "dropped",
)

_NAMES = {
    "media_in": "media in",
    "silence": "silence",
    "stt": "STT",
    "llm": "LLM",
    "tts": "TTS",
    "media_out": "media out",
}


class AudioClock:
    """Maps a call's audio time to the monotonic clock.

    A frame can't come before it was spoken, so the earliest of the late arrivals, relative to its
    own time, says what the line takes at least; the rest is what the network and the machine held
    it up. The last `KEEP` deliveries count (a clock on the other side may drift).
    """

    KEEP = 250

    def __init__(self) -> None:
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=self.KEEP)

    def arrived(self, end_ms: int, now: float) -> None:
        """Audio up to `end_ms` has come at `now` (seconds of the monotonic clock)."""
        self._arrivals.append((end_ms, now))  # fifty times a second; the rest when it is asked

    def at(self, ms: float) -> float | None:
        """When that moment of the audio was (seconds); None before anything has come."""
        if not self._arrivals:
            return None
        return min(now - end_ms / 1000 for end_ms, now in self._arrivals) + ms / 1000

    def came(self, ms: int) -> float | None:
        """When it had come here (seconds); None if it hasn't."""
        return next((now for end_ms, now in self._arrivals if end_ms >= ms), None)


@dataclass(slots=True)
class TurnLatency:
    """One turn's stamps, seconds of the monotonic clock."""

    turn: int
    last_voice: float | None = None
    """The caller's last frame of speech ended."""
    received: float | None = None
    """That frame reached the worker."""
    eager: float | None = None
    """The turn was eagerly taken for over."""
    decided: float | None = None
    """The turn was committed."""
    heard: float | None = None
    """The transcription began whose words were answered."""
    transcript: float | None = None
    """Those words were known."""
    first_token: float | None = None
    first_audio: float | None = None
    """Of the answer, from the text to speech."""
    first_packet: float | None = None
    """Of the answer's speech, fillers not counted, sent."""
    onset: float | None = None
    """The caller began to speak against the agent."""
    paused: float | None = None
    """The agent fell silent for the moment."""
    dropped: float | None = None
    """The agent fell silent for good; None: it was a false alarm."""
    resumed: float | None = None
    """It went on where it had paused."""
    extra: dict[str, float] = field(default_factory=dict)
    """What else is worth keeping, ms by name."""

    @property
    def voice_to_voice_ms(self) -> float | None:
        """From the caller's last voice to the first packet of the answer."""
        return _ms(self.last_voice, self.first_packet)

    def own(self) -> dict[str, float]:
        """How long each stage took by itself, ms; without those that aren't known."""
        given = _latest(self.first_audio, self.decided)
        spans = {
            "media_in": _ms(self.last_voice, self.received),
            "silence": _ms(self.received, self.decided),
            "stt": _ms(self.heard, self.transcript),
            "llm": _ms(self.transcript, self.first_token),
            "tts": _ms(self.first_token, self.first_audio),
            "media_out": _ms(given, self.first_packet),
        }
        return {name: max(0.0, ms) for name, ms in spans.items() if ms is not None}

    def path(self) -> dict[str, float]:
        """What each stage added to the caller's waiting, ms; sums up to voice to voice.

        Empty as long as voice to voice isn't known. A stage whose end isn't known added nothing.
        """
        if self.last_voice is None or self.first_packet is None:
            return {}
        ends = (
            self.received,
            self.decided,
            self.transcript,
            self.first_token,
            self.first_audio,
            self.first_packet,
        )
        found, at = {}, self.last_voice
        for name, end in zip(STAGES, ends, strict=True):
            then = at if end is None else min(max(at, end), self.first_packet)
            found[name] = (then - at) * 1000
            at = then
        return found

    def interruption(self) -> dict[str, float]:
        """From the onset of an interruption to the agent's silence, ms; what is known of it."""
        spans = {n: _ms(self.onset, getattr(self, n)) for n in ("paused", "resumed", "dropped")}
        return {name: ms for name, ms in spans.items() if ms is not None}

    def line(self) -> str:
        """One line for the log; "" if there is nothing to say."""
        parts = []
        if self.voice_to_voice_ms is not None:
            own, path = self.own(), self.path()
            stages = [f"{_NAMES[s]} {path[s]:.0f}{_own(own.get(s), path[s])}" for s in STAGES]
            parts.append(f"voice to voice {self.voice_to_voice_ms:.0f} ms: {', '.join(stages)}")
        cut = [f"{name} after {ms:.0f} ms" for name, ms in self.interruption().items()]
        if cut:
            parts.append(f"interruption: {', '.join(cut)}")
        return f"turn {self.turn}: {'; '.join(parts)}" if parts else ""

    def record(self) -> dict[str, object]:
        """For the session: milliseconds, rounded, and under `at_s` the stamps themselves."""
        at_s = {n: getattr(self, n) for n in _STAMPS}
        found: dict[str, object] = {"turn": self.turn}
        found["at_s"] = {name: round(at, 3) for name, at in at_s.items() if at is not None}
        if self.voice_to_voice_ms is not None:
            found["voice_to_voice_ms"] = round(self.voice_to_voice_ms, 1)
            found["path_ms"] = _rounded(self.path())
        if own := self.own():
            found["own_ms"] = _rounded(own)
        if cut := self.interruption():
            found["interruption_ms"] = _rounded(cut)
        if self.extra:
            found["extra_ms"] = _rounded(self.extra)
        return found


def _ms(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else (end - start) * 1000


def _latest(*stamps: float | None) -> float | None:
    return max((s for s in stamps if s is not None), default=None)


def _own(own: float | None, path: float) -> str:
    """A stage's own time, where it ran aside of what the caller waited for."""
    return "" if own is None or abs(own - path) < 0.5 else f" (took {own:.0f})"


def _rounded(spans: dict[str, float]) -> dict[str, float]:
    return {name: round(ms, 1) for name, ms in spans.items()}
